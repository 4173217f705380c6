# The stores of a workshop that mends bicycles: which parts there are, and who waits for them. Ten
# procedures; the parts are in parts.tsv.
use strict;
use warnings;
use Wire;    # where RPC::Async is installed: IO::EventMux and RPC::Async::Server

my $rpc = Wire::Server->new;
my @columns = qw(number name quantity keep box weight price supplier);
my @waiting;    # calls of watch
init_clients($rpc);
$rpc->io while $rpc->has_clients;

sub read_parts {    # a hash, by number
    my %parts;
    open my $file, '<', 'parts.tsv' or die "parts.tsv: $!\n";
    while (<$file>) {
        chomp;
        my %part;
        @part{@columns} = split /\t/;    # a part without a supplier ends early: undef
        $parts{ $part{number} } = \%part if $. > 1;
    }
    return \%parts;
}

sub write_parts {
    my ($parts) = @_;
    open my $file, '>', 'parts.tsv.new' or die "parts.tsv.new: $!\n";
    print $file join("\t", @columns), "\n";
    for my $part (map { $parts->{$_} } sort { $a <=> $b } keys %$parts) {
        print $file join("\t", grep { defined } @$part{@columns}), "\n";
    }
    close $file or die "parts.tsv.new: $!\n";
    rename 'parts.tsv.new', 'parts.tsv' or die "parts.tsv: $!\n";
}

sub def_part {
    return { number => 'integer32' } if $_[1];
    return { qw(name utf8string quantity integer32 price float64 supplier utf8string) };
}

sub rpc_part {
    my ($caller, %args) = @_;
    my $part = read_parts->{ $args{number} };
    return $rpc->return($caller, error => "there is no part $args{number}") if !$part;
    $rpc->return($caller, map { $_ => $part->{$_} } qw(name quantity price supplier));
}

sub def_stock { return $_[1] ? {} : { stock => {} } }

sub rpc_stock {
    my ($caller) = @_;
    my $parts = read_parts;
    $rpc->return($caller, stock => { map { $_ => $parts->{$_}{quantity} } keys %$parts });
}

sub rpc_search {    # the numbers of all parts with these words in their names
    my ($caller, @words) = @_;
    my $parts = read_parts;
    for my $word (@words) {
        delete @$parts{ grep { index(lc $parts->{$_}{name}, lc $word) < 0 } keys %$parts };
    }
    $rpc->return($caller, sort { $a <=> $b } keys %$parts);
}

sub def_price { return $_[1] ? { qw(number integer32 count integer32) } : { total => 'float64' } }

sub rpc_price {    # a tenth less from ten on
    my ($caller, %args) = @_;
    my $part = read_parts->{ $args{number} };
    return $rpc->return($caller, error => "there is no part $args{number}") if !$part;
    my $total = $part->{price} * $args{count} * ($args{count} < 10 ? 1 : 0.9);
    $rpc->return($caller, total => sprintf '%.2f', $total);
}

sub def_surplus { return $_[1] ? { number => 'integer32' } : { boxes => 'integer32' } }

sub rpc_surplus {    # whole boxes beyond what is to be kept; below 0, how many are lacking
    my ($caller, %args) = @_;
    my $part = read_parts->{ $args{number} };
    return $rpc->return($caller, error => "there is no part $args{number}") if !$part;
    $rpc->return($caller, boxes => int(($part->{quantity} - $part->{keep}) / $part->{box}));
}

sub def_weigh { return $_[1] ? { numbers => ['integer32'] } : { weight => 'float64' } }

sub rpc_weigh {    # one of each
    my ($caller, %args) = @_;
    my $parts = read_parts;
    my $weight = 0;
    $weight += $parts->{$_}{weight} for grep { $parts->{$_} } @{ $args{numbers} };
    $rpc->return($caller, weight => $weight);
}

sub def_stocktake { return $_[1] ? { progress => 'sub' } : { value => 'float64' } }

sub rpc_stocktake {    # what all parts are worth; tells how far it is
    my ($caller, %args) = @_;
    my $parts = read_parts;
    my ($done, $value) = (0, 0);
    for my $part (values %$parts) {
        $value += $part->{quantity} * $part->{price};
        $args{progress}->call(done => ++$done, total => scalar keys %$parts) if $args{progress};
    }
    $rpc->return($caller, value => sprintf '%.2f', $value);
}

sub change {    # by so many; whoever waits for a change is told
    my ($caller, $number, $count) = @_;
    my $parts = read_parts;
    my $part  = $parts->{$number};
    return $rpc->return($caller, error => "there is no part $number") if !$part;
    if ($part->{quantity} + $count < 0) {
        return $rpc->return($caller, error => "only $part->{quantity} of part $number are left");
    }
    $part->{quantity} += $count;
    write_parts($parts);
    $rpc->return($caller, left => $part->{quantity});
    $rpc->return($_, number => $number, left => $part->{quantity}) for splice @waiting;
}

sub def_take { return $_[1] ? { qw(number integer32 count integer32) } : { left => 'integer32' } }

sub rpc_take { my ($caller, %args) = @_; change($caller, $args{number}, -$args{count}) }

sub def_deliver { return def_take(@_) }

sub rpc_deliver { my ($caller, %args) = @_; change($caller, $args{number}, $args{count}) }

sub def_watch { return $_[1] ? {} : { qw(number integer32 left integer32) } }

sub rpc_watch { my ($caller) = @_; push @waiting, $caller }    # answered with the next change

1;
