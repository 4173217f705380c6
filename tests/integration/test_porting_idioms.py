"""The idioms of docs/porting-idioms.md, run as they stand in its table."""

import signal

import pytest
from support.ends import making_ends
from support.pages import code_in, rows
from support.programs import LIMIT, PROGRAMS, listening
from support.pump import PATIENCE

import rpcasync
from eventmux import EventMux
from rpcasync import Client, Fault, RemoteError, RPCError, Server
from rpcasync.arguments.signatures import Signature

IDIOMS = {cells[0]: cells[2] for cells in rows("porting-idioms.md", "Idioms")}


@pytest.fixture
def ends():
    with making_ends() as make:
        yield make


def idiom(number):
    """Return the code of an idiom: one line after another, and what follows `while ...:` in it."""
    lines, depth = [], 0
    for line in code_in(IDIOMS[f"I{number}"]):
        lines.append("    " * depth + line)
        depth += line.startswith("while ")
    return "\n".join(lines)


def test_the_idioms_are_those_of_the_original():
    assert list(IDIOMS) == [f"I{number}" for number in range(1, 21)]


def test_i1_a_server_serves_until_its_client_has_gone(ends):
    both = ends(x=lambda caller: both.server.return_(caller, 7))
    call = both.client.x()

    class Disconnects:
        """A mux that lets the client have each event first, and go when it has its answer."""

        def mux(self):
            event = both.client.io(both.mux.mux())
            if call.done:
                both.client.disconnect()
            return event

    exec(idiom(1), {"rpc": both.server, "mux": Disconnects()})
    assert call.result() == (7,)
    assert not both.server.has_clients()


def test_i2_servers_and_clients_are_chained(ends):
    both = ends(x=lambda caller: both.server.return_(caller, 7))
    chain, none = code_in(IDIOMS["I2"])
    call = both.client.x()
    while not call.done:
        names = {"a": both.server, "b": both.client, "event": both.mux.mux(PATIENCE)}
        assert names["event"].type != "timeout"
        exec(chain, names)
        assert names["event"] is None
    assert eval(none, {"io": both.client.io}) is eval(none, {"io": both.server.io}) is None


def test_i3_each_event_may_be_given_to_everybody(ends):
    one, other = (ends(x=lambda caller: one.server.return_(caller, 7)), ends())
    call = one.client.x()
    while not call.done:
        event = one.mux.mux(PATIENCE)
        for rpc in (other.client, one.client, other.server, one.server):
            rpc.io(event)
    assert call.result() == (7,)


def test_i4_a_client_waits_for_answers_and_for_its_functions(ends):
    kept = []
    both = ends(keep=lambda caller, f, /: (kept.append(f), both.server.return_(caller)))
    both.client.keep(print, lambda: None)
    seen = []

    def turn():
        seen.append((both.client.has_requests(), both.client.has_coderefs()))
        both.turn()
        kept.clear()

    exec(f"{idiom(4)}\n    turn()", {"rpc": both.client, "turn": turn})
    assert seen == [(True, 1), (False, 1)]


def test_i5_an_answer_by_names(ends):
    call, define = code_in(IDIOMS["I5"])
    both = ends(add_numbers=lambda caller, n1: both.server.return_(caller, sum=n1))
    got = []
    names = {"rpc": both.client, "got": got}
    exec(f"{define}\n    got.append(sum)\n{call}", names)
    both.turn()
    assert got == [2]


def test_i6_arguments_by_names(ends):
    names = {"got": []}
    exec(f"{idiom(6)}: got.append(args)", names)
    both = ends(x=names["rpc_x"])
    both.client.x("a", 1, "b", None)
    both.turn()
    assert names["got"] == [{"a": 1, "b": None}]


def test_i7_a_caller_is_kept(ends):
    parked = []
    both = ends(x=lambda caller: eval(idiom(7), {"parked": parked, "caller": caller}))
    calls = [both.client.x() for _ in range(3)]
    both.turn()
    while parked:
        both.server.return_(parked.pop(), len(parked))
    both.turn()
    assert [call.result() for call in calls] == [(0,), (1,), (2,)]


def test_i8_a_function_is_called_and_let_go_of(ends):
    call, release = code_in(IDIOMS["I8"])
    kept, got = [], []
    both = ends(keep=lambda caller, f, /: (kept.append(f), both.server.return_(caller)))
    both.client.keep(lambda *values: got.append(values), lambda: None)
    both.turn()
    eval(call.replace("...", "7"), {"callback": kept[0]})
    eval(release, {"callback": kept[0]})
    both.turn()
    assert (got, both.client.has_coderefs()) == ([(7,)], 0)


def test_i9_what_is_raised_out_of_io(ends):
    attempt, handle, _ = code_in(IDIOMS["I9"])
    both = ends()
    both.client.nothing(lambda *values: None)
    caught = []
    while not caught:
        event = both.server.io(both.mux.mux(PATIENCE))
        names = {"rpc": both.client, "event": event, "RPCError": RPCError, "caught": caught}
        exec(f"{attempt}\n{handle}\n    caught.append(error)", names)
    assert str(caught[0]).startswith("No sub 'nothing' in package")


def test_i10_i11_what_a_child_prints():
    make, *attributes = code_in(IDIOMS["I10"])
    make = make.replace("perl2://...", f"python2://{PROGRAMS / 'child_server.py'}")
    names = {"mux": EventMux(), "Client": Client}
    exec(make, names)
    rpc, mux = names["rpc"], names["mux"]
    process, out, err = (eval(each, names) for each in attributes)
    assert (process.pid, out, err) == (rpc.process.pid, rpc.stdout, rpc.stderr)
    mux.add(err)
    call, printed = rpc.say(lambda: None, out="", err="hello\n"), b""
    while not (printed and call.done):
        event = rpc.io(mux.mux(LIMIT))
        if event is not None:
            assert eval(idiom(11), {"event": event, "err": err})
            printed += event.data
    assert printed == b"hello\n"
    mux.kill(err)
    rpc.disconnect()
    for event in mux:
        rpc.io(event)
    assert process.returncode == 0


def test_i12_i13_a_timeout_has_no_handle():
    wait, is_it = (line.replace("2", "0") for line in code_in(IDIOMS["I13"]))
    event = eval(wait, {"mux": EventMux()})
    assert eval(is_it, {"event": event})
    handle, kind = code_in(IDIOMS["I12"])
    assert eval(handle, {"event": event}) is None
    assert eval(kind, {"event": event}) == "timeout"
    assert not hasattr(event, "data")


def test_i14_i15_an_error_that_a_procedure_answers(ends):
    def rpc_x(caller):
        exec(idiom(14), {"Fault": Fault, "text": "no luck"})

    both = ends(x=rpc_x)
    got = []
    names = {"got": got}
    exec(f"def done({code_in(IDIOMS['I15'])[0]}=None): got.append(error)", names)
    both.client.x(names["done"])
    both.turn()
    assert [(type(error), str(error)) for error in got] == [(RemoteError, "no luck")]


def test_i16_i18_values():
    assert Signature(lambda n: n).bind(["n", "5"]) == ((), {"n": "5"})

    def take(n: int):
        pass

    assert Signature(take).bind(["n", "5"])[1] == {"n": 5}
    values = [eval(each) for each in code_in(IDIOMS["I18"])[:1]]
    assert values == [""]
    assert Signature(lambda *args: None).bind([None, "", 0])[0] == [None, "", 0]


def test_i17_return_has_one_spelling(ends):
    def rpc_x(caller):
        code = idiom(17).replace("...", "caller, 7")
        assert eval(code, {"rpc": both.server, "caller": caller})

    both = ends(x=rpc_x)
    call = both.client.x()
    both.turn()
    assert call.result() == (7,)
    assert not any(hasattr(Server, name) for name in ("return", "reply", "answer"))


EXITS = """
import sys
from eventmux import EventMux, URLError
from rpcasync import Server, init_clients
def rpc_name(caller):
    rpc.return_(caller, name={name})
def rpc_quit(caller):
    rpc.return_(caller)
    {exits}
mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


def test_i19_a_program_ends_in_a_procedure_and_knows_its_name(tmp_path):
    exits, flush, name, _ = code_in(IDIOMS["I19"])
    file = tmp_path / "exits.py"
    exits = f"{flush}; {exits.replace('()', '(5)')}"
    file.write_text(EXITS.format(exits=exits, name=name))
    with listening(file) as (address, server), rpcasync.connect(address) as rpc:
        assert rpc.name()["name"] == str(file)
        assert rpc.quit() == ()
        assert server.process.wait(LIMIT) == 5


def test_i20_a_client_that_goes_is_no_signal(ends):
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    callers = []
    both = ends(x=callers.append)
    both.client.x()
    both.turn()
    both.client.disconnect()
    both.turn()
    assert both.server.return_(callers[0], 7) is False
