#!/usr/bin/perl
# A Perl server that keeps functions of its clients and calls them: what callbacks_server.py does.
# usage: callbacks_server.pl URL; prints the URL to connect to.  Or it is started for a client.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, '.';
use RPCPeer qw(count_callbacks);
use RPCServer qw(serve answer);

my @kept;

serve(
    shift,
    keep => sub {
        my ($caller, @callbacks) = @_;
        push @kept, @callbacks;
        answer($caller, count => scalar @callbacks);
    },
    alive => sub {
        my ($caller) = @_;
        answer($caller, kept => scalar grep({ $_->alive } @kept), alive => count_callbacks());
    },
    fire => sub {
        my ($caller, @values) = @_;
        my @alive = grep { $_->alive } @kept;
        $_->call(@values) for @alive;
        answer($caller, fired => scalar @alive);
    },
    drop => sub {
        my ($caller, %args) = @_;
        splice @kept, 0, $args{count};
        answer($caller, left => scalar @kept);
    },
    callback => sub {
        my ($caller, %args) = @_;
        my $callback = ${ $args{callback}{key}[0] };
        answer($caller);
        $callback->call($_) for 1 .. $args{calls};
    },
    late => sub {    # behind values that are false
        my ($caller, @values) = @_;
        my $callback = pop @values;
        $callback->call(@values);
        answer($caller, count => scalar @values);
    },
);

1;
