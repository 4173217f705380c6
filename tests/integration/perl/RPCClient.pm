package RPCClient;
# A client with RPC::Async 1.05's manners, over a blocking socket: answers and calls of its own
# functions are taken one packet at a time.
use strict;
use warnings;
use RPCPeer qw(connect_to send_packet read_packet map_leaves);

sub new {
    my ($class, $url) = @_;
    return bless { sock => connect_to($url), id => 0, requests => {}, coderefs => {} }, $class;
}

sub has_requests { return scalar keys %{ $_[0]{requests} } }
sub has_coderefs { return scalar keys %{ $_[0]{coderefs} } }

sub call {    # the last argument is what takes the answer
    my ($self, $procedure, @args) = @_;
    my $callback = pop @args;
    @args = map { map_leaves(sub { $self->_encode($_[0]) }, $_) } @args;
    my $id = $self->{id}++;
    $self->{requests}{$id} = $callback;
    send_packet($self->{sock}, $id, $procedure, @args);
    return $id;
}

sub _encode {
    my ($self, $value) = @_;
    return $value if ref $value ne 'CODE';
    my $id = $self->{id}++;
    $self->{coderefs}{$id} = $value;
    return RPC::Async::Coderef->new($id);
}

sub turn {    # waits for one packet and does what it says
    my ($self) = @_;
    my $packet = read_packet($self->{sock}) or die "eof\n";
    my ($id, @values) = @$packet;
    my $callback = delete $self->{requests}{$id};
    return $callback->(@values) if $callback;
    my $function = $self->{coderefs}{$id} or die "id $id is of nothing\n";
    my $word = shift @values;
    return $function->(@values) if $word eq 'call';
    die "callback $id is to do '$word'\n" if $word ne 'destroy';
    delete $self->{coderefs}{$id};
}

sub ask {    # the answer to one call; what else comes is done meanwhile
    my ($self, $procedure, @args) = @_;
    my $answer;
    $self->call($procedure, @args, sub { $answer = [@_] });
    $self->turn while !$answer;
    return @$answer;
}

sub drain { my ($self) = @_; $self->turn while $self->has_requests || $self->has_coderefs }

sub hears_within {    # true if something comes within the seconds
    my ($self, $seconds) = @_;
    vec(my $bits = '', fileno $self->{sock}, 1) = 1;
    return scalar select $bits, undef, undef, $seconds;
}

1;
