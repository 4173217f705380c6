package Fuller;
# Gives the stand-ins what examples/notes_server.pl needs beyond them: callbacks, lines, and limits
# that limit nothing.
use strict;
use warnings;
use IO::EventMux;
use RPC::Async::Server;

$INC{'IO/Buffered.pm'} = __FILE__;
sub IO::Buffered::new { my ($class, %options) = @_; return bless {%options}, $class }

our $client;    # whose packets are read
my %lines;
my ($add, $read) = (\&IO::EventMux::add, \&IO::EventMux::_read);
my ($feed, $thaw) = (\&RPC::Async::Server::_feed, \&RPC::Async::Server::thaw);

{
    no warnings 'redefine';

    *IO::EventMux::add = sub {
        my ($self, $fh, %options) = @_;
        $lines{$fh} = '' if $options{Buffered};
        return $add->($self, $fh);
    };

    *IO::EventMux::_read = sub {    # one event for each line, where lines were asked for
        my ($self, $fh) = @_;
        my $event = $read->($self, $fh);
        return $event if !defined $lines{$fh} || $event->{type} ne 'read';
        $lines{$fh} .= $event->{data};
        my @events;
        push @events, { %$event, data => $1 } while $lines{$fh} =~ s/\A(.*?)\n//s;
        return @events;
    };

    *RPC::Async::Server::_feed = sub {
        my ($self, $fh, $data) = @_;
        local $client = [$self, $fh];
        return $feed->($self, $fh, $data);
    };

    *RPC::Async::Server::thaw = sub {
        my $list = $thaw->(@_);
        $_->{client} = $client for grep { ref eq 'RPC::Async::Coderef' } @$list;
        return $list;
    };
}

sub RPC::Async::Server::set_limits { }
sub RPC::Async::Server::has_queued { return 0 }

package RPC::Async::Coderef;

sub alive {
    my ($self) = @_;
    my ($rpc, $fh) = @{ $self->{client} };
    return exists $rpc->{buffers}{$fh};
}

sub call {
    my ($self, @args) = @_;
    my ($rpc, $fh) = @{ $self->{client} };
    return $rpc->return([$fh, $self->{id}], 'call', @args);
}

1;
