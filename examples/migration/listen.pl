# Serves a program on a URL, as listen.pl of RPC::Async did.
# usage: perl listen.pl -u URL PROGRAM
#        URL: tcp://HOST:PORT or unix://PATH
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Wire;

my ($option, $url, $program) = @ARGV;
die "usage: perl listen.pl -u URL PROGRAM\n" if @ARGV != 3 || $option ne '-u';
my ($kind, @place) = Wire::address($url, 'LocalAddr', 'Local');
unlink $place[1] if -S $place[1];    # of the server before this one
my $listener = $kind->new(@place, Listen => 128) or die "cannot listen on $url: $!\n";

sub init_clients {
    my ($rpc) = @_;
    $rpc->add_listener($listener);
    warn "listen.pl: listening on $url\n";
}

-r $program or die "$program cannot be read: $!\n";
do "./$program" or die $@ || "$program did not return a true value: it must end with 1;\n";
