"""What is left of 2.0's names in a server: the code of the table is run in a procedure."""

import socket
import sys
import types

import pytest
from support.pages import code_in, rows
from support.peers import Peer, turn

from eventmux import EventMux
from rpcasync import EncodeError, Fault, Server, init_clients

HEADING = "Its server"
# Perl's, of more than one line of Python, options, or run by the test below in its own way.
OTHERS = {
    *("Timeout => 0", "CLIENT:", "next if $rpc->io($event)", "methods => {...}"),
    *("while (my $event = $mux->mux($rpc->timeout))", "for event in mux", "encode", "decode"),
    *("while rpc.has_clients()", "if rpc.io(event) is None: continue", "codecs=[...]"),
    *("max_packet=N", "timeout=None", "timeout=rpc.timeout", "return_()", "on_close()"),
    *("init_clients(rpc)", "mux.mux()", "raise Fault(text)", "methods(defs=1)"),
}


def code():
    return [each for cells in rows("porting.md", HEADING) for each in code_in(cells[1])]


class Calls:
    """Runs what stands in the table, each with a call of its own."""

    def __init__(self, rpc, mux):
        self.callers, self.metas = [], {}
        ours, theirs = socket.socketpair()
        self.socks = [ours, theirs]
        self.names = {
            **{name: getattr(rpc, name) for name in ("return_", "error", "retry", "on_close")},
            "set_options": rpc.set_options,
            "Server": Server,
            "N": 7,
            "mux": mux,
            "rpc": rpc,
            "sock": ours,
            "EncodeError": EncodeError,
            "text": "a text",
            "seconds": 0,
            "values": (1, 2),
            "named": {"a": 3},
            "key": "key",
            "value": "value",
            "function": self.called,
        }
        self.heard = []

    def called(self, caller):
        self.heard.append((caller.id, caller.alive))

    def rpc_run(self, caller, text, /):
        self.callers.append(caller)  # else it would be answered with an error
        caller.meta.clear()
        exec(text, {**self.names, "caller": caller})
        self.metas[text] = {**caller.meta}

    def rpc_fault(self, caller):
        text = "a text"
        raise Fault(text)


@pytest.fixture
def calls(monkeypatch):
    pkg = types.ModuleType("pkg")
    monkeypatch.setitem(sys.modules, "pkg", pkg)
    with EventMux() as mux, socket.create_server(("127.0.0.1", 0)) as listener:
        rpc = Server(mux, pkg)
        calls = Calls(rpc, mux)
        pkg.rpc_run, pkg.rpc_fault = calls.rpc_run, calls.rpc_fault
        calls.rpc, calls.mux, calls.listener = rpc, mux, listener
        yield calls
        for sock in calls.socks:
            sock.close()


def test_its_server(calls):
    rpc = calls.rpc
    ours, theirs = socket.socketpair()
    rpc.add_client(theirs)
    peer = Peer(ours)
    found = [each for each in code() if each not in OTHERS]
    answers = {}
    for id, each in enumerate(found):
        if each == "rpc.add_listener(sock)":
            calls.names["sock"] = calls.listener
        peer.send(id, "run", each)
        turn(calls.mux, rpc)
        answers.update({found[id]: values for id, *values in peer.read()})
    assert answers["return_(caller, *values, **named)"] == [1, 2, "a", 3]
    assert answers["error(caller, text)"] == ["error", "a text", "errors", ["a text"]]
    assert len(answers) == 2
    assert rpc.timeout == 7
    retried = found.index("retry(caller, seconds, function)")
    assert calls.heard == [(retried, True)]
    assert [meta["key"] for meta in calls.metas.values() if meta] == ["value", ["value"], {"value"}]
    ours.close()
    turn(calls.mux, rpc)
    assert calls.heard[1:] == [(found.index("on_close(caller, function)"), False)]
    rpc.close_listeners()


def test_what_is_written_in_another_way(calls, monkeypatch, tmp_path):
    assert {*code()} >= OTHERS
    rpc, mux = calls.rpc, calls.mux
    rpc.timeout = 30
    rpc.set_options("name", timeout=None)
    rpc.set_options("name", timeout=rpc.timeout)
    monkeypatch.setattr(sys, "argv", ["server", "-u", f"unix://{tmp_path}/socket"])
    init_clients(rpc)
    ours, theirs = socket.socketpair()
    rpc.add_client(theirs)
    peer = Peer(ours)
    peer.send_calls(("fault",), ("methods", "defs", 1))
    rpc.close_listeners()
    answers = []
    while rpc.has_clients():
        event = mux.mux(0)  # answers leave before it would wait
        if len(answers) < 2:
            answers += peer.read()
        else:
            ours.close()
        if rpc.io(event) is None:
            continue
    (_, _, text, *_), (_, key, methods) = answers
    assert (text, key, [*methods]) == ("a text", "methods", ["fault", "run"])
