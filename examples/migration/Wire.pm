package Wire;
# Stands for RPC::Async 1.05 and IO::EventMux where they are not installed: its wire, with core
# modules only. A packet is four bytes, its length with these four, and a list that Storable has
# frozen: [id, procedure, arguments] or, back, [id, values].
use strict;
use warnings;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Storable qw(nfreeze thaw);

sub address {    # what IO::Socket is to make of a URL: its class, and the place
    my ($url, $tcp, $unix) = @_;
    return ('IO::Socket::UNIX', $unix => $1) if $url =~ m{^unix://(.+)$};
    return ('IO::Socket::INET', $tcp => $1, ReuseAddr => 1) if $url =~ m{^tcp://(.+:\d+)$};
    die "cannot parse URL $url\n";
}

sub write_list {    # nobody may be there any more, which is no matter
    my ($sock, @list) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $image = nfreeze(\@list);
    $sock->printflush(pack('N', 4 + length $image), $image) if $sock->opened;
}

sub read_lists {    # waits for bytes; false at the end, else a reference to the lists they complete
    my ($sock, $rest) = @_;
    sysread $sock, $$rest, 65536, length $$rest or return;
    my @lists;
    while (length $$rest >= 4 && length $$rest >= (my $size = unpack 'N', $$rest)) {
        die "packet of $size bytes\n" if $size < 5;
        push @lists, thaw(substr substr($$rest, 0, $size, ''), 4);
    }
    return \@lists;
}

package Wire::Server;    # has the methods of RPC::Async::Server; io() does the waiting, too

sub new { return bless { select => IO::Select->new, rest => {}, listening => {} } }

sub add_client { my ($self, $sock) = @_; $self->{select}->add($sock); $self->{rest}{$sock} = '' }

sub add_listener { my ($self, $sock) = @_; $self->{select}->add($sock); $self->{listening}{$sock} = 1 }

sub has_clients { my ($self) = @_; return $self->{select}->count }

sub return { my ($self, $caller, @values) = @_; Wire::write_list(@$caller[0, 1], @values) }

sub io {    # a procedure that dies takes its client with it, and no other
    my ($self) = @_;
    for my $sock ($self->{select}->can_read) {
        if ($self->{listening}{$sock}) { $self->add_client(scalar $sock->accept); next }
        next if eval { $self->_serve($sock) };
        warn $@ if $@;
        $self->{select}->remove($sock);
        delete $self->{rest}{$sock};
        close $sock;
    }
}

sub _serve {    # false when the client has gone
    my ($self, $sock) = @_;
    my $lists = Wire::read_lists($sock, \$self->{rest}{$sock}) or return;
    for my $list (@$lists) {
        my ($id, $name, @args) = @$list;
        $_->{sock} = $sock for grep { ref eq 'RPC::Async::Coderef' } @args;
        my $caller = [$sock, $id, $name];
        if (my $procedure = main->can("rpc_$name")) { $procedure->($caller, @args) }
        elsif ($name eq 'methods')                  { $self->_methods($caller, @args) }
        else { $self->return($caller, error => "No sub '$name' in package 'main'") }
    }
    return 1;
}

# The names of all procedures, with their definitions if the client wants them. As they are, so they
# have whole names of types in them: RPC::Async makes integer32 of int, and so on.
sub _methods {
    my ($self, $caller, %args) = @_;
    my %methods = map { $_ => {} } grep { main->can("rpc_$_") } map { /^rpc_(.+)/ } keys %main::;
    for my $name ($args{defs} ? keys %methods : ()) {
        my $define = main->can("def_$name") or next;
        $methods{$name} = { in => $define->($caller, 1), out => $define->($caller, 0) };
    }
    $self->return($caller, methods => \%methods);
}

package RPC::Async::Coderef;    # a function of the client's, among the arguments of a call

sub alive { my ($self) = @_; return $self->{sock}->opened }

sub call { my ($self, @args) = @_; Wire::write_list(@$self{qw(sock id)}, 'call', @args) }

sub DESTROY { my ($self) = @_; Wire::write_list(@$self{qw(sock id)}, 'destroy') if $self->{sock} }

package Wire::Client;    # has the methods of RPC::Async::Client; io() does the waiting, too

sub new {
    my ($class, $url) = @_;
    my ($kind, @place) = Wire::address($url, 'PeerAddr', 'Peer');
    my $sock = $kind->new(@place) or die "cannot connect to $url: $!\n";
    return bless { sock => $sock, rest => '', id => 0, requests => {}, coderefs => {} };
}

sub has_requests { return scalar keys %{ $_[0]{requests} } }
sub has_coderefs { return scalar keys %{ $_[0]{coderefs} } }

sub call {    # the last argument is what gets the answer
    my ($self, $name, @args) = @_;
    my $callback = pop @args;
    for my $arg (grep { ref eq 'CODE' } @args) {
        $self->{coderefs}{ ++$self->{id} } = $arg;
        $arg = bless { id => $self->{id}, alive => 1 }, 'RPC::Async::Coderef';
    }
    $self->{requests}{ ++$self->{id} } = $callback;
    Wire::write_list($self->{sock}, $self->{id}, $name, @args);
}

sub io {
    my ($self) = @_;
    my $lists = Wire::read_lists($self->{sock}, \$self->{rest}) or die "the server has gone\n";
    for my $list (@$lists) {
        my ($id, @values) = @$list;
        if (my $callback = delete $self->{requests}{$id}) { $callback->(@values) }
        elsif (shift @values eq 'call') { $self->{coderefs}{$id}->(@values) }
        else                            { delete $self->{coderefs}{$id} }
    }
}

1;
