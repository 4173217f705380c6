#!/usr/bin/perl
# A Perl client asks definitions_server.py what its procedures take and answer, in as many ways as
# clients ask: one line of "ok" or "not ok" for each check.
# usage: reflection_client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Data::Dumper;
use RPCPeer qw(connect_to send_packet read_packet);
$| = 1;
($Data::Dumper::Sortkeys, $Data::Dumper::Indent, $Data::Dumper::Terse) = (1, 1, 1);
$Data::Dumper::Deepcopy = 1;

my $sock = connect_to(shift);
my $id = 0;

sub methods {
    send_packet($sock, ++$id, 'methods', @_);
    my ($got, %reply) = @{ read_packet($sock) };
    die "id $id was sent, $got came back" if $got != $id;
    die $reply{error} if exists $reply{error};
    return $reply{methods};
}

sub check {
    my ($name, $got, $expected) = @_;
    my ($x, $y) = (Dumper($got), Dumper($expected));
    print $x eq $y ? "ok $name\n" : "not ok $name: got $x, expected $y\n";
}

my $note = {
    size  => 'integer64',
    ratio => 'float64',
    raw   => 'binary',
    what  => 'any',
};
my %expected = (
    add_numbers => {
        in  => { n1 => 'integer32', n2 => 'integer32' },
        out => { sum => 'integer32' },
    },
    get_id => {
        in  => {},
        out => { map { $_ => 'integer32:pos' } qw(uid gid euid egid) },
    },
    callback => {
        in  => { '01calls' => 'integer32', '02callback' => 'sub' },
        out => {},
    },
    notes => {
        in  => { '00text' => 'utf8string', '01author' => 'utf8string', '1ok' => 'boolean' },
        out => { items => [$note], list => [$note] },
    },
    who    => { map { $_ => { methods => 'latin1string' } } qw(in out) },
    broken => { in => { name => 'utf8string' }, out => {} },
    sum    => { in => { numbers => ['integer32'] }, out => {}, doc => 'Add up numbers.' },
    scale  => {
        in  => { point => { '*' => 'float64' }, by => 'float64', tags => ['binary'] },
        out => {},
    },
    echo => { in => { '*' => 'any' }, out => {} },
);
my %names = map { $_ => {} } keys %expected;

check('names', methods(), \%names);
check('no definitions wanted', methods(defs => 0), \%names);
for my $round (1, 2) {
    my $methods = methods(defs => 1);
    check('names of the definitions', [sort keys %$methods], [sort keys %expected]);
    check("definition $_", $methods->{$_}, $expected{$_}) for sort keys %expected;
}
# What Perl's definitions have no place for stands beside them.
my $more = methods(defs => 2);
check('scale in detail', delete $more->{scale}{order}, { in => [qw(point by tags)] });
for my $table ($more, \%expected) {
    $_ = { in => $_->{in}, out => $_->{out} } for values %$table;
}
check('definitions in detail', $more, \%expected);
print "done\n";
