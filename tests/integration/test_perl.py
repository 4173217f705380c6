"""Real Perl on the other end: a Perl client of a Python server, and the other way round."""

import shutil

import pytest
from support.programs import PERL, listening, perl_listening, run

from eventmux import EventMux
from rpcasync import Client, Disconnected, RemoteError
from rpcasync.storable import Blessed, ScalarRef

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


@pytest.fixture(params=["tcp", "unix"])
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/socket"


def test_perl_client_of_a_python_server(url):
    with listening(url=url) as (address, server):
        result = run("perl", PERL / "rpc_client.pl", address)
    lines = result.stdout.splitlines()
    assert result.stderr == ""
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert len(lines) == 38  # 37 checks and "done"
    assert "RuntimeError: on purpose" in server.log


@pytest.fixture
def client(url):
    with perl_listening(url) as address, EventMux() as mux:
        client = Client(mux, address)
        yield client
        client.disconnect()


def test_python_client_of_a_perl_server(client):
    assert client.add_numbers(n1=2, n2=3).result(10)["sum"] == 5
    assert client.add_numbers(n1=2.5, n2=-3).result(10)["sum"] == "-0.5"
    assert client.call("sum", 1, 2, 3).result(10) == (6,)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (1, 1),
        (-129, -129),
        (2**31, "2147483648"),
        (2**64 - 1, "18446744073709551615"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (None, None),
        (True, "1"),
        (False, "0"),
        ("", ""),
        ("caf\xe9", "caf\xe9"),
        ("\u263a\U0001f600", "\u263a\U0001f600"),
        (bytes(range(256)), bytes(range(256)).decode("latin-1")),
        ("x" * 1_000_000, "x" * 1_000_000),
        ([1, [2, [None, []]]], [1, [2, [None, []]]]),
        ({"a": {"\u263a": 1}, "": [1]}, {"a": {"\u263a": 1}, "": [1]}),
        (ScalarRef("x"), ScalarRef("x")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_through_a_perl_server(client, value, back):
    assert client.echo(value=value).result(10)["value"] == back


def test_how_perl_sees_what_we_send(client):
    def kind(value):
        return client.describe(value=value).result(10)["kind"]

    assert kind("abc") == "bytes of 3"
    assert kind("\u263a") == "text of 1"
    assert kind(b"\xff\x00") == "bytes of 2"
    assert kind(None) == "undef"
    assert kind([]) == "ARRAY"
    assert kind({}) == "HASH"
    assert kind(ScalarRef(1)) == "SCALAR"


def test_what_only_perl_can_make(client):
    reply = client.values().result(10).pairs()
    assert reply["integer"] == -5
    assert reply["float"] == "0.1"
    assert reply["big"] == "1099511627776"
    assert reply["text"] == "\u263a"
    assert reply["latin1"] == "caf\xe9"
    assert reply["hash"] == {"a": {"b": 1}}
    assert reply["shared"][0] is reply["shared"][1]
    assert reply["scalar_refs"][0] is reply["scalar_refs"][1]
    assert reply["object"] == Blessed("Some::Class", {"x": 1})
    assert reply["pattern"].class_name == "Regexp"
    assert reply["true"] in ("1", True)


def test_a_thousand_calls_in_flight(client):
    sums = []
    for number in range(1000):
        client.add_numbers(lambda sum: sums.append(sum), n1=number, n2=1)
    assert client.wait(30)
    assert sums == list(range(1, 1001))


def test_answers_in_another_order(client):
    answers = []
    held = [client.hold(lambda *values: answers.append(values)) for _ in range(3)]
    assert client.release().result(10) == ("all",)
    assert answers == [("released", call.id) for call in reversed(held)]


def test_two_clients_of_a_perl_server(client):
    other = Client(client._mux, client._name)
    calls = [each.add_numbers(n1=number, n2=1) for number, each in enumerate([client, other])]
    assert [call.result(10)["sum"] for call in calls] == [1, 2]
    other.disconnect()


def test_errors_of_a_perl_server(client):
    with pytest.raises(RemoteError, match="^No sub 'nothing' in package 'main'$"):
        client.nothing().result(10)
    with pytest.raises(RemoteError, match="^not today$"):
        client.refuse(why="not today").result(10)
    assert client.add_numbers(n1=1, n2=1).result(10)["sum"] == 2


def test_a_perl_procedure_that_dies_takes_the_connection(client):
    call, other = client.explode(), client.add_numbers(n1=1, n2=1)
    with pytest.raises(Disconnected, match=r"explode: .*the server closed the connection"):
        call.result(10)
    with pytest.raises(Disconnected):
        other.result(10)
    with pytest.raises(Disconnected):
        client.add_numbers(n1=1, n2=1).result(10)


def test_a_server_that_sends_garbage(client):
    with pytest.raises(Disconnected, match="bad-header"):
        client.garbage().result(10)
    assert not client.has_requests()
