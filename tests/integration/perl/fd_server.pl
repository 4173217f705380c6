#!/usr/bin/perl
# A server of one client, whose socket it has inherited, with RPC::Async 1.05's manners.
# usage: fd_server.pl FD [deaf]     `deaf` ignores the end of the client, and SIGTERM
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IO::Socket::UNIX;
use RPCPeer qw(read_packet send_packet);
$| = 1;

my ($fd, $how) = (@ARGV, '');
my $sock = IO::Socket::UNIX->new_from_fd($fd, '+<') or die "descriptor $fd: $!\n";
$SIG{TERM} = sub { print "no\n" } if $how;

while (my $packet = read_packet($sock)) {
    my ($id, $name, @args) = @$packet;
    exit $args[0] if $name eq 'exit';
    if ($name eq 'say') { print STDOUT $args[0]; print STDERR $args[1] }
    send_packet($sock, $id, $name eq 'pid' ? $$ : @args);
}
print "the client has gone\n";
while ($how) { sleep 1 }
