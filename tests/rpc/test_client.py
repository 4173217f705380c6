import gc
import logging
import socket
import sys
import weakref

import pytest
from support.peers import Peer

from eventmux import Error, EventMux, Read, URLError
from rpcasync import (
    ArgumentError,
    CallTimeout,
    Client,
    Disconnected,
    EncodeError,
    JSONCodec,
    RemoteError,
    Reply,
    Server,
    StorableCodec,
)


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


@pytest.fixture(params=["storable", "json"])
def codec(request):
    return request.param


@pytest.fixture
def pair(mux, codec):
    """A client, and the server's end of its socket in our hands."""
    ours, theirs = socket.socketpair()
    with theirs:
        peer = Peer(theirs, {"storable": StorableCodec, "json": JSONCodec}[codec]())
        yield Client(mux, ours, codec=codec), peer


def turn(mux, *clients):
    """Run the loop until nothing happens; return the events that were nobody's."""
    foreign = []
    while (event := mux.mux(0)).type != "timeout":
        for client in clients:
            event = client.io(event)
        if event is not None:
            foreign.append(event)
    return foreign


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


def test_calls_of_a_turn_leave_in_one_write(mux, pair, monkeypatch):
    client, peer = pair
    writes = []
    stream = mux._stream(client.fh)
    send = stream._send
    monkeypatch.setattr(stream, "_send", lambda data: writes.append(1) or send(data))
    for _ in range(100):
        client.x()
    assert writes == []
    turn(mux, client)
    assert len(peer.read()) == 100
    assert writes == [1]


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
    with pytest.raises(ValueError, match="3 values are not names and values"):
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
        assert mux.mux(0, only=client.fh).type == "sent"
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


# Errors


def test_a_remote_error(mux, pair):
    client, peer = pair
    errors = []
    call = client.x(lambda answer=None, error=None: errors.append(error))
    turn(mux, client)
    peer.send(0, "error", "no luck")
    turn(mux, client)
    (error,) = errors
    assert isinstance(error, RemoteError)
    assert str(error) == "no luck"
    assert repr(call) == "<Call 0 x failed>"
    with pytest.raises(RemoteError, match="no luck"):
        call.result()


def test_an_error_without_a_parameter_for_it_is_raised_out_of_io(mux, pair):
    client, peer = pair
    client.x(lambda sum: None)
    turn(mux, client)
    peer.send(0, "error", "no luck")
    with pytest.raises(RemoteError, match="^no luck$"):
        turn(mux, client)


def test_an_error_without_a_callback_waits_for_result(mux, pair):
    client, peer = pair
    call, other = client.x(), client.y()
    turn(mux, client)
    peer.send(0, "error", "no luck")
    peer.send(1, "fine")
    assert other.result(5) == ("fine",)
    with pytest.raises(RemoteError):
        call.result()


def test_an_answer_that_does_not_fit_goes_to_the_error_parameter(mux, pair):
    client, peer = pair
    errors = []
    client.x(lambda sum=None, error=None: errors.append(error))
    turn(mux, client)
    peer.send(0, "odd")
    turn(mux, client)
    assert isinstance(errors[0], ArgumentError)


def test_a_callback_may_ask_for_the_result_of_another_lost_call(mux, pair):
    client, peer = pair
    seen = []

    def done(error=None):
        with pytest.raises(Disconnected):
            second.result()
        seen.append(type(error))

    client.x(done)
    second = client.y()
    turn(mux, client)
    peer.sock.close()
    turn(mux, client)
    assert seen == [Disconnected]


def test_a_lost_call_is_done_although_a_callback_ends_the_program(mux, pair):
    client, peer = pair
    client.x(lambda error=None: sys.exit(1))
    second = client.y()
    turn(mux, client)
    peer.sock.close()
    with pytest.raises(SystemExit):
        turn(mux, client)
    with pytest.raises(Disconnected):
        second.result()


def test_garbage_after_a_failed_write_ends_the_connection(mux, pair):
    client, peer = pair
    call = client.x()
    turn(mux, client)
    assert client.io(Error(client.fh, "Broken pipe")) is None
    peer.sock.sendall(b"\0\0\0\0")
    with pytest.raises(Disconnected, match="packet too short"):
        call.result(5)


def test_a_callback_that_raises_harms_no_other(mux, pair, caplog):
    client, peer = pair
    got = []

    def fail(*values):
        raise LookupError(values[0])

    for callback in (fail, got.append, fail, got.append):
        client.x(callback)
    turn(mux, client)
    peer.sock.sendall(b"".join(peer.packet(id, f"answer {id}") for id in range(4)))
    with pytest.raises(LookupError, match="answer 0"):
        turn(mux, client)
    assert got == ["answer 1", "answer 3"]
    assert not client.has_requests()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "callback of x failed"
    assert str(record.exc_info[1]) == "answer 2"


def test_an_answer_that_does_not_fit_its_callback(mux, pair):
    client, peer = pair
    client.x(lambda sum: None)
    turn(mux, client)
    peer.send(0, "product", 5)
    with pytest.raises(ArgumentError, match="^answer of x, to its callback: unknown name product$"):
        turn(mux, client)


def test_garbage_from_the_server(mux, pair, caplog):
    client, peer = pair
    good, bad = client.x(), client.y()
    turn(mux, client)
    peer.sock.sendall(peer.packet(0, "fine") + b"\0\0\0\0")
    assert good.result(5) == ("fine",)
    with pytest.raises(Disconnected, match="y: .*: packet too short: header announces -4"):
        bad.result(5)
    with pytest.raises(Disconnected, match="packet too short"):
        client.z().result(5)
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


# The end of the connection


def test_losing_the_server_fails_every_pending_call(mux, pair, caplog):
    client, peer = pair
    errors = []
    call = client.x()
    client.x(lambda error=None: errors.append(error))
    client.x(lambda **named: errors.append(named["error"]))
    client.x(lambda sum: None)
    client.x(lambda sum: None)
    turn(mux, client)
    peer.sock.close()
    with pytest.raises(Disconnected, match="^x: <socket.*: "):
        turn(mux, client)
    assert [type(error) for error in errors] == [Disconnected, Disconnected]
    with pytest.raises(ConnectionError):
        call.result()
    assert not client.has_requests()
    assert [record.message for record in caplog.records] == ["callback of x failed"]
    turn(mux, client)


def test_a_call_after_the_end_fails_like_one_before(mux, pair):
    client, peer = pair
    peer.sock.close()
    turn(mux, client)
    errors = []
    client.x(lambda error=None: errors.append(str(error)))
    client.x(lambda error=None: errors.append(str(error)))
    assert errors == []  # nothing runs outside io()
    assert turn(mux, client) == []
    assert errors == [f"x: {client._name}: the server closed the connection"] * 2
    assert not client.has_requests()


def test_answers_before_the_end_are_handed_over(mux, pair):
    client, peer = pair
    got = []
    client.x(got.append)
    client.x(lambda value=None, error=None: got.append(type(error)))
    turn(mux, client)
    peer.send(0, "in time")
    peer.sock.close()
    turn(mux, client)
    assert got == ["in time", Disconnected]


def test_an_idle_client_that_loses_its_server_is_quiet(mux, pair):
    client, peer = pair
    turn(mux, client)
    peer.sock.close()
    assert turn(mux, client) == []


def test_disconnect_sends_what_was_called_and_fails_what_is_pending(mux, pair):
    client, peer = pair
    errors = []
    call = client.note(lambda error=None: errors.append(str(error)))
    client.disconnect()
    assert peer.read() == [[0, "note"]]
    assert peer.ended
    assert errors == []  # nothing runs outside io()
    assert client.has_requests()
    assert turn(mux, client) == []
    assert errors == [f"note: {client._name}: disconnected"]
    with pytest.raises(Disconnected):
        call.result()
    with pytest.raises(Disconnected, match="disconnected"):
        client.x().result(5)
    client.disconnect()


def test_result_after_disconnect_does_not_wait(mux, pair):
    client, _ = pair
    call = client.x()
    client.disconnect()
    with pytest.raises(Disconnected, match="disconnected"):
        call.result()


def test_a_socket_that_the_program_removed_itself(mux, pair):
    client, _ = pair
    call = client.x()
    mux.remove(client.fh)
    with pytest.raises(Disconnected, match="not watched any more"):
        call.result(5)
    client.fh.close()


def test_calling_on_a_socket_that_the_program_killed(mux, pair):
    client, _ = pair
    mux.kill(client.fh)
    call = client.x()
    with pytest.raises(Disconnected, match="the socket was closed"):
        call.result(5)


def test_foreign_events_come_back(mux, pair):
    client, peer = pair
    event = Read(peer.sock, b"x")
    assert client.io(event) is event
    assert client.io(None) is None


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


def test_nobody_is_there(mux, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(mux, f"tcp://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Disconnected, match=r"^x: tcp://127.0.0.1:\d+: Connection refused$"):
            client.x().result(5)
    client = Client(mux, f"unix://{tmp_path}/nothing")
    with pytest.raises(Disconnected, match="No such file or directory"):
        client.x().result(5)
    client.disconnect()


def test_wrong_calls_raise_at_the_call(mux):
    with pytest.raises(URLError, match="http"):
        Client(mux, "http://localhost")
    with pytest.raises(URLError, match="cannot pass arguments"):
        Client(mux, "tcp://localhost:1", "argument")
    with pytest.raises(ValueError, match="codec is 'xml'"):
        Client(mux, "tcp://localhost:1", codec="xml")
    with pytest.raises(ValueError, match="max_packet is 0"):
        Client(mux, "tcp://localhost:1", max_packet=0)
    with pytest.raises(TypeError, match="cannot watch 5: not a stream socket"):
        Client(mux, 5)
    assert mux.handles() == []


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


def test_the_end_of_a_block_disconnects(mux, pair):
    client, peer = pair
    with client as same:
        assert same is client
        client.note()
        assert repr(client).endswith("1 calls pending>")
    assert peer.read() == [[0, "note"]]
    assert peer.ended


def test_what_does_not_leave_at_once_leaves_as_the_loop_turns(mux, pair):
    client, peer = pair
    client.note("x" * 5_000_000)
    client.disconnect()
    packets = []
    while not peer.ended:
        packets += peer.read()
        turn(mux, client)
    assert [packet[:2] for packet in packets] == [[0, "note"]]
    assert not client.has_requests()


def test_a_callback_that_can_take_no_answer_is_a_wrong_call(mux, pair):
    client, _ = pair
    with pytest.raises(ArgumentError, match="takes a list, but requires must by name"):
        client.x(lambda *values, must: None)
    assert not client.has_requests()
