#!/usr/bin/perl
# A Perl client passes a function to a server at a URL, which may be a gateway to another, and
# prints what the function is called with until it is let go of.
# usage: gateway_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
$| = 1;

my $rpc = RPCClient->new(shift);
my %reply = $rpc->ask('keep', sub { print "called with @_\n" });
print exists $reply{error} ? "error: $reply{error}\n" : "kept $reply{count}\n";
$rpc->drain;
print "let go of\n";
