#!/usr/bin/perl
# A Perl client drives each procedure of examples/conformance_server.py: one line of "ok" or
# "not ok" for each check.
# usage: conformance_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Data::Dumper;
use RPCClient;
$| = 1;
($Data::Dumper::Sortkeys, $Data::Dumper::Indent, $Data::Dumper::Terse) = (1, 0, 1);
($Data::Dumper::Deepcopy, $Data::Dumper::Useqq) = (1, 1);

my $url = shift;
my $rpc = RPCClient->new($url);

sub check {
    my ($name, $got, $expected) = @_;
    my ($x, $y) = (Dumper($got), Dumper($expected));
    print $x eq $y ? "ok $name\n" : "not ok $name: got $x, expected $y\n";
}

sub ask { my ($name, @args) = @_; my %reply = $rpc->ask($name, @args); return \%reply }

check('add_numbers', ask('add_numbers', n1 => 2, n2 => 3), { sum => 5 });
check('numbers that are text', ask('add_numbers', n1 => '40', n2 => '-2'), { sum => 38 });
check('sum', ask('sum', numbers => [1 .. 10, '45']), { sum => 100 });
check('sum of none', ask('sum', numbers => []), { sum => 0 });
check('get_id', ask('get_id'), { uid => $< + 0, euid => $> + 0, gid => "$(", egid => "$)" });

my @order;
$rpc->call(
    'callback',
    calls    => 3,
    callback => { key => [\sub { push @order, "called with @_" }] },
    sub { push @order, 'answered' },
);
check('a callback is held', $rpc->has_coderefs, 1);
$rpc->drain;
check('callback', \@order, ['answered', ('called with 3') x 3]);
check('and it is let go of', $rpc->has_coderefs, 0);

$rpc->call('callback', calls => 0, callback => { key => [\sub { push @order, 'no' }] }, sub { });
$rpc->drain;
check('a callback that is never called', [scalar @order, $rpc->has_coderefs], [4, 0]);

my %values = (
    array_of_int         => [1, -2, 300000],
    array_of_string      => ['x', '', "\x{263a}"],
    array_of_bool        => [0, 1],
    array_of_any         => [1, 'x', undef, [], {}],
    array_of_hash_any    => [{}, { a => undef }],
    array_of_hash_string => [{ keyname => 'text' }],
    complicated          => {
        results   => [{ name => 'Ann', age => 42, largeint => '9007199254740993' }],
        has_error => 1,
        error     => { errornum => 7, errorstr => 'seven' },
    },
);
check('complicated', ask('complicated', %values), \%values);
check('complicated, of nothing', ask('complicated'), {});

my $methods = ask('methods', defs => 1)->{methods};
check(
    'names of the procedures',
    [sort keys %$methods],
    [qw(add_numbers callback complicated die get_id hang sleep sum)],
);
my $two = { n1 => 'integer32', n2 => 'integer32' };
check('add_numbers is defined', $methods->{add_numbers},
    { in => $two, out => { sum => 'integer32' } });
check('sum is defined', $methods->{sum},
    { in => { numbers => ['integer32'] }, out => { sum => 'integer32' } });
check("$_ has no definition", $methods->{$_}{out}, {}) for qw(die hang sleep);
check('get_id is defined', $methods->{get_id},
    { in => {}, out => { map { $_ => 'integer32:pos' } qw(uid gid euid egid) } });
check('callback is defined', $methods->{callback},
    { in => { '01calls' => 'integer32', '02callback' => 'sub' }, out => {} });
my $complicated = $methods->{complicated}{in}{'07complicated'};
check('complicated is defined', [sort keys %{ $methods->{complicated}{in} }],
    [qw(01array_of_int 02array_of_string 03array_of_bool 04array_of_any 05array_of_hash_any
        06array_of_hash_string 07complicated)]);
check('its persons are, too', $complicated->{'01persons'},
    [{ name => 'utf8string', age => 'integer32', largeint => 'integer64' }]);

check('and its error', $complicated->{error}, { errornum => 'integer8', errorstr => 'utf8string' });
check('both names of the persons are answered',
    [sort keys %{ $methods->{complicated}{out}{complicated_07} }],
    [qw(error has_error persons results)]);

# A hundred sleep until one more has to wait for them; from then on, nobody does.
my (@woken, %queued);
for my $number (1 .. 200) {
    $rpc->call(
        'sleep',
        count => $number,
        sub { my %reply = @_; push @woken, $reply{count}; $queued{ $reply{queued} ? 1 : 0 }++ },
    );
}
$rpc->drain;
check('sleep, until there are more', \@woken, [1 .. 200]);
check('half of them were queued', \%queued, { 0 => 100, 1 => 100 });
check('and nobody sleeps any more', ask('sleep', count => 201), { count => 201, queued => 1 });

my $other = RPCClient->new($url);
$other->call('hang', sub { print "not ok hang: got an answer\n" });
check('hang', $other->hears_within(0.1), 0);
check('and others are served', ask('add_numbers', n1 => 1, n2 => 2), { sum => 3 });
my %died;
$other->call('die', sub { %died = @_ });
eval { $other->drain };
check('die is answered', $died{error}, "die: failed; see the server's log");
check('and ends its client', $@, "eof\n");
check('and no other', ask('add_numbers', n1 => 2, n2 => 2), { sum => 4 });
print "done\n";
