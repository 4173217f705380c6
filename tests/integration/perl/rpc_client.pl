#!/usr/bin/perl
# A Perl client checks a server at a URL: one line of "ok" or "not ok" for each check.
# usage: rpc_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use RPCPeer qw(connect_to send_packet read_packet);
$| = 1;

my $url = shift;
my $id = 0;

sub call {
    my ($sock, @call) = @_;
    my $this = $id++;
    send_packet($sock, $this, @call);
    my $reply = read_packet($sock) or return ('eof');
    my ($got, @values) = @$reply;
    die "id $this was sent, $got came back" if $got ne $this;
    return @values;
}

sub same {
    my ($x, $y) = @_;
    return !defined $x && !defined $y if !defined $x || !defined $y;
    return 0 if ref $x ne ref $y;
    if (ref $x eq 'ARRAY') {
        return 0 if @$x != @$y;
        for (0 .. $#$x) { return 0 if !same($x->[$_], $y->[$_]) }
        return 1;
    }
    if (ref $x eq 'HASH') {
        return 0 if join("\0", sort keys %$x) ne join("\0", sort keys %$y);
        for (keys %$x) { return 0 if !same($x->{$_}, $y->{$_}) }
        return 1;
    }
    return same($$x, $$y) if ref $x eq 'SCALAR' || ref $x eq 'REF';
    return $x eq $y;
}

sub check {
    my ($name, $ok) = @_;
    print $ok ? "ok $name\n" : "not ok $name\n";
}

my $sock = connect_to($url);

my %sum = call($sock, 'add_numbers', n1 => 2, n2 => 3);
check('add_numbers', $sum{sum} == 5);
%sum = call($sock, 'add_numbers', n1 => "17", n2 => -20);
check('numbers as text', $sum{sum} == -3);
%sum = call($sock, 'add_floats', n1 => 0.5, n2 => 1 / 3);
check('floats', abs($sum{sum} - 0.5 - 1 / 3) < 1e-14);
my ($total) = call($sock, 'sum', 1 .. 10);
check('a list of values', $total == 55);

my @shared = (1, 2);
my %values = (
    integer     => 1234567,
    negative    => -2147483648,
    big         => 9007199254740993,
    unsigned    => 18446744073709551615,
    float       => 3.25,
    tiny        => 1e-300,
    undef       => undef,
    empty       => '',
    zero        => 0,
    list        => [1, [2, [3, undef, []]], 'x'],
    hash        => { a => 1, b => { c => [1, 2, { d => undef }] }, '' => 'empty' },
    latin1      => "caf\xe9",
    wide        => "\x{263a} \x{1F600}",
    wide_key    => { "\x{263a}" => 1, "caf\xe9" => 2, plain => 3 },
    binary      => join('', map { chr } 0 .. 255),
    octets      => "\xc3\xa9",
    megabyte    => 'x' x 1_000_000,
    mega_binary => "\xff\0" x 500_000,
    many        => [1 .. 20_000],
    scalar_ref  => \'text',
    shared      => [\@shared, \@shared],
);
for my $name (sort keys %values) {
    my (undef, $back) = call($sock, 'echo', value => $values{$name});
    check("echo $name", same($values{$name}, $back));
}

my $first = $id;
send_packet($sock, $id++, 'add_numbers', n1 => $_, n2 => 1) for 1 .. 1000;
my %got;
for (1 .. 1000) {
    my $reply = read_packet($sock) or last;
    $got{$reply->[0]} = $reply->[2];
}
check('1000 calls in flight', 1000 == grep { ($got{$first + $_ - 1} // 0) == $_ + 1 } 1 .. 1000);

my %error = call($sock, 'no_such_procedure');
check('unknown procedure', $error{error} eq "No sub 'no_such_procedure' in package 'main'");
check('unknown procedure, CPAN release', $error{errors}[0] eq $error{error});
%error = call($sock, '__init__');
check('dunder', $error{error} eq "No sub '__init__' in package 'main'");
%error = call($sock, 'add_numbers', n1 => 1);
check('missing argument', $error{error} eq 'add_numbers: n2 is missing');
%error = call($sock, 'add_numbers', n1 => 1, n2 => 'three');
check('bad argument', $error{error} eq "add_numbers: n2: cannot convert str 'three' to int");
%error = call($sock, 'refuse', why => 'not today');
check('fault', $error{error} eq 'not today');

my %methods = call($sock, 'methods');
check('methods', exists $methods{methods}{add_numbers} && exists $methods{methods}{echo});

my $other = connect_to($url);
send_packet($other, 900, 'add_numbers', n1 => 1, n2 => 1);
send_packet($sock,  901, 'add_numbers', n1 => 2, n2 => 2);
my ($a, $b) = (read_packet($sock), read_packet($other));
check('two clients', $a->[0] == 901 && $a->[2] == 4 && $b->[0] == 900 && $b->[2] == 2);

%error = call($other, 'explode');
check('a procedure that raises', $error{error} eq "explode: failed; see the server's log");
check('ends its client', !read_packet($other));
%sum = call($sock, 'add_numbers', n1 => 20, n2 => 3);
check('and no other', $sum{sum} == 23);
print "done\n";
