import contextlib
import gc
import logging
import socket
import struct
import sys
import types

import pytest
from support.peers import Bench, Peer

from eventmux import Connect, Event, EventMux, Read
from rpcasync import (
    Client,
    EncodeError,
    Fault,
    JSONCodec,
    RemoteError,
    Server,
    StorableCodec,
    url_connect,
)


class Procedures:
    """What the tests call."""

    def __init__(self):
        self.parked = []
        self.ran = []

    def rpc_add(self, caller, n1: int, n2: int):
        self.bench.rpc.return_(caller, sum=n1 + n2)

    def rpc_list(self, caller, *values):
        self.bench.rpc.return_(caller, *values)

    def rpc_both(self, caller):
        self.bench.rpc.return_(caller, 1, two=2)

    def rpc_park(self, caller):
        self.parked.append(caller)

    def rpc_forget(self, caller):
        pass

    def rpc_fault(self, caller):
        raise Fault("not for you")

    def rpc_explode(self, caller):
        raise RuntimeError("secret")

    def rpc_note(self, caller, n):
        self.ran.append(n)
        self.bench.rpc.return_(caller)

    def rpc_unsendable(self, caller):
        self.bench.rpc.return_(caller, object())

    def rpc_twice(self, caller):
        self.bench.rpc.return_(caller, 1)
        self.bench.rpc.return_(caller, 2)

    def rpc_late_fault(self, caller):
        self.bench.rpc.return_(caller, 1)
        raise Fault("too late")

    def rpc_big(self, caller, size: int):
        self.ran.append(size)
        self.bench.rpc.return_(caller, "x" * size)


@pytest.fixture
def procedures():
    return Procedures()


@pytest.fixture
def bench(procedures):
    with EventMux() as mux:
        bench = procedures.bench = Bench(mux, procedures)
        yield bench
        bench.close()


def log_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# Answers


def test_names_and_lists(bench):
    peer = bench.peer()
    assert bench.ask(peer, 0, "add", "n1", "2", "n2", 3) == [[0, "sum", 5]]
    assert bench.ask(peer, 1, "list", 1, None, "x") == [[1, 1, None, "x"]]
    assert bench.ask(peer, 2, "both") == [[2, 1, "two", 2]]


def test_ids_go_back_as_they_came(bench):
    peer = bench.peer()
    assert bench.ask(peer, "7", "list") == [["7"]]
    assert bench.ask(peer, -1, "list") == [[-1]]


def test_each_client_in_its_own_codec(bench):
    perl, json = bench.peer(StorableCodec()), bench.peer(JSONCodec())
    perl.send(0, "list", "caf\xe9")
    json.send(0, "list", "caf\xe9")
    bench.turn()
    assert perl.read() == json.read() == [[0, "caf\xe9"]]


def test_answers_of_a_turn_leave_in_one_write(bench, monkeypatch):
    peer = bench.peer()
    writes = []
    stream = bench.mux._stream(next(iter(bench.rpc.clients)))
    send = stream._send
    monkeypatch.setattr(stream, "_send", lambda data: writes.append(len(data)) or send(data))
    peer.sock.sendall(b"".join(peer.packet(id, "list") for id in range(100)))
    bench.turn()
    assert len(peer.read()) == 100
    assert len(writes) == 1


def test_a_parked_call_is_answered_later_and_once(bench, procedures):
    peer = bench.peer()
    assert bench.ask(peer, 0, "park") == []
    (caller,) = procedures.parked
    assert (caller.id, caller.procedure, caller.alive) == (0, "park", True)
    assert bench.rpc.return_(caller, "late") is True
    with pytest.raises(ValueError, match=r"<Caller 0 park of fd \d+> is answered already"):
        bench.rpc.return_(caller, "again")
    with pytest.raises(ValueError, match="answered already"):
        bench.rpc.error(caller, "again")
    bench.turn()
    assert peer.read() == [[0, "late"]]


def test_a_client_that_has_gone_is_a_no_op(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    bench.ask(peer, 1, "park")
    peer.sock.close()
    bench.turn()
    first, second = procedures.parked
    assert not first.alive
    assert bench.rpc.return_(first, 1) is False
    assert bench.rpc.error(second, "x") is False
    with pytest.raises(ValueError, match="answered already"):
        bench.rpc.return_(first, 1)


def test_a_socket_that_the_program_killed_itself(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    (caller,) = procedures.parked
    bench.mux.kill(caller.fh)
    assert bench.rpc.return_(caller, 1) is False
    assert bench.rpc.clients == set()


def test_wrong_calls_raise_at_the_call(bench, procedures):
    bench.ask(bench.peer(), 0, "park")
    with pytest.raises(TypeError, match="caller is 'x', must be what the procedure was given"):
        bench.rpc.return_("x", 1)
    with pytest.raises(TypeError, match="error text is 5, must be a str"):
        bench.rpc.error(procedures.parked[0], 5)
    with pytest.raises(EncodeError):
        bench.rpc.return_(procedures.parked[0], object())
    assert bench.rpc.return_(procedures.parked[0], "fine") is True
    with pytest.raises(ValueError, match="max_packet is 3"):
        Server(bench.mux, max_packet=3)
    with pytest.raises(ValueError, match="codecs is empty"):
        Server(bench.mux, codecs=[])


# What goes wrong in a call


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (["nothing"], "No sub 'nothing' in package 'Procedures'"),
        (["__init__"], "No sub '__init__' in package 'Procedures'"),
        (["../x"], "No sub '../x' in package 'Procedures'"),
        ([""], "No sub '' in package 'Procedures'"),
        (["x" * 10_000_000], f"No sub '{'x' * 57}...' in package 'Procedures'"),
        (["add", "n1", 1], "add: n2 is missing"),
        (["add", "n1", 1, "n2"], "add: takes names and values, got an odd number of them: 3"),
        (["add", "n1", 1, "n2", []], "add: n2: cannot convert list to int"),
        (["add", "n1", 1, "n2", 2, "n3", 3], "add: unknown name n3"),
        (["fault"], "not for you"),
        (["forget"], "forget: did not answer"),
        (["unsendable"], "unsendable: the answer cannot be sent"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_errors_that_the_client_survives(bench, call, text):
    peer = bench.peer()
    assert bench.ask(peer, 0, *call) == [[0, "error", text, "errors", [text]]]
    assert bench.ask(peer, 1, "add", "n1", 1, "n2", 1) == [[1, "sum", 2]]


def test_a_failure_ends_its_client_but_no_packet_is_lost(bench, procedures, caplog):
    peer, other = bench.peer(), bench.peer()
    packets = [("note", "n", 1), ("explode",), ("note", "n", 2)]
    peer.sock.sendall(b"".join(peer.packet(id, *call) for id, call in enumerate(packets)))
    other.send(0, "note", "n", 3)
    bench.turn()
    assert procedures.ran == [1, 2, 3]
    assert peer.read() == [[0], [2]]
    assert peer.ended
    assert other.read() == [[0]]
    assert not other.ended
    assert len(bench.rpc.clients) == 1
    failure, disconnect = caplog.records[-2:]
    assert failure.message == "procedure explode failed"
    assert str(failure.exc_info[1]) == "secret"
    assert "disconnected: procedure explode failed" in disconnect.message


def test_a_call_that_is_forgotten_later(bench, procedures, caplog):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    procedures.parked.clear()
    gc.collect()
    assert bench.rpc.io(None) is None
    bench.turn()
    assert peer.read() == [[0, "error", "park: did not answer", "errors", ["park: did not answer"]]]
    assert log_of(caplog) == ["procedure park dropped call 0 without an answer"]


def test_a_forgotten_call_of_a_client_that_has_gone(bench, procedures, caplog):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    peer.sock.close()
    bench.turn()
    procedures.parked.clear()
    gc.collect()
    bench.rpc.io(None)
    assert log_of(caplog) == []


def test_an_error_that_cannot_be_sent_ends_the_connection(caplog):
    with EventMux() as mux:
        bench = Bench(mux, {"rpc_forget": lambda caller: None}, max_packet=50)
        for procedure in ("nothing", "forget"):
            peer, other = bench.peer(), bench.peer()
            assert bench.ask(peer, 0, procedure) == []
            assert peer.ended
            assert not other.ended
            assert "an error cannot be sent to it: packet of" in log_of(caplog)[-1]
        bench.close()


def test_a_property_that_fails_harms_only_its_client(bench, monkeypatch):
    monkeypatch.setattr(Procedures, "rpc_bad", property(lambda self: 1 / 0), raising=False)
    peer, other = bench.peer(), bench.peer()
    assert bench.ask(peer, 0, "bad") == []
    assert peer.ended
    assert bench.ask(other, 0, "list") == [[0]]


def test_a_value_that_a_procedure_returns_is_no_answer(bench, caplog, monkeypatch):
    monkeypatch.setattr(Procedures, "rpc_value", lambda self, caller: {"sum": 5}, raising=False)
    assert bench.ask(bench.peer(), 0, "value")[0][2] == "value: did not answer"
    assert log_of(caplog)[0] == "procedure value returned dict, which is ignored"
    assert repr(bench.rpc) == "<Server 1 clients, 0 listeners>"


def test_two_answers_are_the_programs_mistake(bench):
    peer = bench.peer()
    assert bench.ask(peer, 0, "twice") == [[0, 1]]
    assert peer.ended


def test_a_fault_after_the_answer_is_logged(bench, caplog):
    peer = bench.peer()
    assert bench.ask(peer, 0, "late_fault") == [[0, 1]]
    assert log_of(caplog) == ["procedure late_fault failed after its answer: too late"]
    assert not peer.ended


def test_methods(bench):
    (answer,) = bench.ask(bench.peer(), 0, "methods")
    names = [name.removeprefix("rpc_") for name in dir(Procedures) if name.startswith("rpc_")]
    assert answer == [0, "methods", {name: {} for name in names}]


# What is wrong on the wire


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\0\0\0\0", "packet too short: header announces -4 bytes"),
        (b"\0\0\0\x06xx", "packet too short: header announces 2 bytes"),
        (b"\xff\xff\xff\xff", "packet of 4294967295 bytes, limit is 16777216"),
        (b"GET / HTTP/1.1\r\n", "packet of 1195725856 bytes, limit is 16777216"),
        (b"\0\0\0\x0aGARBAG", "bad-header"),
        (b"\0\0\0\x0a\x04\x0b\x08123", "native-order"),
        (b"\0\0\0\x0b\x05\x0b\x02\0\0\0\x05", "truncated"),
        (b"\0\0\0\x07[7]", "not a call: list of length 1"),
        (b"\0\0\0\x07[7[", "bad-json"),
        (b"\0\0\0\x0a[{},3]", "the procedure is int"),
        (b'\0\0\0\x0b[{},""]', "the id is dict"),
    ],
)
def test_malformed_packets(bench, caplog, stream, why):
    peer, other = bench.peer(), bench.peer()
    peer.send(0, "add", "n1", 1, "n2", 1)
    bench.turn()
    assert peer.read() == [[0, "sum", 2]]
    fresh = bench.peer()
    fresh.sock.sendall(stream)
    bench.turn()
    assert fresh.read() == []
    assert fresh.ended
    (line,) = log_of(caplog)
    assert "disconnected: " in line
    assert why in line
    assert "\n" not in line
    assert len(line) < 300
    assert bench.ask(other, 0, "add", "n1", 1, "n2", 2) == [[0, "sum", 3]]
    assert len(bench.rpc.clients) == 2


def test_calls_in_front_of_a_malformed_packet_are_answered(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list", 1) + b"\0\0\0\x01" + peer.packet(1, "list", 2))
    bench.turn()
    assert peer.read() == [[0, 1]]
    assert peer.ended


def test_half_a_header_waits_and_harms_nobody(bench):
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(b"\0\0")
    bench.turn()
    assert bench.ask(other, 0, "list") == [[0]]
    assert len(bench.rpc.clients) == 2
    peer.sock.sendall(peer.packet(0, "list", "x")[2:])
    bench.turn()
    assert peer.read() == [[0, "x"]]


def test_a_client_that_closes_in_the_middle_of_a_packet(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list")[:-1])
    peer.sock.close()
    bench.turn()
    assert bench.rpc.clients == set()


def test_a_client_that_closes_in_the_middle_of_an_answer(bench):
    peer, other = bench.peer(), bench.peer()
    peer.send(0, "big", "size", 3_000_000)
    bench.turn()
    assert len(peer.sock.recv(1000)) == 1000
    peer.sock.close()
    bench.turn()
    assert len(bench.rpc.clients) == 1
    assert bench.ask(other, 0, "list") == [[0]]


def test_a_client_that_asks_and_shuts_down_its_side_is_answered(bench):
    peer = bench.peer()
    peer.send(0, "big", "size", 3_000_000)
    peer.send(1, "list", "last")
    peer.sock.shutdown(socket.SHUT_WR)
    packets = []
    while not peer.ended:
        bench.turn()
        packets += peer.read()
    assert [packet[0] for packet in packets] == [0, 1]
    assert bench.rpc.clients == set()


def test_a_client_that_does_not_read_is_not_served(bench, procedures):
    peer, other = bench.peer(), bench.peer()
    for id in range(100):
        peer.send(id, "big", "size", 500_000)
    bench.turn()
    served = len(procedures.ran)
    assert served < 10
    bench.turn()
    assert len(procedures.ran) == served
    assert bench.ask(other, 0, "list") == [[0]]
    packets = []
    while len(packets) < 100:
        packets += peer.read()
        bench.turn()
    assert [packet[0] for packet in packets] == list(range(100))


def test_a_client_that_stops_reading_half_way_is_not_read_from(bench, procedures):
    peer = bench.peer()
    peer.send(0, "big", "size", 3_000_000)
    bench.turn()
    (fh,) = bench.rpc.clients
    while bench.mux.buflen(fh) > 800_000:  # below the mark, and never empty
        peer.sock.recv(100_000)
        bench.turn()
    for id in range(1, 50):
        peer.send(id, "note", "n", id)
        bench.turn()
    assert procedures.ran == [3_000_000]
    while len(procedures.ran) < 50:
        peer.sock.recv(100_000)
        bench.turn()
    assert procedures.ran == [3_000_000, *range(1, 50)]


def test_a_large_answer_that_came_late_does_not_stop_what_follows(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    bench.rpc.return_(procedures.parked[0], "x" * 3_000_000)
    packets = []
    while not packets:
        bench.turn()
        packets += peer.read()
    bench.turn()
    assert bench.ask(peer, 1, "list", "next") == [[1, "next"]]


def test_a_slow_reader_is_given_no_more_to_wait_for(bench, procedures):
    peer = bench.peer()
    request = peer.packet(0, "big", "size", 300_000)
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            peer.sock.send(request * 1000)
        bench.turn()
        with contextlib.suppress(BlockingIOError):
            peer.sock.recv(300_000)
    (client,) = bench.rpc._connections.by_fh.values()
    assert len(client.protocol._framing._frames) * len(request) < 200_000


def test_a_client_that_cannot_be_written_to_is_served_to_the_end(bench, procedures):
    peer = bench.peer()
    peer.send(0, "big", "size", 4_000_000)
    bench.turn()
    peer.sock.shutdown(socket.SHUT_RD)
    peer.sock.recv(1_000_000)  # so that the next write is tried, and fails
    bench.turn()
    peer.send(1, "note", "n", 1)
    bench.turn()
    assert procedures.ran == [4_000_000, 1]


def test_a_client_that_shuts_down_and_does_not_read_is_served_bit_by_bit(bench, procedures):
    peer = bench.peer()
    peer.sock.sendall(b"".join(peer.packet(id, "big", "size", 500_000) for id in range(100)))
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert len(procedures.ran) < 10
    packets = []
    while not peer.ended:
        packets += peer.read()
        bench.turn()
    assert [packet[0] for packet in packets] == list(range(100))


def test_a_procedure_may_kill_its_client_and_fail(bench, procedures, caplog):
    def rpc_bye(caller):
        bench.mux.kill(caller.fh)
        raise ValueError("then this")

    procedures.rpc_bye = rpc_bye
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(peer.packet(0, "bye") + peer.packet(1, "list"))
    bench.turn()
    assert peer.read() == []
    assert bench.ask(other, 0, "list") == [[0]]
    assert len(bench.rpc.clients) == 1


def test_a_procedure_may_kill_its_client_and_answer(bench, procedures):
    def rpc_bye(caller):
        bench.mux.kill(caller.fh)
        assert bench.rpc.return_(caller) is False

    procedures.rpc_bye = rpc_bye
    bench.ask(bench.peer(), 0, "bye")
    assert [event.type for event in bench.foreign] == ["closed"]  # the program did it
    assert not bench.rpc.has_clients()


def test_errors_that_storable_cannot_carry_are_made_to_fit(bench, procedures):
    procedures.rpc_long = lambda caller: bench.rpc.error(caller, "x" * 20_000_000)
    procedures.rpc_odd = lambda caller: bench.rpc.error(caller, "caf\udce9")

    def rpc_empty(caller):
        raise Fault

    procedures.rpc_empty = rpc_empty
    peer = bench.peer()
    assert bench.ask(peer, 0, "long")[0][2] == "x" * 4093 + "..."
    assert bench.ask(peer, 1, "odd")[0][2] == "caf\\udce9"
    assert bench.ask(peer, 2, "empty")[0][2] == "failed"


def test_the_loop_does_not_end_before_ready_answers_are_sent(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list", 1) + b"\0\0\0\1")
    while bench.rpc.has_clients():
        bench.rpc.io(bench.mux.mux())
    assert peer.read() == [[0, 1]]
    assert peer.ended


def test_a_connection_accepted_before_the_listener_closed_is_served(bench):
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    with url_connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as sock:
        while not bench.mux.has_events():
            bench.mux.mux(0, only=listener)
        bench.rpc.close_listeners()
        assert bench.ask(Peer(sock), 0, "list", 1) == [[0, 1]]
    bench.turn()
    assert bench.foreign == []


def test_a_listener_that_the_program_killed_is_no_obstacle(bench):
    first, second, third = (bench.rpc.listen("tcp://127.0.0.1:0") for _ in range(3))
    bench.mux.kill(second)
    bench.rpc.close_listeners()
    bench.turn()
    assert not bench.rpc.has_clients()
    assert [sock.fileno() for sock in (first, second, third)] == [-1, -1, -1]


def test_a_call_dropped_between_two_turns_wakes_the_loop(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    procedures.parked.clear()
    bench.rpc.io(bench.mux.mux())  # does not wait for anything else
    bench.turn()
    assert peer.read()[0][2] == "park: did not answer"


def test_names_that_anybody_may_invent_leave_no_trace(caplog):
    class Proxy:
        def __getattr__(self, name):
            if not name.startswith("rpc_"):
                raise AttributeError(name)
            return lambda caller: None

    with EventMux() as mux:
        bench = Bench(mux, Proxy())
        peer = bench.peer()
        for id in range(1100):
            peer.send(id, f"evil\n{id}")
            bench.turn()
        assert len(bench.rpc._namespace._known) <= 1024
        assert all("\n" not in line for line in log_of(caplog))
        bench.close()


def test_events_whose_fh_is_no_handle(bench):
    event = Event([])
    assert bench.rpc.io(event) is event


def test_shared_structure_is_no_way_around_the_limit(bench, caplog):
    peer = bench.peer()
    levels = b"\x02\0\0\0\2\x04"
    image = b"\x05\x0b\x02\0\0\0\3\x08\x80\x0a\4list\x04" + levels * 60 + b"\x02\0\0\0\0"
    for tag in range(62, 2, -1):
        image += b"\x04\0" + struct.pack("!I", 2 * tag)
    peer.sock.sendall(struct.pack("!I", len(image) + 4) + image)
    bench.turn()
    assert peer.read() == []
    assert peer.ended
    assert "limit-size" in log_of(caplog)[-1]


@pytest.mark.parametrize(
    ("mode", "text"), [("latin-1", "caf\xc3\xa9"), ("bytes", b"caf\xc3\xa9"), ("utf-8", "caf\xe9")]
)
def test_each_way_to_read_byte_strings(mode, text):
    codec = StorableCodec(byte_strings=mode)
    seen = []

    def rpc_note(caller, value, *, more: int = 0):
        seen.append((value, more))
        bench.rpc.return_(caller, "answer", value)

    with EventMux() as mux:
        bench = Bench(mux, {"rpc_note": rpc_note}, codecs=[codec])
        listener = bench.rpc.listen("tcp://127.0.0.1:0")
        client = Client(mux, f"tcp://127.0.0.1:{listener.getsockname()[1]}", codec=codec)
        call = client.note(value="caf\xe9".encode(), more="3")
        bad = client.nothing()
        while client.has_requests():
            client.io(bench.rpc.io(mux.mux()))
        assert seen == [(text, 3)]
        assert call.result()["answer"] == text
        with pytest.raises(RemoteError, match="^No sub 'nothing' in package 'main'"):
            bad.result()


def test_a_limit_of_its_own():
    with EventMux() as mux:
        bench = Bench(mux, {"rpc_x": lambda caller: bench.rpc.return_(caller)}, max_packet=100)
        peer = bench.peer()
        assert bench.ask(peer, 0, "x") == [[0]]
        assert bench.ask(peer, 0, "x" * 100) == []
        assert peer.ended
        bench.close()


# Clients, listeners and other people's events


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "unix://{}/socket"])
def test_a_listener_brings_clients(bench, tmp_path, url):
    assert not bench.rpc.has_clients()
    listener = bench.rpc.listen(url.format(tmp_path))
    assert bench.rpc.has_clients()
    name = listener.getsockname()
    address = f"tcp://127.0.0.1:{name[1]}" if isinstance(name, tuple) else f"unix://{name}"
    with url_connect(address) as sock:
        peer = Peer(sock)
        assert bench.ask(peer, 0, "list", 1) == [[0, 1]]
        assert len(bench.rpc.clients) == 1
        bench.rpc.close_listeners()
        assert bench.rpc.has_clients()
        assert bench.ask(peer, 1, "list", 2) == [[1, 2]]
    bench.turn()
    assert not bench.rpc.has_clients()
    assert bench.foreign == []


def test_a_listener_that_cannot_be(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            bench.rpc.listen(url)
    assert not bench.rpc.has_clients()


def test_foreign_events_come_back(bench):
    class Mine(Event):
        type = "mine"

    with socket.socket() as stranger:
        for event in (Mine(), Event(), Read(stranger, b"x"), Connect(stranger, stranger)):
            assert bench.rpc.io(event) is event
    assert bench.rpc.io(None) is None


def test_two_servers_on_one_mux():
    with EventMux() as mux:
        first = Bench(mux, {"rpc_who": lambda caller: first.rpc.return_(caller, "first")})
        second = Bench(mux, {"rpc_who": lambda caller: second.rpc.return_(caller, "second")})
        one, two = first.peer(), second.peer()
        one.send(0, "who")
        two.send(0, "who")
        while (event := mux.mux(0)).type != "timeout":
            assert second.rpc.io(first.rpc.io(event)) is None
        assert one.read() == [[0, "first"]]
        assert two.read() == [[0, "second"]]
        first.close()
        second.close()


def test_the_default_namespace_is_the_module_of_the_caller():
    module = types.ModuleType("program")
    code = "def make(Server, mux): return Server(mux)\ndef rpc_mine(caller): pass"
    exec(code, vars(module))
    with EventMux() as mux:
        rpc = module.make(Server, mux)
        assert rpc._namespace.names() == ["mine"]
        assert rpc._namespace.name == "program"


def test_a_mux_that_is_only_like_one(caplog):
    class Small:
        def __init__(self):
            self.calls = []

        def add(self, fh, **options):
            self.calls.append("add")

        def send(self, fh, *data, later=False):
            self.calls.append(b"".join(data))
            return 0

        def kill(self, fh, reason=None):
            self.calls.append(f"kill: {reason}")

    mux = Small()
    rpc = Server(mux, {"rpc_x": lambda caller: rpc.return_(caller)})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rpc.add_client(ours)
        peer = Peer(theirs)
        assert rpc.io(Read(ours, peer.packet(0, "x") + struct.pack("!I", 1))) is None
        assert mux.calls[:3] == ["add", peer.packet(0), b""]
        assert mux.calls[3].startswith("kill: packet too short")
        assert rpc.clients == set()


def test_procedures_may_end_the_program(bench, procedures):
    procedures.rpc_exit = lambda caller: sys.exit(3)
    peer = bench.peer()
    peer.send(0, "exit")
    with pytest.raises(SystemExit):
        bench.turn()
