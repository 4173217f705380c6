"""What procedures take and answer, asked for by Perl, and by Python."""

import json
import shutil
import socket
import sys

import pytest
from support.programs import PERL, PROGRAMS, ROOT, listening, run
from support.quick import quick_first

from eventmux import EventMux
from rpcasync import Client, StorableCodec

SERVER = PROGRAMS / "definitions_server.py"
VECTORS = ROOT / "tests" / "data" / "storable" / "vectors.json"


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_a_perl_client_asks_for_definitions():
    with listening(SERVER) as (address, server):
        result = run("perl", PERL / "reflection_client.pl", address)
        server.wait_for_log("RuntimeError: cannot tell")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert len(lines) == 25  # 24 checks and "done"


PERL_SERVER = """
use IO::EventMux;
use RPC::Async::Server;

my $mux = IO::EventMux->new;
my $rpc = RPC::Async::Server->new($mux);
init_clients($rpc);
while ($rpc->has_clients) { $rpc->io($mux->mux) }

sub rpc_methods {
    my %numbers = map { $_ => 'integer32' } qw(n1 n2 n3 n4);
    my %about = (in => { %numbers, '00x' => 'any' }, out => { %numbers });
    my %methods = map { $_ => { %about } } 'a'..'d';
    $rpc->return($_[0], methods => \\%methods);
}
1;
"""


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
@pytest.mark.parametrize("seed", quick_first(["1", "2", "3"]))
def test_the_order_of_perls_hashes_does_not_show(tmp_path, seed):
    program = tmp_path / "server.pl"
    program.write_text(PERL_SERVER)
    environment = {"PERL_HASH_SEED": seed, "PERL5LIB": str(PERL / "standin")}
    for options, x, kind in (["--defs"], "x: any", "integer32"), ([], "x", "int"):
        command = [sys.executable, "-m", "rpcasync", "methods", *options, f"perl://{program}"]
        result = run(*command, env=environment)
        assert result.stderr == ""
        fields = ", ".join(f"n{number}: {kind}" for number in range(1, 5))
        assert result.stdout.splitlines() == [
            f"{name}({x}, {fields}) -> {fields}" for name in "abcd"
        ]


def test_python_clients_ask_for_definitions():
    replies = []
    with listening(SERVER) as (address, _), EventMux() as mux:
        for codec in ("storable", "json"):
            client = Client(mux, address, codec=codec)
            replies.append(client.methods(defs=True).result(30)["methods"])
            client.disconnect()
    assert replies[0] == replies[1]
    assert replies[0]["sum"] == {
        "in": {"numbers": ["integer32"]},
        "out": {},
        "doc": "Add up numbers.",
    }
    note = {"size": "integer64", "ratio": "float64", "raw": "binary", "what": "any"}
    assert replies[0]["notes"]["out"] == {"items": [note], "list": [note]}


def test_a_python_client_reads_what_a_perl_server_sent():
    """Perl puts one array under both names: the reply has a back reference."""
    vectors = json.loads(VECTORS.read_text())["vectors"]
    packets = {
        vector["name"]: bytes.fromhex(vector["hex"]) for vector in vectors if "hex" in vector
    }
    ours, server = socket.socketpair()
    with server, EventMux() as mux:
        client = Client(mux, ours, codec=StorableCodec(typed=False))
        for _ in range(4):
            client.hang()
        call = client.methods(defs=1)
        server.sendall(packets["pkt_methods_defs_reply"])
        methods = call.result(30)["methods"]
        sent = server.recv(65536)
        client.disconnect()
    assert sent.endswith(packets["pkt_methods_defs_call"])
    assert methods["add_numbers"]["in"] == {"n1": "integer32", "n2": "integer32"}
    notes = methods["notes"]["out"]
    assert notes["items"] is notes["list"]
    assert notes["items"] == [{"size": "integer64", "ratio": "float64", "name": "utf8string"}]
