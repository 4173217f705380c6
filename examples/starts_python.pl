# A Perl client that starts a server in Python.
# usage: perl starts_python.pl [SERVER [ARGUMENT ...]]
use strict;
use warnings;
use IO::EventMux;
use RPC::Async::Client;

# What the child runs in the place of RPC::Async's own header: Python, with the same socket.
my $python = q{
    my ($fd, $file, @args) = @ARGV;
    shift @args if @args && index($args[0], 'RPCASYNC_FDS') >= 0;    # this text, in some releases
    $ENV{RPCASYNC_FDS} = $fd;           # where init_clients() finds its client
    $ENV{RPCASYNC_PARENT} = getppid;    # with whom the server ends, even if it hangs
    exec $ENV{PYTHON} || 'python3', $file, @args or die "cannot run Python: $!\n";
};

my ($server, @args) = @ARGV ? @ARGV : 'examples/add_server.py';
my $mux = IO::EventMux->new;
my $rpc = RPC::Async::Client->new($mux, "perlheader://$server", $python, @args);
$rpc->add_numbers(n1 => 2, n2 => 3, sub { my %reply = @_; print "sum=$reply{sum}\n" });
while ($rpc->has_requests || $rpc->has_coderefs) {
    $rpc->io($mux->mux);
}
$rpc->disconnect;    # the server ends, since its only client has gone
