# A client of the server that has the other end of a descriptor. usage: child_client.pl FD
use strict;
use warnings;
use IO::EventMux;
use IO::Socket::UNIX;
use RPC::Async::Client;

my $sock = IO::Socket::UNIX->new_from_fd(shift, '+<') or die "no socket: $!";
my $mux  = IO::EventMux->new;
my $rpc  = RPC::Async::Client->new($mux, $sock);
$rpc->add_numbers(n1 => 2, n2 => 3, sub { my (%reply) = @_; print "sum=$reply{sum}\n" });
while ($rpc->has_requests) {
    $rpc->io($mux->mux);
}
$rpc->disconnect;
