"""Each procedure of the conformance server, driven from Perl and from Python."""

import os
import re
import shutil

import pytest
from support.meeting import leave_by_reset
from support.pages import code_in, rows
from support.programs import PERL, ROOT, listening, run
from support.quick import quick_first

from eventmux import EventMux
from eventmux.buffers import Split
from rpcasync import CallTimeout, Client, Disconnected, RemoteError
from rpcasync.storable import ScalarRef

SERVER = ROOT / "examples" / "conformance_server.py"
CHILD = f"python://{SERVER}"
WAIT = 30
LIMIT = 100  # calls that run at a time


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
@pytest.mark.parametrize("url", quick_first(["tcp://127.0.0.1:0", "unix://{}/socket"]))
def test_a_perl_client(url, tmp_path):
    with listening(SERVER, url.format(tmp_path)) as (address, server):
        result = run("perl", PERL / "conformance_client.pl", address)
        server.wait_for_log("RuntimeError: I DIE at ")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert len(lines) == 32  # 31 checks and "done"


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


@pytest.fixture(params=["child", "listener"])
def rpc(request, mux):
    """A client of the server: one that has started it, or one of several."""
    if request.param == "child":
        client = Client(mux, CHILD)
        yield client
        end(mux, client)
        assert client.process.wait(WAIT) == 0
    else:
        with listening(SERVER) as (address, _):
            client = Client(mux, address)
            yield client
            client.disconnect()


def end(mux, client):
    """Disconnect, and turn the loop until the server has been waited for."""
    client.disconnect()
    for event in mux:
        assert client.io(event) is None


def test_numbers(rpc):
    assert rpc.add_numbers(n1=2, n2=3).result(WAIT) == ("sum", 5)
    assert rpc.add_numbers(n1="40", n2=b"-2").result(WAIT)["sum"] == 38
    assert rpc.call("sum", numbers=[1, "2", 3.0]).result(WAIT)["sum"] == 6
    with pytest.raises(RemoteError, match="^sum: numbers: "):
        rpc.call("sum", numbers=["x"]).result(WAIT)


def test_get_id(rpc):
    ids = rpc.get_id().result(WAIT).pairs()
    assert (ids["uid"], ids["euid"]) == (os.getuid(), os.geteuid())
    groups = [str(group) for group in os.getgroups()]
    assert ids["gid"].split(" ") == [str(os.getgid()), *groups]  # as Perl shows $(
    assert ids["egid"].split(" ") == [str(os.getegid()), *groups]


def test_a_nested_callback(rpc):
    order = []
    rpc.callback(
        lambda: order.append("answer"),
        calls=3,
        callback={"key": [ScalarRef(lambda number, /: order.append(number))]},
    )
    while rpc.has_requests() or rpc.has_coderefs():
        event = rpc._mux.mux(WAIT)
        assert event.type != "timeout"
        rpc.io(event)
    assert order == ["answer", 3, 3, 3]


@pytest.mark.parametrize("callback", quick_first([None, {}, {"key": []}, {"key": [ScalarRef(1)]}]))
def test_a_callback_that_is_none_ends_its_client(mux, callback):
    with listening(SERVER) as (address, server):
        client, other = Client(mux, address), Client(mux, address)
        other.add_numbers(n1=1, n2=1).result(WAIT)
        call = client.callback(calls=1, callback=callback)
        if callback == {"key": [ScalarRef(1)]}:
            assert call.result(WAIT) == ()  # it answers before it calls
        else:
            with pytest.raises(RemoteError, match="^callback: failed; see the server's log$"):
                call.result(WAIT)
        with pytest.raises(Disconnected):
            client.add_numbers(n1=1, n2=1).result(WAIT)
        server.wait_for_log("Traceback")
        assert other.add_numbers(n1=1, n2=1).result(WAIT)["sum"] == 2
        other.disconnect()


def test_complicated(rpc):
    values = {
        "array_of_int": [1, -2, 300000],
        "array_of_string": ["x", "", "\u263a"],
        "array_of_any": [1, "x", None, [], {}],
        "complicated": {"results": [{"name": "Ann", "age": 42}], "error": {"errornum": 7}},
    }
    assert rpc.complicated(**values).result(WAIT).pairs() == values


def test_the_table_of_the_page_has_each_of_them_and_what_it_takes(rpc):
    methods = rpc.methods(defs=1).result(WAIT)["methods"]
    table = {code_in(name)[0]: cells for name, *cells in rows("porting.md", "The test server")}
    assert sorted(table) == sorted(methods)
    for name, (takes, answers) in table.items():
        if name != "complicated":
            wanted = [re.sub(r"^\d\d", "", each) for each in methods[name]["in"]]
            assert re.findall(r"`(\w+)", takes) == wanted
            assert {*methods[name]["out"]} <= {*code_in(answers)}


def test_definitions(rpc):
    methods = rpc.methods(defs=1).result(WAIT)["methods"]
    names = ["add_numbers", "callback", "complicated", "die", "get_id", "hang", "sleep", "sum"]
    assert sorted(methods) == names
    assert methods["sum"] == {"in": {"numbers": ["integer32"]}, "out": {"sum": "integer32"}}
    assert methods["callback"]["in"] == {"01calls": "integer32", "02callback": "sub"}


def test_as_many_answers_of_sleep_are_of_calls_that_waited(rpc):
    """What the original's test of `Outstanding` counts."""
    sleepers = [rpc.sleep(count=number) for number in range(2 * LIMIT)]
    assert rpc.wait(WAIT, *sleepers)
    answers = [call.result() for call in sleepers]
    assert [answer["count"] for answer in answers] == list(range(2 * LIMIT))
    assert [answer["queued"] for answer in answers] == [0] * LIMIT + [1] * LIMIT


def test_sleepers_sleep_until_another_has_to_wait_for_them(rpc):
    sleepers = [rpc.sleep(count=number) for number in range(LIMIT)]
    with pytest.raises(RemoteError, match="^No sub 'nothing' in package 'main'$"):
        rpc.nothing().result(WAIT)
    assert not any(call.done for call in sleepers)  # for that, nobody had to wait
    assert rpc.add_numbers(n1=2, n2=2).result(WAIT)["sum"] == 4
    assert all(call.done for call in sleepers)
    assert {call.result()["queued"] for call in sleepers} == {0}
    assert rpc.sleep(count=7).result(WAIT).pairs() == {"count": 7, "queued": 1}


def test_hang_with_a_timeout(rpc):
    errors = []
    rpc.hang(lambda error: errors.append(error)).set_timeout(0.02)
    call = rpc.hang().set_timeout(0.01)
    with pytest.raises(CallTimeout, match="^hang: no answer "):
        call.result(WAIT)
    assert rpc.wait(WAIT)
    assert [type(error) for error in errors] == [CallTimeout]
    assert rpc.add_numbers(n1=1, n2=1).result(WAIT)["sum"] == 2
    assert not rpc.has_requests()


def test_calls_that_hang_are_in_the_way_until_their_client_has_gone(mux):
    with listening(SERVER) as (address, _):
        hanging, other = Client(mux, address), Client(mux, address)
        for _ in range(LIMIT):
            hanging.hang(lambda error: None)
        with pytest.raises(RemoteError):  # is answered at once: the others have been read
            hanging.nothing().result(WAIT)
        call = other.add_numbers(n1=1, n2=1)
        with pytest.raises(CallTimeout):
            call.result(0.05)
        leave_by_reset(hanging)  # a server takes the end of sending for no more than that
        assert call.result(WAIT)["sum"] == 2
        other.disconnect()


def test_die_ends_its_client_and_no_other(mux):
    with listening(SERVER) as (address, server):
        client, other = Client(mux, address), Client(mux, address)
        asleep = other.sleep(count=7)
        before, call, hanging = client.add_numbers(n1=1, n2=1), client.die(), client.hang()
        with pytest.raises(RemoteError, match="^die: failed; see the server's log$"):
            call.result(WAIT)
        assert before.result()["sum"] == 2
        with pytest.raises(Disconnected, match="^hang: .*the server closed .* after die failed"):
            hanging.result(WAIT)
        assert other.add_numbers(n1=1, n2=1).result(WAIT)["sum"] == 2
        assert not asleep.done
        other.disconnect()
        server.wait_for_log("RuntimeError: I DIE at ")


KEEPS = """
import os
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_boom(caller):
    raise RuntimeError("on purpose")

def rpc_end(caller):
    os._exit(3)

mux = EventMux()
rpc = Server(mux, on_exception="answer")
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


@pytest.mark.slow
def test_the_end_of_a_process_is_not_blamed_on_a_failure_before(mux, tmp_path):
    program = tmp_path / "keeps.py"
    program.write_text(KEEPS)
    client = Client(mux, f"python2://{program}")
    mux.add(client.stderr)
    mux.add(client.stdout)
    with pytest.raises(RemoteError, match="^boom: failed; see the server's log$"):
        client.boom().result(WAIT)
    end = "the server closed the connection; its process has ended with status 3$"
    with pytest.raises(Disconnected, match=end):
        client.end().result(WAIT)


def test_the_parent_of_a_server_reads_why_a_procedure_died(mux):
    client = Client(mux, CHILD.replace("://", "2://"))
    mux.add(client.stderr, buffered=Split(b"\n"))
    mux.add(client.stdout)
    errors, lines = [], []
    call, hanging = client.die(lambda error: errors.append(error)), client.hang()
    for event in mux:
        if client.io(event) is not None and event.type == "read":
            lines.append(event.data)
    assert call.done
    assert [type(error) for error in errors] == [RemoteError]
    end = "after die failed; see its log; its process has ended with status 0$"
    with pytest.raises(Disconnected, match=end):
        hanging.result()
    # What the original's own test looks for, but for the name of the file.
    assert re.search(rb"I DIE at .*conformance_server\.py line \d+\.", b"\n".join(lines))
    assert client.process.returncode == 0
