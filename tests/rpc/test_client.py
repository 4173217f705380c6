"""A client, with the server's end in our hands: calls, results, and how it connects."""

from __future__ import annotations

import gc
import socket
import weakref

import pytest
from support.fakes import CountedSocket
from support.peers import Peer, turn
from support.records import warnings_of

from eventmux import Read, URLError
from rpcasync import ArgumentError, CallTimeout, Client, Disconnected, EncodeError, Reply, Server

REFUSED = r"Connection refused: is the server running\?$"

# Calls


def test_what_is_sent(mux, pair):
    client, peer = pair
    client.add_numbers(n1=2, n2=3)
    client.add_numbers("n1", 2, "n2", 3)
    client.call("add_numbers", "n1", 2, n2=3)
    client.call("sum", 1, [2, {"x": None}])
    turn(mux, client)
    assert peer.read() == [
        [0, "add_numbers", "n1", 2, "n2", 3],
        [1, "add_numbers", "n1", 2, "n2", 3],
        [2, "add_numbers", "n1", 2, "n2", 3],
        [3, "sum", 1, [2, {"x": None}]],
    ]


def test_calls_of_a_turn_leave_in_one_write(mux, codec):
    ours, theirs = socket.socketpair()
    with CountedSocket(ours) as ours, theirs:
        client, peer = Client(mux, ours, codec=codec), Peer(theirs, codec)
        for _ in range(100):
            client.x()
        assert ours.writes == []
        turn(mux, client)
        assert len(peer.read()) == 100
        assert len(ours.writes) == 1


def test_names_that_python_would_stumble_on(mux, pair):
    client, peer = pair
    client.call("io", self=1, procedure=2)
    client.call("return", **{"not a name": 3})
    turn(mux, client)
    assert peer.read() == [[0, "io", "self", 1, "procedure", 2], [1, "return", "not a name", 3]]
    with pytest.raises(AttributeError, match="_private"):
        client._private  # noqa: B018
    with pytest.raises(TypeError, match="procedure is 5, must be a str"):
        client.call(5)


def test_callbacks_take_answers_by_their_signature(mux, pair):
    client, peer = pair
    got = []

    def named(sum: int):
        got.append(sum)

    client.x(named)
    client.x(lambda *values: got.append(values))
    client.x(lambda **pairs: got.append(pairs))
    client.x(lambda sum, error: got.append((sum, error)))
    turn(mux, client)
    for id in range(4):
        peer.send(id, "sum", "5")
    assert turn(mux, client) == []
    assert got == [5, ("sum", "5"), {"sum": "5"}, ("5", None)]
    assert not client.has_requests()


def test_a_callback_that_can_take_no_answer_is_a_wrong_call(mux, pair):
    client, _ = pair
    with pytest.raises(ArgumentError, match="takes a list, but requires must by name"):
        client.x(lambda *values, must: None)
    assert not client.has_requests()


def test_callbacks_are_let_go(mux, pair):
    client, peer = pair

    class Thing:
        pass

    thing = Thing()
    seen = weakref.ref(thing)
    client.x(lambda *values, kept=thing: None)
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    del thing
    gc.collect()
    assert seen() is None


def test_what_was_read_is_not_kept(mux, pair):
    client, peer = pair
    client.x(lambda *values: None)
    turn(mux, client)
    peer.send(0, "x" * 10_000)
    turn(mux, client)
    assert not [
        each for each in gc.get_objects() if isinstance(each, Read) and each.fh is client.fh
    ]


def test_pending_calls(mux, pair):
    client, peer = pair
    first, second = client.x(1), client.y()
    assert (first.id, first.procedure, first.args, first.done) == (0, "x", [1], False)
    assert repr(first) == "<Call 0 x pending>"
    requests = client.dump_requests()
    assert dict(requests) == {0: first, 1: second}
    with pytest.raises(TypeError):
        requests[2] = None
    turn(mux, client)
    peer.send(1, "fine")
    turn(mux, client)
    assert dict(requests) == {0: first}
    assert second.done
    assert repr(second) == "<Call 1 y answered>"


def test_a_value_that_cannot_be_sent(mux, pair):
    client, _peer = pair
    for bad in (object(), {1, 2}):
        with pytest.raises(EncodeError):
            client.x(bad, 1)
    assert not client.has_requests()
    assert client.x().id == 0


def test_foreign_events_come_back(mux, pair):
    client, peer = pair
    event = Read(peer.sock, b"x")
    assert client.io(event) is event
    assert client.io(None) is None


# Results


def test_result(mux, pair):
    client, peer = pair
    call = client.x()
    turn(mux, client)
    peer.send(0, "sum", 5, "items", [1])
    reply = call.result(5)
    assert reply == ("sum", 5, "items", [1])
    assert reply["sum"] == 5
    assert reply[1] == 5
    assert reply[2:] == ("items", [1])
    assert reply.pairs() == {"sum": 5, "items": [1]}
    assert call.result() is reply
    with pytest.raises(KeyError, match="product"):
        reply["product"]


def test_a_reply_that_is_no_pairs():
    text = r"^a reply of 3 is no names and values: read it by index, as reply\[0\]$"
    with pytest.raises(ValueError, match=text):
        Reply((1, 2, 3)).pairs()
    with pytest.raises(ValueError, match="int stands for a name"):
        Reply((1, 2))["x"]


def test_result_keeps_the_events_of_others_in_order(mux, pair):
    client, peer = pair
    a, b = socket.socketpair()
    with b:
        mux.add(a)
        assert mux.mux(0, only=a).type == "ready"
        call = client.x()
        assert mux.mux(0, only=client.fh).type == "ready"
        b.sendall(b"one")
        assert mux.mux(0, only=client.fh).type == "timeout"
        b.sendall(b"two")
        b.close()
        peer.send(0, "answer")
        assert call.result(5) == ("answer",)
        events = turn(mux, client)
        assert [event.type for event in events][-2:] == ["closing", "closed"]
        assert b"".join(e.data for e in events if e.type == "read") == b"onetwo"
        assert {event.fh for event in events} == {a}


def test_result_times_out_and_the_call_stays(mux, pair):
    client, peer = pair
    call = client.x()
    with pytest.raises(CallTimeout, match="x: no answer within 0 seconds"):
        call.result(0)
    with pytest.raises(TimeoutError):
        call.result(0.001)
    assert client.has_requests()
    peer.send(0, "late")
    assert call.result(5) == ("late",)


def test_result_in_a_callback_sees_answers_that_are_here_already(mux, pair):
    client, peer = pair
    order = []
    second = None

    def done(*values):
        order.append(("first", second.result(5)))

    client.x(done)
    second = client.y(lambda *values: order.append(("second", values)))
    turn(mux, client)
    peer.sock.sendall(peer.packet(0, "a") + peer.packet(1, "b"))
    turn(mux, client)
    assert order == [("second", ("b",)), ("first", ("b",))]


def test_wait(mux, pair):
    client, peer = pair
    first, second, third = client.x(), client.y(), client.z()
    assert client.wait(0) is False
    turn(mux, client)
    peer.send(1)
    assert client.wait(5, second) is True
    assert client.wait(0, first, 1) is False
    peer.send(0)
    assert client.wait(5, 0, 1) is True
    peer.send(2)
    assert client.wait(None) is True
    assert third.done
    assert client.wait(0) is True


# Connecting


@pytest.mark.parametrize("url", ["tcp://localhost:0", "tcp://127.0.0.1:0", "unix://{}/socket"])
def test_client_and_server_on_one_mux(mux, codec, tmp_path, url):
    server = Server(mux, {"rpc_add": lambda caller, n1, n2: server.return_(caller, sum=n1 + n2)})
    name = server.listen(url.format(tmp_path)).getsockname()
    address = f"unix://{name}" if isinstance(name, str) else f"tcp://localhost:{name[1]}"
    client = Client(mux, address, codec=codec)
    sums = []
    for number in range(1000):
        client.add(lambda sum: sums.append(sum), n1=number, n2=1)
    while client.has_requests():
        assert client.io(server.io(mux.mux())) is None
    assert sums == list(range(1, 1001))


def test_nobody_is_there(mux, nobody, tmp_path):
    client = Client(mux, nobody)
    with pytest.raises(Disconnected, match=f"^x: {nobody}: {REFUSED}"):
        client.x().result(5)
    client = Client(mux, f"unix://{tmp_path}/nothing")
    with pytest.raises(
        Disconnected, match=r": No such file or directory: is the server running\?$"
    ):
        client.x().result(5)
    client.disconnect()


def test_nobody_is_there_and_nobody_asks(mux, nobody, caplog):
    client = Client(mux, nobody)
    client.x()
    call = client.y()
    turn_until_idle(mux, client)
    with pytest.raises(Disconnected, match=REFUSED):
        call.result()
    del call
    gc.collect()
    text = f"x: {nobody}: Connection refused: is the server running?"
    assert warnings_of(caplog) == [f"a call without a callback failed: {text}"]


def test_nobody_is_there_and_the_program_has_disconnected(mux, nobody, caplog):
    client = Client(mux, nobody)
    client.x()
    client.disconnect()
    turn_until_idle(mux, client)
    gc.collect()
    assert warnings_of(caplog) == []


def turn_until_idle(mux, client):
    while (event := mux.mux()) is not None:
        client.io(event)


def test_wrong_calls_raise_at_the_call(mux):
    with pytest.raises(URLError, match="http"):
        Client(mux, "http://localhost")
    with pytest.raises(URLError, match="cannot pass arguments"):
        Client(mux, "tcp://localhost:1", "argument")
    with pytest.raises(ValueError, match="codec is 'xml'"):
        Client(mux, "tcp://localhost:1", codec="xml")
    with pytest.raises(ValueError, match="max_packet is 0"):
        Client(mux, "tcp://localhost:1", max_packet=0)
    for wrong in (5, None, mux, b"tcp://localhost:1"):
        with pytest.raises(TypeError, match="^server is .*, must be a URL such as 'tcp://host:po"):
            Client(mux, wrong)
    with pytest.raises(
        TypeError, match=r"^Client\('tcp://h:1'\): the mux comes first: Client\(mux"
    ):
        Client("tcp://h:1")
    with pytest.raises(TypeError, match="the mux comes first"):
        Client("tcp://h:1", mux)
    with pytest.raises(TypeError, match="has no option 'tiemout'; did you mean 'timeout'"):
        Client(mux, "tcp://localhost:1", tiemout=3)
    with pytest.raises(TypeError, match="has no option 'xyz'$"):
        Client(mux, "tcp://localhost:1", xyz=3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'server'"):
        Client(mux)
    assert mux.handles() == []


def test_only_events_can_be_given_to_io(mux, pair):
    client, _ = pair
    for wrong in (mux, mux.mux, "read", 5):
        with pytest.raises(TypeError, match=r"must be an event or None: rpc.io\(mux.mux\(\)\)$"):
            client.io(wrong)
    assert turn(mux, client) == []
