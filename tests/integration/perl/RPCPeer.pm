package RPCPeer;
# The wire of RPC::Async 1.05 with core modules only: packets over a blocking socket, and functions
# in the arguments of calls, on both sides.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Scalar::Util qw(blessed refaddr weaken);
use Socket qw(SOCK_STREAM);
use Storable qw(nfreeze thaw);
use Exporter 'import';
our @EXPORT_OK = qw(
    connect_to listen_on send_packet read_packet unpack_packet
    map_leaves take_callbacks lose_callbacks count_callbacks
);

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

sub map_leaves {    # a copy, with what is neither array, hash nor reference to a reference mapped
    my ($map, $value) = @_;
    my $kind = ref $value;
    return [map { map_leaves($map, $_) } @$value] if $kind eq 'ARRAY';
    return { map { $_ => map_leaves($map, $value->{$_}) } keys %$value } if $kind eq 'HASH';
    return \map_leaves($map, $$value) if $kind eq 'REF';
    return $map->($value);
}

# A server's part: what came as a callback can be called

my %taken;    # weak references to those that are alive, by socket and then by address

sub take_callbacks {    # the arguments of a call, with the callbacks in them tied to its socket
    my ($sock, @args) = @_;
    my $take = sub {
        my ($value) = @_;
        return $value if (blessed($value) // '') ne 'RPC::Async::Coderef';
        my ($id, $address) = ($value->{id}, refaddr $value);
        $value->{call}    = sub { send_packet($sock, $id, 'call', @_) };
        $value->{destroy} = sub {
            delete $taken{$sock}{$address};
            eval { send_packet($sock, $id, 'destroy') };    # nobody may be there any more
        };
        weaken($taken{$sock}{$address} = $value);
        return $value;
    };
    return map { map_leaves($take, $_) } @args;
}

sub lose_callbacks {    # the client has gone: they are dead
    my ($sock) = @_;
    my $lost = delete $taken{$sock} || {};
    $_ && $_->kill for values %$lost;
}

sub count_callbacks {    # how many could be called
    my $count = 0;
    $count += keys %$_ for values %taken;
    return $count;
}

package RPC::Async::Coderef;
# A function in the arguments of a call: the class of the hash that stands for it on the wire.

sub new {
    my ($class, $id) = @_;
    return bless { id => $id, alive => 1, call => undef, destroy => undef }, $class;
}

sub id    { return $_[0]{id} }
sub alive { return $_[0]{alive} }
sub kill  { my ($self) = @_; @$self{qw(alive call destroy)} = (0, undef, undef) }

sub call {
    my ($self, @args) = @_;
    die "callback $self->{id} is dead\n" if !$self->{alive};
    $self->{call}->(@args);
}

sub DESTROY {
    my ($self) = @_;
    local $@;
    $self->{destroy}->() if $self->{destroy};
}

1;
