package IO::EventMux;
# Stands for the module of CPAN where it is not installed: streams only, and sending waits.
use strict;
use warnings;
use IO::Select;

sub new {
    my ($class) = @_;
    return bless { select => IO::Select->new, queue => [] }, $class;
}

sub add { my ($self, $fh) = @_; $self->{select}->add($fh); return }

sub handles { my ($self) = @_; return $self->{select}->handles }

sub send {
    my ($self, $fh, @data) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $bytes = join '', @data;
    while (length $bytes) {
        my $count = syswrite $fh, $bytes;
        return if !defined $count;    # the peer has gone: the end of the stream tells of it
        substr $bytes, 0, $count, '';
    }
    return;
}

sub kill {
    my ($self, $fh) = @_;
    $self->{select}->remove($fh);
    close $fh;
    return;
}

sub mux {    # the next event; undef if nothing is left to wait for
    my ($self) = @_;
    while (!@{ $self->{queue} }) {
        return if !$self->{select}->count;
        push @{ $self->{queue} }, map { $self->_read($_) } $self->{select}->can_read;
    }
    return shift @{ $self->{queue} };
}

sub _read {
    my ($self, $fh) = @_;
    if (sysread $fh, my $data, 65536) { return { type => 'read', fh => $fh, data => $data } }
    $self->kill($fh);
    return { type => 'closed', fh => $fh };
}

1;
