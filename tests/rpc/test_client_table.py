"""A table of clients by handle, as programs in Perl have it: `table[event.fh].io(event)`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.peers import turn
from support.pump import PATIENCE

from eventmux import EventMux, Timer
from rpcasync import CallTimeout, Client, Disconnected

PROGRAMS = Path(__file__).parents[1] / "integration" / "programs"


def run(mux, table, *, until):
    """Run the loop of such a program."""
    while not until():
        event = mux.mux(PATIENCE)
        assert event.type != "timeout"
        assert table[event.fh].io(event) is None


def test_timeouts(mux, connect, got):
    clients = [connect(timeout=seconds)[0] for seconds in (0.02, 0.01)]
    for number, client in enumerate(clients):
        client.x(got.error_taker(number))
    run(mux, {client.fh: client for client in clients}, until=lambda: len(got) == 2)
    assert got == [(1, CallTimeout), (0, CallTimeout)]


def test_all_kinds_of_answers(mux, connect, got):
    """Also what comes in a later turn, and what Ctrl-C has put off."""
    client, peer = connect(timeout=PATIENCE)
    calls = [client.x(got.taker(number)) for number in range(1000)]
    peer.sock.sendall(b"".join(peer.packet(call.id, 1) for call in calls))
    run(mux, {client.fh: client}, until=lambda: not client.has_requests())
    assert got == [(number, (1,)) for number in range(1000)]
    late = client.x()
    peer.sock.close()
    run(mux, {client.fh: client}, until=lambda: late.done)
    last = client.x()  # on a connection that has gone
    run(mux, {client.fh: client}, until=lambda: last.done)
    with pytest.raises(Disconnected):
        last.result()


@pytest.mark.parametrize("program", ["never_answers.py", "dies_at_start.py"])
def test_servers_that_are_child_processes(program):
    with EventMux() as mux:
        url = f"python://{PROGRAMS / program}"
        clients = [Client(mux, url) for _ in range(2)]
        table = {client.fh: client for client in clients}
        calls = [client.x() for client in clients]
        if program == "never_answers.py":
            for client in clients:
                client.disconnect(grace=0)
        run(mux, table, until=lambda: all(call.done for call in calls))
        for client in clients:
            client.disconnect(grace=0)
        for event in mux:  # the ends of the processes
            assert table[event.fh].io(event) is None
        assert all(client.process.returncode is not None for client in clients)


def test_what_is_anothers_is_given_back(mux, connect):
    """A client takes no timer of another one, nor one of the program's that has its handle."""
    first, _ = connect(timeout=0)
    second, _ = connect(timeout=0)
    first.x()
    second.x()
    mux.timer(0, "mine", fh=first.fh)
    events = [mux.mux() for _ in range(5)]
    timers = [event for event in events if event.type == "timer"]
    assert len(timers) == 3
    for event in timers:
        for client in (first, second):
            is_own = event.fh is client.fh and event.data != "mine"
            assert client.io(event) is (None if is_own else event)
    assert (first.has_requests(), second.has_requests()) == (False, False)


def test_the_programs_own_events_are_given_back_unless_they_are_of_the_mux(mux, connect):
    client, _ = connect()
    mine = Timer(client.fh, "mine")
    mux.push_event(mine)
    assert turn(mux, client) == [mine]


def test_two_clients_and_a_server_of_one_mux(mux, serve, got):
    """What a server has no single handle for comes with None: it takes what nobody else takes."""
    bench = serve(mux=mux)
    clients = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        bench.rpc.add_client(theirs)
        clients.append(Client(mux, ours))
    table = {client.fh: client for client in clients}
    for number, client in enumerate(clients):
        client.call("list", number, got.taker(number))
    while any(client.has_requests() for client in clients):
        event = mux.mux(PATIENCE)
        assert event.type != "timeout"
        table.get(event.fh, bench.rpc).io(event)
    assert sorted(number for number, _ in got) == [0, 1]
