"""How many clients there may be: `max_clients`, beyond which the listeners pause."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest
from support.line_interrupts import at_each_line
from support.peers import Bench, Peer, set_clock, turn
from support.records import warnings_of
from support.server_interrupts import Interrupter

from eventmux import Connect, Error, EventMux, Read
from rpcasync import Server
from rpcasync.serving import entrance

TCP = "tcp://127.0.0.1:0"


@pytest.fixture
def two(serve):
    """A server of two clients at most."""
    return serve(max_clients=2)


def answered(bench, *peers):
    """Return which of some clients are answered."""
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.send(0, "list", "x")
    bench.turn()
    return [peer.read() == [[0, "x"]] for peer in peers]


def is_waiting(peer):
    """True if a client has heard nothing, neither an answer nor an end."""
    return peer.read() == [] and not peer.ended


@pytest.mark.parametrize("url", [TCP, "unix://{}/socket"])
def test_the_next_one_waits_until_one_has_gone(two, tmp_path, url):
    listener = two.rpc.listen(url.format(tmp_path))
    peers = [two.knock(listener) for _ in range(5)]
    assert answered(two, *peers) == [True, True, False, False, False]
    assert len(two.rpc.clients) == 2
    for number in range(3):
        peers[number].sock.close()
        two.turn()
        assert peers[number + 2].read() == [[0, "x"]]  # in the order that they came
        assert all(is_waiting(peer) for peer in peers[number + 3 :])
        assert len(two.rpc.clients) == 2
    assert not any(peer.ended for peer in peers[3:])


def test_what_waits_is_with_the_kernel(two):
    """But for what was accepted at once: the rest has no descriptor of ours."""
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(50)]
    two.turn()
    assert len(two.mux.handles()) < 10
    for peer in peers:
        assert peer.read() == []
        peer.sock.close()
    two.turn()
    assert two.rpc.clients == set()
    assert answered(two, two.knock(listener)) == [True]


def test_all_listeners_pause(two, tmp_path):
    listeners = [two.rpc.listen(url) for url in (TCP, TCP, f"unix://{tmp_path}/socket")]
    peers = [two.knock(each) for each in listeners for _ in range(2)]
    assert answered(two, *peers).count(True) == 2
    late = two.rpc.listen(TCP)  # it pauses, too
    peers.append(two.knock(late))
    assert answered(two, peers[-1]) == [False]
    for _ in range(len(peers) - 2):
        gone = next(peer for peer in peers if peer.sock in _in(two, peers))
        peers.remove(gone)
        gone.sock.close()
        two.turn()
        assert len(two.rpc.clients) == 2
    assert not two.rpc._arrivals.entrance.waiting


def _in(bench, peers):
    """Return the sockets of those that are clients."""
    names = {sock.getpeername() or sock.getsockname() for sock in bench.rpc.clients}
    own = [peer.sock for peer in peers if peer.sock.getsockname() in names]
    return own or [peer.sock for peer in peers if not peer.sock.getsockname()]


def test_a_pause_is_told_once(two, caplog):
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(6)]
    two.turn()
    two.turn()
    assert warnings_of(caplog) == [
        "2 clients are connected, limit is 2: others wait until one has gone"
    ]
    for peer in peers:
        peer.sock.close()
    two.turn()
    assert two.rpc.clients == set()


def test_the_limit_may_change(two, caplog):
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(4)]
    assert answered(two, *peers) == [True, True, False, False]
    two.rpc.set_limits(max_clients=3)
    two.turn()
    assert [peer.read() for peer in peers[2:]] == [[[0, "x"]], []]
    two.rpc.set_limits(max_clients=1)  # nobody has to leave
    two.turn()
    assert len(two.rpc.clients) == 3
    two.rpc.set_limits(max_buffered=2**20)  # it stays
    two.turn()
    assert is_waiting(peers[3])
    two.rpc.set_limits(max_clients=None)
    two.turn()
    assert peers[3].read() == [[0, "x"]]
    assert answered(two, *[two.knock(listener) for _ in range(3)]) == [True] * 3


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
def test_limits_that_are_none(two, limit):
    with pytest.raises(ValueError, match="max_clients is .*, must be"):
        two.rpc.set_limits(max_clients=limit)
    with pytest.raises(ValueError, match="max_clients is "):
        Server(two.mux, {}, max_clients=limit)
    listener = two.rpc.listen(TCP)
    assert answered(two, *[two.knock(listener) for _ in range(3)]) == [True, True, False]


def test_what_the_program_adds_counts_and_does_not_wait(two):
    own = [two.peer() for _ in range(3)]
    assert answered(two, *own) == [True] * 3
    listener = two.rpc.listen(TCP)
    peer = two.knock(listener)
    assert answered(two, peer) == [False]
    own[0].sock.close()
    two.turn()
    assert is_waiting(peer)
    own[1].sock.close()
    two.turn()
    assert peer.read() == [[0, "x"]]


def test_who_is_on_his_way_out_has_his_place(serve, tmp_path):
    """He has a descriptor, and what is queued for him: until that is gone, nobody else comes."""
    bench = serve(max_clients=1)
    listener = bench.rpc.listen(f"unix://{tmp_path}/socket")
    leaving, peer = bench.knock(listener), bench.knock(listener)
    leaving.send_calls(("big", 900_000), ("explode",))  # more than the kernel takes
    bench.turn()
    assert not bench.rpc.clients
    assert answered(bench, peer) == [False]
    while not leaving.ended:
        leaving.read()
        bench.turn()
    leaving.sock.close()
    bench.turn()
    assert peer.read() == [[0, "x"]]


def test_who_is_refused_takes_no_place(serve):
    bench = serve(max_clients=1, authorize=lambda peer: peer.address in welcome)
    listener = bench.rpc.listen(TCP)
    strangers = [bench.knock(listener) for _ in range(20)]
    peer = bench.knock(listener)
    welcome = {peer.sock.getsockname()}
    assert answered(bench, peer) == [True]
    for each in strangers:
        assert each.read() == []
        assert each.ended


def test_listeners_that_are_closed_let_in_nobody(two):
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(4)]
    assert answered(two, *peers) == [True, True, False, False]
    two.rpc.close_listeners()
    for peer in peers[:2]:
        peer.sock.close()
    two.turn()
    for peer in peers[2:]:
        assert peer.read() == []
        assert peer.ended
    assert not two.rpc.has_clients()
    assert two.foreign == []


def test_one_that_waits_is_a_client_still_to_come(two):
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(3)]
    two.turn()
    two.mux.kill(listener)  # by the program itself
    assert two.rpc.has_clients()
    for peer in peers[:2]:
        peer.sock.close()
    assert answered(two, peers[2]) == [True]
    peers[2].sock.close()
    two.turn()
    assert not two.rpc.has_clients()


def test_one_that_waits_and_leaves(two):
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(4)]
    two.turn()
    peers[2].sock.close()
    peers[0].sock.close()
    assert answered(two, peers[3]) == [True]
    assert len(two.rpc.clients) == 2


def test_what_came_before_there_was_a_place_is_served_in_order(two):
    """As behind a handshake: `Connect` comes with what was sent, and with the end."""
    listener = two.rpc.listen(TCP)
    for _ in range(2):
        two.knock(listener)
    two.turn()
    ours, theirs = socket.socketpair()
    with theirs:
        peer = Peer(theirs)
        two.mux.add(ours)
        first, second = peer.packet(0, "note", 1), peer.packet(1, "note", 2)
        for event in (Connect(ours, listener), Read(ours, first[:7]), Read(ours, first[7:])):
            assert two.rpc.io(event) is None
        assert two.rpc.io(Read(ours, second)) is None
        two.turn()
        assert is_waiting(peer)
        two.rpc.set_limits(max_clients=3)
        two.turn()
        assert peer.read() == [[0, 1], [1, 2]]


def test_those_that_were_accepted_are_not_without_end(two, monkeypatch, caplog):
    monkeypatch.setattr(entrance, "_MOST_WAITING", 3)
    listener = two.rpc.listen(TCP)
    for _ in range(2):
        two.knock(listener)
    two.turn()
    ends = [socket.socketpair() for _ in range(5)]
    for ours, _ in ends:
        two.mux.add(ours)
        two.rpc.io(Connect(ours, listener))
    two.turn()
    peers = [Peer(theirs) for _, theirs in ends]
    assert [is_waiting(peer) for peer in peers] == [True, True, True, False, False]
    for line in warnings_of(caplog)[-2:]:
        assert line.endswith(" refused: 2 clients are connected, and 3 wait already")
    two.rpc.close_listeners()
    two.turn()
    for _, theirs in ends:
        theirs.close()


def test_a_server_that_is_out_of_descriptors_goes_on(two, caplog):
    """The pause of the mux and ours do not meet."""
    listener = two.rpc.listen(TCP)
    peers = [two.knock(listener) for _ in range(3)]
    two.turn()
    two.rpc.io(Error(listener, "Too many open files", errno.EMFILE))
    peers[0].sock.close()
    assert answered(two, peers[2]) == [True]


def test_a_mux_that_cannot_pause_has_no_limit(mux, procedures):
    class Small:
        add, send, kill = mux.add, mux.send, mux.kill

    rpc = Server(Small(), procedures, max_clients=1)
    listener = rpc.listen(TCP)
    socks = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    turn(mux, rpc)
    assert len(rpc.clients) == 3
    for sock in socks:
        sock.close()
    rpc.close_listeners()
    turn(mux, rpc)


# Ctrl-C


def play(at):
    """Have six clients come and go, two at a time, with an interrupt at a line."""
    interrupter = Interrupter(at)
    with EventMux() as mux:
        answer = {"rpc_list": lambda caller, value, /: bench.rpc.return_(caller, value)}
        bench = Bench(mux, answer)
        bench.rpc.set_limits(max_clients=2)
        listener = bench.rpc.listen(TCP)
        try:
            come_and_go(bench, listener, interrupter)
        finally:
            bench.close()
            bench.rpc.close_listeners()
            bench.turn()
    return interrupter


def come_and_go(bench, listener, interrupter):
    set_clock(bench.rpc, 0.0)
    peers = [bench.knock(listener) for _ in range(6)]
    for peer in peers:
        peer.send_calls(("list", 1), ("list", 2))
    interrupts = missing = 0
    for peer in peers:
        while (event := bench.mux.mux(0)).type != "timeout":
            try:
                with interrupter:
                    event = bench.rpc.io(event)
            except KeyboardInterrupt:
                interrupts += 1
                event = None
            assert event is None
            assert len(bench.rpc.clients) <= 2, interrupter.place
        missing += 2 - len(peer.read())
        assert not peer.ended, interrupter.place
        peer.sock.close()
    bench.turn()
    assert interrupts == interrupter.has_fired
    assert missing <= interrupts, interrupter.place
    assert not bench.rpc.clients
    assert not bench.rpc._arrivals.entrance.waiting
    assert answered(bench, bench.knock(listener)) == [True], interrupter.place


@pytest.fixture
def _quiet(caplog):
    caplog.set_level("CRITICAL", "rpcasync")


@pytest.mark.usefixtures("_quiet")
def test_ctrl_c_leaves_nobody_waiting():
    at = 41
    while play(at).has_fired:  # how many lines there are differs a little
        at += 41
    assert at > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet")
def test_ctrl_c_at_any_line_leaves_nobody_waiting():
    assert at_each_line(play) > 500
