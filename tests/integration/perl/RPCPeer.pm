package RPCPeer;
# The wire of RPC::Async 1.05 with core modules only: packets over a blocking socket.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Storable qw(nfreeze thaw);
use Exporter 'import';
our @EXPORT_OK = qw(connect_to listen_on send_packet read_packet unpack_packet);

sub connect_to {
    my ($url) = @_;
    my $sock = $url =~ m{^tcp://([^:]+):(\d+)$}
        ? IO::Socket::INET->new(PeerAddr => $1, PeerPort => $2)
        : IO::Socket::UNIX->new(Peer => $url =~ s{^unix://}{}r, Type => SOCK_STREAM);
    return $sock || die "cannot connect to $url: $!";
}

sub listen_on {    # returns the socket and the URL that clients use
    my ($url) = @_;
    if ($url =~ m{^unix://(.+)}) {
        my $sock = IO::Socket::UNIX->new(Local => $1, Listen => 128, Type => SOCK_STREAM);
        return ($sock || die("cannot listen on $url: $!"), $url);
    }
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128)
        || die "cannot listen: $!";
    return ($sock, 'tcp://127.0.0.1:' . $sock->sockport);
}

sub send_packet {
    my ($sock, @list) = @_;
    my $image = nfreeze(\@list);
    my $bytes = pack('N', 4 + length $image) . $image;
    while (length $bytes) {
        my $n = syswrite $sock, $bytes;
        defined $n or die "write: $!";
        substr($bytes, 0, $n) = '';
    }
}

sub unpack_packet {    # takes one packet off the front of the string; undef if it is not whole
    my ($buffer) = @_;
    return if length $$buffer < 4;
    my $size = unpack 'N', $$buffer;
    return if length $$buffer < $size;
    my $packet = substr $$buffer, 0, $size, '';
    return thaw(substr $packet, 4);
}

my %rest;    # what was read behind the last packet, by socket

sub read_packet {    # waits for one packet; undef at the end of the stream
    my ($sock) = @_;
    my $buffer = \($rest{$sock} //= '');
    while (1) {
        my $list = unpack_packet($buffer);
        return $list if $list;
        sysread($sock, $$buffer, 65536, length $$buffer) or return;
    }
}

1;
