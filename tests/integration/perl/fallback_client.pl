#!/usr/bin/perl
# A Perl client asks a server twice, once by another that passes its calls on: one line of "ok" or
# "not ok" for each answer, "ok" if it is the same to the last flag.
# usage: fallback_client.pl URL OTHER_URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCClient;
use Storable qw(nfreeze);
$Storable::canonical = 1;
$| = 1;

my @rpc = map { RPCClient->new($_) } @ARGV;
my ($direct, $passed_on) = @rpc;

sub check { my ($name, $ok) = @_; print $ok ? "ok $name\n" : "not ok $name\n" }

sub frozen { return unpack 'H*', nfreeze([@_]) }

sub same {    # asks both
    my ($name, @call) = @_;
    my ($one, $two) = map { frozen($_->ask(@call)) } @rpc;
    check($name, $one eq $two);
    print "# $one\n# $two\n" if $one ne $two;
    return $one;
}

sub upgraded { my ($text) = @_; utf8::upgrade($text); return $text }

my ($list, $text, $hash) = ([1, 2], 'shared', { a => 1 });
my %values = (
    nothing => [],
    undef   => [undef, '', 0, '0', !!1, !!0],
    numbers => [1, -129, '1', 1.0, '1.0', 0.1, 1e300, 2**31, 2**40, 2**53 + 2, 18446744073709551615, -0.0, 9**9**9],
    strings => ["caf\xe9", upgraded("caf\xe9"), upgraded('ascii'), 'ascii', "\x{263a}", "\xc3\xa9"],
    binary  => [join('', map { chr } 0 .. 255), upgraded(join '', map { chr } 0 .. 255)],
    large   => ['x' x 300_000, "\xff" x 300_000, "\x{263a}" x 100_000, [1 .. 20_000]],
    keys    => [{ "caf\xe9" => 1, upgraded("caf\xe8") => 2, "\x{263a}" => 3, '' => 4, plain => 5 }],
    shared  => [\$text, \$text, [\$text], \\$text],
    objects => [bless({ list => $list, again => $list }, 'Some::Class'), bless([], 'Some::Class')],
    scalars => [bless(\(my $s = 1), 'Some::Class'), \undef, \1, \\'x', v1.2.3, \v1.2.3],
    deep    => [[[[{ a => [{ b => [undef] }] }]]]],
);
for my $name (sort keys %values) {
    my $seen = same("$name arrive", 'frozen', @{ $values{$name} });
    check("$name are seen", $seen ne frozen(''));
    same("$name come back", 'echo', @{ $values{$name} });
}
my @expressions = (
    'my $list = [1]; ($list, $list, [$list])',
    'my $text = "x"; (\$text, \$text, { a => \$text })',
    'map { $_, $_ } my $same = "x"',
    'my @holes; $holes[2] = 1; \@holes',
    'bless(\(my $scalar = 1), "A"), bless([bless {}, "A"], "B"), bless(\[], "B")',
    'qr/a+b/i, ${qr/x/}, [qr/\x{263a}/]',
    'upgraded("caf\xe9"), "caf\xe9", { upgraded("\xe9") => 1 }',
    '2**40, 0.1, 1/3, -0.0, 1e15, 9**9**9, undef, !!1, !!0',
    'do { my %locked = (a => 1); Hash::Util::lock_hash(%locked); \%locked }',
    'sub { @_ }->(my $id = 5, $id, \$id)',
    'error => "text"',
    'errors => ["one", upgraded("two\xe9")]',
    'error => "text", code => 3',
    'error => { code => 3 }, errors => []',
    'error => undef',
    '(error => "text") x 3',
);
for my $code (@expressions) {
    same("answer $code", 'evaluate', $code);
    my @told;
    for my $rpc (@rpc) {
        my $told;
        $rpc->ask('tell', $code, sub { $told = frozen(@_) });
        push @told, $told;
        $rpc->drain;
    }
    check("callback of $code", $told[0] eq $told[1]);
    print "# $told[0]\n# $told[1]\n" if $told[0] ne $told[1];
}

same('error', 'refuse', 'not today');
same('an error in Latin-1', 'refuse', "caf\xe9");
same('errors', 'refuses', 'not today', "nor tomorrow \x{263a}");
same('an unknown procedure', 'no_such_procedure', 1);
same('a name that is none', '__init__');
same('an empty name', '');
same('a name in UTF-8', "\x{263a}");
check('what is ported', frozen($passed_on->ask('ported', 1)) eq frozen('ported', 1));

# Callbacks in every place, told apart
my @names;
my %callback = map { my $name = $_; $name => sub { push @names, $name } } 1 .. 4;
my $object = { 3 => $callback{3} };
$passed_on->ask('keep', $callback{1});
$passed_on->ask('keep', $callback{2});
$passed_on->ask('tell', '1', $callback{4});
$passed_on->ask('fire');
$passed_on->ask('add_numbers', n1 => 1, n2 => 1);    # what was told before has come
check('callbacks are told apart', "@names" eq '4 1 2');

# Out of order, and many
my @order;
for my $number (1 .. 5) { $passed_on->call('hold', sub { push @order, $number }) }
$passed_on->ask('release');
check('answers come in any order', "@order" eq '5 4 3 2 1');
my $good = 0;
for my $number (1 .. 1000) {
    $passed_on->call('add_numbers', n1 => $number, n2 => 1, sub { $good++ if $_[1] == $number + 1 });
}
$passed_on->turn while $passed_on->has_requests;
check('1000 calls in flight', $good == 1000);
my $called = 0;
for my $number (1 .. 1000) {
    $passed_on->call('tell', $number, sub { $called++ if $_[0] == $number }, sub { });
}
$passed_on->turn while $passed_on->has_requests || $passed_on->has_coderefs > 2;
check('1000 callbacks in flight', $called == 1000);
print "done\n";
