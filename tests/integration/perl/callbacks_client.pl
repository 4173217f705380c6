#!/usr/bin/perl
# A Perl client passes functions to the server at a URL, and asks what has become of them: one
# line of "ok" or "not ok" for each check.
# usage: callbacks_client.pl URL [CALLBACKS [gateway]]
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
$| = 1;

my $url = shift;
my $many = shift || 1000;
my $is_gateway = shift;
my $rpc = RPCClient->new($url);

sub check {
    my ($name, @got_and_expected) = @_;
    my ($got, $expected) = map { ref $_ ? join(' ', map { $_ // 'undef' } @$_) : $_ } @got_and_expected;
    print $got eq $expected ? "ok $name\n" : "not ok $name: got '$got', expected '$expected'\n";
}

sub ask { my ($name, @args) = @_; my %reply = $rpc->ask($name, @args); return \%reply }
sub alive { my $reply = ask('alive'); return [@$reply{qw(kept alive)}] }

# Nested, called after the answer, and gone
my @numbers;
$rpc->ask('callback', calls => 3, callback => { key => [\sub { push @numbers, @_ }] });
check('the answer comes first', "@numbers", '');
$rpc->drain;
check('a nested callback', \@numbers, [1, 2, 3]);
check('none is left', $rpc->has_coderefs, 0);
check('none is left there', alive(), [0, 0]);

my @values;
my $reply = ask('late', 0, '', undef, '0', 'x', [1], sub { @values = @_ });
check('a callback behind what is false', $reply->{count}, 6);
check('what it is called with', [@values[0 .. 4], @{ $values[5] }], [0, '', undef, '0', 'x', 1]);
$rpc->drain;

# Many
my $called = 0;
my $sum = 0;
for my $number (1 .. $many) {
    ask('keep', sub { $called++; $sum += $number * $_[0] });
}
check('all are here', $rpc->has_coderefs, $many);
check('all are there', alive(), [$many, $many]);
check('all are called', ask('fire', 2)->{fired}, $many);
check('each once', $called, $many);
check('each with the value', $sum, $many * ($many + 1));
check('half are dropped', ask('drop', count => $many / 2)->{left}, $many / 2);
$rpc->turn while $rpc->has_coderefs > $many / 2;
check('the others are called', ask('fire', 1)->{fired}, $many / 2);
check('and they alone', $called, $many + $many / 2);
ask('drop', count => $many);
$rpc->drain;
check('none of many is left', $rpc->has_coderefs, 0);
check('none of many is left there', alive(), [0, 0]);
for (1 .. $many) {
    $rpc->call('callback', calls => 1, callback => { key => [\sub { $called++ }] }, sub { });
}
$rpc->drain;
check('many at once', $called, 2 * $many + $many / 2);
check('none of those is left', alive(), [0, 0]);

# A client that goes takes its functions with it
my $other = RPCClient->new($url);
$other->ask('keep', (sub { }) x 10);
ask('keep', sub { $called++ });
check('eleven of two clients', alive(), [11, 11]);
$other->{sock}->close;
if ($is_gateway) {    # where others' functions live on, to be called in vain
    ask('drop', count => 10);
    ask('fire', 0);
}
my $tries = 0;
$tries++ while alive()->[1] > 1 && $tries < 10_000;
check('one is left when the other client has gone', alive(), [1, 1]);
check('it is called', ask('fire', 0)->{fired}, 1);
ask('drop', count => 100);
$rpc->drain;
check('the end', alive(), [0, 0]);
print "done\n";
