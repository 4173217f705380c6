#!/usr/bin/perl
# A Perl client asks the server at a URL to be told when it drains, and calls it once more then.
# usage: goaway_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
$| = 1;

my $rpc = RPCClient->new(shift);
my $told = 0;
my @values = $rpc->ask('goaway', callback => sub { $told++ });
print scalar(@values), " values, told $told times\n";
$rpc->drain;
my %reply = $rpc->ask('add_numbers', n1 => 2, n2 => 3);
print "told $told times, keeps ", $rpc->has_coderefs, ", sum $reply{sum}\n";
