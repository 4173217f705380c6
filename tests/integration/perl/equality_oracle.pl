#!/usr/bin/perl
# Whether two scalars are equal in Perl. On stdin a Storable image of a list of pairs; for each, a
# line is printed: the answers, 0 or 1, of `eq`, of `==`, and of whether both print as one number.
use strict;
use warnings;
use Scalar::Util qw(looks_like_number);
use Storable qw(thaw);

binmode STDIN;
local $/;
for my $pair (@{ thaw(<STDIN>) }) {
    my ($one, $other) = @$pair;
    my $same = $one eq $other;
    my ($equal, $prints) = (0, 0);
    if (looks_like_number($one) && looks_like_number($other)) {
        ($equal, $prints) = ($one == $other, $one + 0 eq $other + 0);
    }
    print join(' ', map { $_ ? 1 : 0 } $same, $equal, $prints), "\n";
}
