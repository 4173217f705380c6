#!/usr/bin/perl
# A Perl server that tells of its procedures as RPC::Async 1.05 does: def_NAME says what rpc_NAME
# takes and answers, in short names, and `methods` expands them.
# usage: definitions_server.pl URL; prints the URL to connect to
#    or: perl://definitions_server.pl
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/standin";
use RPC::Async::Util qw(methods_of);

my $reply;    # what answers a call: return($caller, @values)

sub def_add_numbers { return $_[1] ? { n1 => 'int', n2 => 'int' } : { sum => 'int' } }
sub rpc_add_numbers {
    my ($caller, %args) = @_;
    my $sum = $args{n1} + $args{n2};
    $reply->($caller, sum => "$sum");    # as text
}

sub def_get_id { return $_[1] ? {} : { 'uid|euid' => 'int:pos' } }
sub rpc_get_id { my ($caller) = @_; $reply->($caller, uid => 7, euid => '8') }

sub def_people {
    return { least_1 => 'byte', name_2 => 'string', 'only|never_3' => 'bool' } if $_[1];
    my %person = (name => 'latin1', height => 'double', tags => ['str']);
    return { people => [ \%person ], more => 'boolean' };
}

sub rpc_people {
    my ($caller, %args) = @_;
    my @people = map { { name => $_, height => '1.75', tags => ['x', 5] } } $args{name}, "J\xe9";
    $reply->($caller, people => \@people, more => '');
}

sub def_notify { return $_[1] ? { callback_1 => 'sub', text_2 => 'utf8string' } : {} }
sub rpc_notify { my ($caller, %args) = @_; $args{callback}->call($args{text}); $reply->($caller) }

sub def_numbers { return $_[1] ? ['int'] : ['int'] }
sub rpc_numbers { my ($caller, @numbers) = @_; $reply->($caller, map { "$_" } @numbers) }

sub def_class { return $_[1] ? { 'class' => 'str', 'foo-bar' => 'int' } : { 'foo-bar' => 'int64' } }
sub rpc_class { my ($caller, %args) = @_; $reply->($caller, 'foo-bar' => "$args{'foo-bar'}") }

sub rpc_untold { my ($caller, @args) = @_; $reply->($caller, @args) }

{
    no strict 'refs';    # names that no sub can be written with
    *{'main::rpc_foo-bar'} = sub { my ($caller) = @_; $reply->($caller, dash => 1) };
    *{'main::def_foo-bar'} = sub { return $_[1] ? {} : { dash => 'bool' } };
}

if (@ARGV) {
    require RPCServer;
    $reply = \&RPCServer::answer;
    my $methods = sub { $reply->($_[0], methods => methods_of('main', @_)) };
    no strict 'refs';
    my %subs = map { /^rpc_(.*)/s ? ($1 => \&{"main::$_"}) : () } keys %main::;
    RPCServer::serve(shift, %subs, methods => $methods);
}
require IO::EventMux;
require RPC::Async::Server;
my $mux = IO::EventMux->new;
my $rpc = RPC::Async::Server->new($mux);
$reply = sub { $rpc->return(@_) };
init_clients($rpc);
while ($rpc->has_clients) { $rpc->io($mux->mux) }
1;
