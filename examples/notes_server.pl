# A board of notes. Clients add notes, look for words, wait for the next note, are told of each
# one, or have the output of a command put up.
use strict;
use warnings;
use IO::Buffered;
use IO::EventMux;
use RPC::Async::Server;

my $mux = IO::EventMux->new();
my $rpc = RPC::Async::Server->new($mux);
init_clients($rpc);
$rpc->set_limits(Outstanding => 100);

my (@notes, @parked, @followers, %imports);

while ($rpc->has_clients()) {
    $rpc->has_queued();    # runs what waits
    my $event = $rpc->io($mux->mux()) or next;
    my $import = $imports{ $event->{fh} or '' } or next;
    if ($event->{type} eq 'read') {
        add_note($import->{author}, $event->{data});
        $import->{count}++;
    } elsif ($event->{type} eq 'closed') {
        delete $imports{ $event->{fh} };
        $rpc->return($import->{caller}, count => $import->{count});
    }
}

sub add_note {
    my ($author, $text) = @_;
    push @notes, { author => $author, text => $text, stars => undef };
    @followers = grep { $_->alive } @followers;
    $_->call($author, $text) for @followers;
    $rpc->return($_, author => $author, text => $text) for splice @parked;
}

sub matching {
    my (@words) = @_;
    my @found = grep { my $note = $_; !grep { index($note->{text}, $_) < 0 } @words } @notes;
    return wantarray ? @found : scalar @found;
}

sub rpc_add { my ($caller, %args) = @_; add_note(@args{qw(author text)}); $rpc->return($caller) }

sub rpc_find { my ($caller, @words) = @_; $rpc->return($caller, map { $_->{text} } matching(@words)) }

sub rpc_count { my ($caller, @words) = @_; $rpc->return($caller, count => scalar matching(@words)) }

sub rpc_rate {
    my ($caller, %args) = @_;
    my $note = $notes[$args{number}];
    return $rpc->return($caller, error => "there is no note $args{number}") if !$note;
    $note->{stars} = ($args{stars} + ($note->{stars} || $args{stars})) / 2;
    $rpc->return($caller, stars => $note->{stars});
}

sub def_rate { $_[1] ? { number_1 => 'int', stars_2 => 'float' } : { stars => 'float' } }

sub rpc_next { my ($caller) = @_; push @parked, $caller }

sub rpc_follow {
    my ($caller, %args) = @_;
    push @followers, $args{callback};
    $rpc->return($caller, notes => [@notes]);
}

sub rpc_import {
    my ($caller, $author, @command) = @_;
    open my $pipe, '-|', @command or die "cannot run $command[0]: $!\n";
    $imports{$pipe} = { caller => $caller, author => $author, count => 0 };
    $mux->add($pipe, Buffered => IO::Buffered->new(Split => qr/\n/));
}

1;
