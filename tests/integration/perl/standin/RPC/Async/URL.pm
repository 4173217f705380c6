package RPC::Async::URL;
# Stands for the module of CPAN where it is not installed: programs that are started with one end
# of a socketpair. Nobody's rights are dropped.
use strict;
use warnings;
use Fcntl qw(F_SETFD FD_CLOEXEC);
use File::Basename qw(fileparse);
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);
use Exporter 'import';
our @EXPORT = qw(url_connect url_disconnect);

my $load = <<'PERL';
my ($fd, $file) = splice @ARGV, 0, 2;
open my $sock, '+<&=', $fd or die "descriptor $fd: $!\n";
sub init_clients { my ($rpc) = @_; $rpc->add_client($sock); return $sock }
do "./$file" or die "$file: ", $@ || $! || 'it returns nothing true', "\n";
PERL

sub url_connect {    # the socket; in list context, the process and what it prints, too
    my ($url, @args) = @_;
    return $url if ref $url;
    my ($words, $path) = $url =~ m{^perl((?:root|2|header)*)://(.+)$} or die "Cannot parse $url\n";
    die "there is no $path\n" if !-e $path;
    # Like the original, it leaves the header in front of the arguments of the program, too.
    my $header = $words =~ /header/ ? $args[0] : $load;
    my ($ours, $theirs) = _pair();
    my @pipes = $words =~ /2/ ? map { [_pipe()] } 1 .. 2 : ();
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        close $ours;
        my @prints = (\*STDOUT, \*STDERR);
        for my $pipe (@pipes) { open shift @prints, '>&', $pipe->[1] or die "dup: $!" }
        my ($file, $folder) = fileparse($path);
        chdir $folder or die "$folder: $!";
        exec $^X, map({ "-I$_" } @INC), '-we', $header, fileno $theirs, $file, @args
            or die "$^X: $!\n";
    }
    fcntl $ours, F_SETFD, FD_CLOEXEC;
    return wantarray ? ($ours, $pid, map { $_->[0] } @pipes) : $ours;
}

sub _pair {    # inherited by what is executed meanwhile
    local $^F = 1024;
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
    return ($ours, $theirs);
}

sub _pipe { pipe my $reader, my $writer or die "pipe: $!"; return ($reader, $writer) }

sub url_disconnect { my ($fh, $pid) = @_; close $fh; waitpid $pid, 0 if $pid; return $? }

1;
