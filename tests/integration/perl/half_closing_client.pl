# A script that writes its calls, ends its side of the connection, and reads what comes.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Storable qw(nfreeze thaw);

my ($url) = @ARGV;
my $sock = $url =~ m{^unix://(.*)}
    ? IO::Socket::UNIX->new(Peer => $1)
    : IO::Socket::INET->new($url =~ m{^tcp://(.*)});
die "no connection: $!" unless $sock;

for my $call ([1, "add_numbers", n1 => 2, n2 => 3], [2, "later", 7], [3, "later", 8]) {
    my $image = nfreeze($call);
    print $sock pack("N", 4 + length $image) . $image;
}
$sock->flush;
$sock->shutdown(1);

local $/;
my $data = <$sock>;
while (length $data) {
    my ($length) = unpack "N", $data;
    print join(" ", @{thaw(substr $data, 4, $length - 4)}), "\n";
    substr($data, 0, $length) = "";
}
print "end\n";
