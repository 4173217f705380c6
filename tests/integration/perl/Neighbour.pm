package Neighbour;
# What a program uses that lies beside it.
use strict;
use warnings;

sub name { return 'neighbour' }

1;
