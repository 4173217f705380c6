#!/usr/bin/perl
# A peer that speaks the dialect of RPC::Async 2.0: the length does not count itself, and what a
# server sends is wrapped.
# usage: dialect_peer.pl client FD VALUE...   calls `echo`, and prints what comes back
#        dialect_peer.pl server FD            answers one call, if it is one of 1.05
use strict;
use warnings;
use IO::Socket::UNIX;
use Storable qw(nfreeze thaw);
$| = 1;
$SIG{PIPE} = 'IGNORE';

my ($role, $fd, @values) = @ARGV;
my $sock = IO::Socket::UNIX->new_from_fd($fd, '+<') or die "descriptor $fd: $!\n";

sub read_exactly {
    my ($size) = @_;
    my $data = '';
    while (length $data < $size) {
        sysread($sock, $data, $size - length $data, length $data) or return;
    }
    return $data;
}

sub send_image {
    my $image = nfreeze([@_]);
    syswrite $sock, pack('N', length $image) . $image;
}

if ($role eq 'client') {
    send_image(1, 'echo', @values);
    my $length = read_exactly(4) // die "no answer\n";
    my ($id, $kind, $list) = @{ thaw(read_exactly(unpack 'N', $length)) };
    print "$id $kind @$list\n";
    print defined read_exactly(1) ? "and more\n" : "the end\n";
}
else {
    my $size = unpack 'N', read_exactly(4);
    my ($id, $name, @args) = @{ thaw(read_exactly($size - 4)) };
    send_image($id, $name eq 'die' ? ('die', ["on purpose at line 1.\n"]) : ('result', [@args]));
    read_exactly(1);
}
