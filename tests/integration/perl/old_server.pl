#!/usr/bin/perl
# The server that is to be replaced: says what it gets to the last flag, and answers what it is told.
# usage: old_server.pl URL; prints the URL to connect to.  Or it is started for a client.
use strict;
use warnings;
use FindBin;
use Hash::Util;
use lib $FindBin::Bin, '.';
use RPCPeer qw(count_callbacks send_packet);
use RPCServer qw(serve answer);
use Storable qw(nfreeze);
$Storable::canonical = 1;

my (%held, @kept);

sub upgraded { my ($text) = @_; utf8::upgrade($text); return $text }    # for `evaluate`

serve(
    shift,
    add_numbers => sub { my ($caller, %args) = @_; answer($caller, sum => $args{n1} + $args{n2}) },
    frozen      => sub { my ($caller, @args) = @_; answer($caller, unpack 'H*', nfreeze(\@args)) },
    echo        => sub { my ($caller, @args) = @_; answer($caller, @args) },
    evaluate    => sub { my ($caller, $code) = @_; no warnings; answer($caller, eval $code) },
    hold        => sub { my ($caller) = @_; push @{ $held{ $caller->[0] } }, $caller },
    release     => sub {
        my ($caller) = @_;
        answer($_, 'released') for reverse @{ delete $held{ $caller->[0] } || [] };
        answer($caller, 'all');
    },
    tell => sub {    # calls a function with what the code gives, then answers
        my ($caller, $code, $callback) = @_;
        no warnings;
        $callback->call(eval $code);
        answer($caller);
    },
    keep    => sub { my ($caller, @callbacks) = @_; push @kept, @callbacks; answer($caller, $$) },
    fire    => sub { my ($caller, @values) = @_; $_->call(@values) for @kept; answer($caller) },
    alive   => sub { my ($caller) = @_; answer($caller, count_callbacks()) },
    explode => sub { die "on purpose\n" },
    end     => sub { kill KILL => $$ },
    garbage => sub { my ($caller) = @_; syswrite $caller->[0], "\0\0\0\x0aGARBAG" },
    refuse  => sub { my ($caller, $why) = @_; answer($caller, error => $why) },
    refuses => sub { my ($caller, @why) = @_; answer($caller, errors => [@why]) },
    other_id => sub { my ($caller) = @_; send_packet($caller->[0], 4711, 'x'); answer($caller) },
);

1;
