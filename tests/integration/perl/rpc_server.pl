#!/usr/bin/perl
# A Perl server for several clients at once, with RPC::Async 1.05's manners.
# usage: rpc_server.pl URL; prints the URL to connect to
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IO::Select;
use RPCPeer qw(listen_on send_packet unpack_packet);
$| = 1;
$SIG{PIPE} = 'IGNORE';

my ($listener, $url) = listen_on(shift);
print "$url\n";
my $select = IO::Select->new($listener);
my %buffer;
my %held;

my %procedures = (
    add_numbers => sub { my ($caller, %args) = @_; answer($caller, sum => $args{n1} + $args{n2}) },
    sum         => sub { my ($caller, @n) = @_; my $s = 0; $s += $_ for @n; answer($caller, $s) },
    echo        => sub { my ($caller, @args) = @_; answer($caller, @args) },
    describe    => sub { my ($caller, %args) = @_; answer($caller, kind => kind($args{value})) },
    values      => sub { my ($caller) = @_; answer($caller, perl_values()) },
    refuse      => sub { my ($caller, %args) = @_; answer($caller, error => $args{why}) },
    hold        => sub { my ($caller) = @_; push @{ $held{ $caller->[0] } }, $caller },
    release     => sub {
        my ($caller) = @_;
        answer($_, 'released', $_->[1]) for reverse @{ delete $held{ $caller->[0] } || [] };
        answer($caller, 'all');
    },
    explode => sub { die "on purpose\n" },
    garbage => sub { my ($caller) = @_; syswrite $caller->[0], "\0\0\0\x0aGARBAG" },
);

sub kind {
    my ($value) = @_;
    return 'undef' if !defined $value;
    return ref $value if ref $value;
    return sprintf '%s of %d', utf8::is_utf8($value) ? 'text' : 'bytes', length $value;
}

sub perl_values {
    my $shared = [1, 2];
    my $scalar = 'one';
    return (
        integer => -5, float => 0.1, big => 2**40, undef => undef, text => "\x{263a}",
        latin1 => "caf\xe9", list => [1, [2]], hash => { a => { b => 1 } },
        shared => [$shared, $shared], scalar_refs => [\$scalar, \$scalar],
        object => bless({ x => 1 }, 'Some::Class'), pattern => qr/a+b/i, true => !!1,
    );
}

sub answer { my ($caller, @values) = @_; send_packet($caller->[0], $caller->[1], @values) }

sub drop { my ($fh) = @_; $select->remove($fh); delete $buffer{$fh}; close $fh }

while (my @ready = $select->can_read) {
    for my $fh (@ready) {
        if ($fh == $listener) { $select->add(scalar $listener->accept); next }
        $buffer{$fh} //= '';
        if (!sysread $fh, $buffer{$fh}, 65536, length $buffer{$fh}) { drop($fh); next }
        while (my $packet = unpack_packet(\$buffer{$fh})) {
            my ($id, $name, @args) = @$packet;
            my $caller = [$fh, $id];
            my $procedure = $procedures{$name};
            if (!$procedure) { answer($caller, error => "No sub '$name' in package 'main'"); next }
            if (!eval { $procedure->($caller, @args); 1 }) { warn $@; drop($fh); last }
        }
    }
}
