package RPCServer;
# A server for several clients at once, with RPC::Async 1.05's manners: their functions can be
# called until they are gone, and the last reference lost tells them so.
use strict;
use warnings;
use IO::Select;
use RPCPeer qw(listen_on send_packet unpack_packet take_callbacks lose_callbacks);
use Exporter 'import';
our @EXPORT_OK = qw(serve answer);

sub answer { my ($caller, @values) = @_; send_packet(@$caller[0, 1], @values) }

sub serve {    # prints the URL to connect to, and never ends; or serves who has started it
    my ($where, %procedures) = @_;
    $| = 1;
    local $SIG{PIPE} = 'IGNORE';
    my $select = IO::Select->new;
    my $listener;
    if (my $init_clients = main->can('init_clients')) {
        $init_clients->(my $clients = bless [], 'RPCServer::Clients');
        $select->add(@$clients);
    }
    else {
        ($listener, my $url) = listen_on($where);
        print "$url\n";
        $select->add($listener);
    }
    my %buffer;
    while ($select->count) {
        for my $fh ($select->can_read) {
            if ($listener && $fh == $listener) { $select->add(scalar $listener->accept); next }
            $buffer{$fh} //= '';
            my $alive = sysread $fh, $buffer{$fh}, 65536, length $buffer{$fh};
            while ($alive and my $packet = unpack_packet(\$buffer{$fh})) {
                $alive = eval { _run($fh, \%procedures, @$packet); 1 };
                warn $@ if !$alive;
            }
            next if $alive;
            $select->remove($fh);
            delete $buffer{$fh};
            lose_callbacks($fh);
            close $fh;
        }
    }
}

sub RPCServer::Clients::add_client { my ($self, $fh) = @_; push @$self, $fh }

sub _run {
    my ($fh, $procedures, $id, $name, @args) = @_;
    my $caller = [$fh, $id, $name];
    my $procedure = $procedures->{$name};
    return answer($caller, error => "No sub '$name' in package 'main'") if !$procedure;
    $procedure->($caller, take_callbacks($fh, @args));
}

1;
