# A client of the stores: calls each procedure, and prints what comes. It is never changed.
# usage: perl client.pl URL
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Wire;

my $rpc = Wire::Client->new(shift // die "usage: perl client.pl URL\n");

sub text {    # hashes in order of their keys, since Perl's own is never twice the same
    my ($value) = @_;
    return 'undef' if !defined $value;
    return "[@$value]" if ref $value eq 'ARRAY';
    return $value if !ref $value;
    return '{' . join(' ', map { "$_=$value->{$_}" } sort keys %$value) . '}';
}

sub show {
    my ($what, @values) = @_;
    @values = @values[0, 1] if @values && ($values[0] // '') eq 'error';    # the text is enough
    print "$what: ", join(' ', map { text($_) } @values), "\n";
}

sub ask {
    my ($name, @args) = @_;
    $rpc->call($name, @args, sub { show(join(' ', $name, map { text($_) } @args), @_) });
    $rpc->io while $rpc->has_requests;
}

ask('part', number => $_) for 98, 104, 999;
ask('stock');
ask('search', $_) for 'chain', '';
ask('price', number => 101, count => $_) for 3, 10;
ask('surplus', number => $_) for 98, 103;
ask('weigh', numbers => [98, 101, 104]);

my $calls = 0;
$rpc->call('stocktake', progress => sub { $calls++ }, sub { show('stocktake', @_, "$calls calls") });
$rpc->io while $rpc->has_requests || $rpc->has_coderefs;

$rpc->call('watch', sub { show('watch', @_) });
ask('take',    number => 101, count => 2);
ask('deliver', number => 101, count => 2);
ask('take', number => 103, count => 50);
ask('no_such_thing');
