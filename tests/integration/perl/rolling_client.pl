#!/usr/bin/perl
# A Perl client calls without pause, until its stdin ends. It connects anew behind so many calls, or
# never if they are 0; and when the connection has ended, as a program does that is started anew.
# usage: rolling_client.pl URL CALLS
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
$| = 1;

my ($url, $most) = @ARGV;
my ($connections, $calls, $failed) = (0, 0, 0);
vec(my $stdin = '', 0, 1) = 1;
until (is_over()) {
    my $rpc = RPCClient->new($url);
    $connections++;
    print "busy\n" if $connections == 1;
    my $done = 0;
    while (!is_over() && !($most && $done == $most)) {
        my %reply = eval { $rpc->ask('add_numbers', n1 => 2, n2 => 3) };
        if ($@) { $failed++; last }
        die "no sum" if $reply{sum} != 5;
        $calls++;
        $done++;
    }
}
print "$connections connections, $calls calls, $failed failed\n";

sub is_over { return scalar select my $ready = $stdin, undef, undef, 0 }
