package RPC::Async::Client;
# Stands for the module of CPAN where it is not installed: calls without callbacks in arguments.
use strict;
use warnings;
use RPC::Async::URL;
use Storable qw(nfreeze thaw);
our $AUTOLOAD;

sub new {    # of a socket, or of the URL of a program that is started
    my ($class, $mux, $url, @args) = @_;
    my ($fh, $pid, @pipes) = url_connect($url, @args);
    $mux->add($fh);
    my $self = { mux => $mux, fh => $fh, pid => $pid, buffer => '', pending => {}, id => 0 };
    bless $self, $class;
    return wantarray ? ($self, $pid, @pipes) : $self;
}

sub call {
    my ($self, $name, @args) = @_;
    my $callback = pop @args;
    die "the last argument must be a callback\n" if ref $callback ne 'CODE';
    my $id = $self->{id}++;
    $self->{pending}{$id} = $callback;
    my $packet = nfreeze([$id, $name, @args]);
    $self->{mux}->send($self->{fh}, pack('N', 4 + length $packet), $packet);
    return $id;
}

sub AUTOLOAD {
    my ($self, @args) = @_;
    return $self->call($AUTOLOAD =~ s/.*:://r, @args);
}

sub DESTROY { }

sub has_requests { my ($self) = @_; return scalar %{ $self->{pending} } }

sub has_coderefs { return 0 }

sub disconnect {
    my ($self) = @_;
    $self->{mux}->kill($self->{fh});
    waitpid $self->{pid}, 0 if $self->{pid};
    return;
}

sub io {    # undef if the event was ours
    my ($self, $event) = @_;
    return $event if !defined $event->{fh} || $event->{fh} ne $self->{fh};
    die "the server has gone\n" if $event->{type} eq 'closed';
    my $buffer = \$self->{buffer};
    $$buffer .= $event->{data};
    while (length $$buffer >= 4 && length $$buffer >= (my $size = unpack 'N', $$buffer)) {
        my $packet = substr $$buffer, 0, $size, '';
        my ($id, @values) = @{ thaw(substr $packet, 4) };
        (delete $self->{pending}{$id})->(@values);
    }
    return;
}

1;
