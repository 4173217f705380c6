#!/usr/bin/perl
# Real Storable, for test_storable_perl.py.  One JSON list per line in, one out:
#   ["thaw", hex]    what the image holds, as a tree, and as what nfreeze makes of it again
#   ["number", hex]  the first element used as a number: the bytes of the double
#   ["freeze", tree] the image of a value built from a tree
#   ["eval", expr]   the image of what a Perl expression returns
# The answer is [1, result...] or [0, error].
#
# A tree is ["undef"], ["int", digits], ["num", text], ["str", [code points]],
# ["array", [trees]], ["hash", [[[code points], tree]...]], ["ref", tree] or
# ["bless", class, tree].  An array or hash stands for the reference to it.
use strict;
use warnings;
use B ();
use JSON::PP ();
use Scalar::Util qw(blessed reftype);
use Storable qw(nfreeze thaw);

$Storable::canonical = 1;
my $json = JSON::PP->new->ascii->max_depth(2000);

sub codes { [ map { ord } split //, $_[0] ] }
sub text  { join '', map { chr } @{ $_[0] } }

sub describe {    # the tree of one scalar
    my ($value) = @_;
    return ['undef'] unless defined $value;
    if (ref $value) {
        my $class = blessed $value;
        my $kind  = reftype $value;
        my $tree =
            $kind eq 'ARRAY' ? [ array => [ map { describe($_) } @$value ] ]
          : $kind eq 'HASH'  ? [ hash => [ map { [ codes($_), describe($value->{$_}) ] } sort keys %$value ] ]
          :                    [ ref => describe($$value) ];
        return defined $class ? [ bless => $class, $tree ] : $tree;
    }
    my $flags = B::svref_2object(\$value)->FLAGS;
    return [ int => "$value" ] if $flags & B::SVf_IOK and not $flags & B::SVf_POK;
    return [ str => codes($value) ];
}

sub build {       # the scalar of one tree
    my ($kind, @rest) = @{ $_[0] };
    return undef            if $kind eq 'undef';
    return 0 + $rest[0]     if $kind eq 'int' or $kind eq 'num';
    return text($rest[0])   if $kind eq 'str';
    return [ map { build($_) } @{ $rest[0] } ] if $kind eq 'array';
    return { map { text($_->[0]) => build($_->[1]) } @{ $rest[0] } } if $kind eq 'hash';
    if ($kind eq 'ref') { my $value = build($rest[0]); return \$value }
    return bless build($rest[1]), $rest[0] if $kind eq 'bless';
    die "no kind $kind";
}

sub thawed { thaw(pack 'H*', $_[0]) // die "thaw returned undef\n" }

my %answer = (
    thaw   => sub { my $value = thawed($_[0]); (describe($value), unpack 'H*', nfreeze($value)) },
    number => sub { unpack 'H*', pack 'd>', 0 + thawed($_[0])->[0] },
    freeze => sub { unpack 'H*', nfreeze(build($_[0])) },
    eval   => sub { my $value = eval $_[0]; die $@ if $@; unpack 'H*', nfreeze($value) },
);

$| = 1;
while (my $line = <STDIN>) {
    my ($what, $argument) = @{ $json->decode($line) };
    my @result = eval { $answer{$what}->($argument) };
    print $json->encode($@ ? [ 0, "$@" ] : [ 1, @result ]), "\n";
}
