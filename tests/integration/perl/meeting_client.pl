#!/usr/bin/perl
# A Perl client waits for somebody at a server, who comes, and for somebody who does not: one line
# for each answer.
# usage: meeting_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
$| = 1;

my $url = shift;
my ($ann, $bob) = (RPCClient->new($url), RPCClient->new($url));

sub show {
    my ($what, %reply) = @_;
    my @parts = map { "$_=" . (ref $reply{$_} ? "[@{$reply{$_}}]" : $reply{$_}) } sort keys %reply;
    print "$what: @parts\n";
}

show('enter', $ann->ask('enter', name => 'ann'));
my %found;
$ann->call('wait_for', name => 'bob', sub { %found = @_ });
show('enter', $bob->ask('enter', name => 'bob'));
$ann->turn while !%found;
show('wait_for bob', %found);
show('wait_for eve', $ann->ask('wait_for', name => 'eve'));
undef $bob;    # hangs up
my @present;
do { @present = $ann->ask('present') } while @present > 1;
print "present: @present\n";
