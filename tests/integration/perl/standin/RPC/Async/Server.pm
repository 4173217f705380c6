package RPC::Async::Server;
# Stands for the module of CPAN where it is not installed: what a small server needs of it.
use strict;
use warnings;
use RPC::Async::Util qw(methods_of);
use Storable qw(nfreeze thaw);

sub new {
    my ($class, $mux) = @_;
    return bless { mux => $mux, buffers => {} }, $class;
}

sub add_client {
    my ($self, $fh) = @_;
    $self->{buffers}{$fh} = '';
    $self->{mux}->add($fh);
    return;
}

sub has_clients { my ($self) = @_; return scalar %{ $self->{buffers} } }

sub return {
    my ($self, $caller, @values) = @_;
    my ($fh, $id) = @$caller;
    my $packet = nfreeze([$id, @values]);
    $self->{mux}->send($fh, pack('N', 4 + length $packet), $packet);
    return;
}

sub io {    # undef if the event was ours
    my ($self, $event) = @_;
    my $fh = $event->{fh};
    return $event if !defined $fh || !exists $self->{buffers}{$fh};
    if ($event->{type} eq 'closed') { delete $self->{buffers}{$fh} }
    if ($event->{type} eq 'read')   { $self->_feed($fh, $event->{data}) }
    return;
}

sub _feed {
    my ($self, $fh, $data) = @_;
    my $buffer = \$self->{buffers}{$fh};
    $$buffer .= $data;
    while (length $$buffer >= 4 && length $$buffer >= (my $size = unpack 'N', $$buffer)) {
        my $packet = substr $$buffer, 0, $size, '';
        my ($id, $name, @args) = @{ thaw(substr $packet, 4) };
        my $caller    = [$fh, $id, $name];
        my $procedure = main->can("rpc_$name");
        if ($procedure) { $procedure->($caller, @args) }
        elsif ($name eq 'methods') {
            $self->return($caller, methods => methods_of('main', $caller, @args));
        }
        else { $self->return($caller, error => "No sub '$name' in package 'main'") }
    }
    return;
}

1;
