package RPC::Async::Util;
# Stands for the module of CPAN where it is not installed: what a package has for clients, and what
# its def_* say, with the types written out, as release 1.05 writes them, its mistakes included.
use strict;
use warnings;
use Exporter 'import';
our @EXPORT_OK = qw(methods_of expand);

sub methods_of {
    my ($package, $caller, %args) = @_;
    no strict 'refs';
    my %methods;
    for my $name (map { /^rpc_(.*)/s ? $1 : () } keys %{"${package}::"}) {
        next if $name eq 'methods';    # which is no sub of the program there
        $methods{$name} = {};
        my $define = $package->can("def_$name");
        next if !$args{defs} || !$define;
        $methods{$name}{in}  = expand($define->($caller, 1), 1);
        $methods{$name}{out} = expand($define->($caller, 0), 0);
    }
    return \%methods;
}

sub expand {
    my ($value, $is_in) = @_;
    return [ map { expand($_, $is_in) } @$value ] if ref $value eq 'ARRAY';
    return _type($value) if ref $value ne 'HASH';
    my %table;
    for my $key (keys %$value) {
        $table{$_} = expand($value->{$key}, $is_in) for $is_in ? _keys($key) : split(/\|/, $key);
    }
    return \%table;
}

sub _keys {
    my ($key) = @_;
    return "$2$1" if $key =~ /^(.+)_(\d+)$/;
    my @names = split /\|/, $key;
    return @names == 1 ? @names : map { sprintf '%02d%s', $_, $names[$_] } 0 .. $#names;
}

sub _type {    # what is no short name in front gets its ending all the same
    my ($type) = @_;
    return 'float32' if $type eq '';
    my ($u, $name) = $type =~ /^(u?)(.*)/s;
    return "${u}integer8$1"  if $name =~ /^(?:int8|byte|char)(.*)/s;
    return "${u}integer16$1" if $name =~ /^(?:int16|short)(.*)/s;
    return "${u}integer64$1" if $name =~ /^int64(.*)/s;
    return "${u}integer32$1" if $name =~ /^(?:int32|int(?!eger\d)(?:eger)?|long)(.*)/s;
    return "latin1string$1"  if $type =~ /^latin1(.*)/s;
    return "utf8string$1"    if $type =~ /^(?:string|str|utf8)(.*)/s;
    return "float64$1"       if $type =~ /^(?:float64|double)(.*)/s;
    return "float32$1"       if $type =~ /^(?:float32|float)(.*)/s;
    return "boolean$1"       if $type =~ /^bool(.*)/s;
    return "binary$1"        if $type =~ /^(?:bin|data)(.*)/s;
    return $type;
}

1;
