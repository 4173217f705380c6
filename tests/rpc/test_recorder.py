"""What a watched server has in its recording: who called what, and how it ended."""

from __future__ import annotations

import contextlib

import pytest
from support.peers import Bench

from rpcasync import StorableCodec
from rpcasync.recorder import Recorder
from rpcasync.recording.lines import LONGEST_PART, CallLine, Header
from rpcasync.recording.reader import Recording
from rpcasync.recording.redaction import REDACTED, Redaction
from rpcasync.recording.writer import Writer
from rpcasync.storable import Blessed, ScalarRef
from rpcasync.wire.messages import CallbackRef


class Procedures:
    def __init__(self):
        self.held = []
        self.kept = []

    def rpc_echo(self, caller, *values):
        self.rpc.return_(caller, *values)

    def rpc_refuse(self, caller, why, /):
        self.rpc.error(caller, why)

    def rpc_hold(self, caller):
        self.held.append(caller)

    def rpc_release(self, caller):
        for each in reversed(self.held):
            self.rpc.return_(each, "released")
        self.rpc.return_(caller)

    def rpc_drop(self, caller):
        pass

    def rpc_fail(self, caller):
        raise LookupError("secret")

    def rpc_count(self, caller, upto, callback, /):
        for number in range(upto):
            callback(number)
        self.kept.append(callback)
        self.rpc.return_(caller)

    def rpc_again(self, caller, *values):
        for callback in self.kept:
            callback(*values)
        self.rpc.return_(caller)

    def rpc_tell(self, caller, callback, /, *values):
        callback(*values)
        self.rpc.return_(caller)

    def rpc_forget(self, caller):
        self.kept.clear()
        self.rpc.return_(caller)

    def rpc_swallow(self, caller, *values):
        self.rpc.return_(caller)

    def rpc_shout(self, caller, times, callback, /):
        for _ in range(times):
            callback("x" * 100_000)
        self.rpc.return_(caller)

    def rpc_big(self, caller):
        self.rpc.return_(caller, "x" * (LONGEST_PART + 1))


class Recorded:
    """A server that is recorded, and what is in the file."""

    def __init__(self, mux, path, **options):
        self.path = path
        self.now = 0.0
        procedures = Procedures()
        self.bench = Bench(mux, procedures, on_exception="answer")
        procedures.rpc = self.bench.rpc
        self.procedures = procedures
        self.writer = Writer(str(path), Header("s1"))
        self.recorder = Recorder(
            self.writer, Redaction(**options), clock=lambda: self.now, now=lambda: 1e9
        )
        self.bench.rpc._forwarding.watch(self.recorder)

    def lines(self) -> list[CallLine]:
        self.recorder.flush()
        with Recording(str(self.path)) as recording:
            assert recording.problems == []
            return [each.line for each in recording]

    def line(self) -> CallLine:
        (line,) = self.lines()
        return line


@pytest.fixture
def recorded(mux, tmp_path):
    with contextlib.ExitStack() as stack:

        def make(**options) -> Recorded:
            made = Recorded(mux, tmp_path / "calls", **options)
            stack.callback(made.recorder.close)
            stack.callback(made.bench.close)
            return made

        yield make


def test_a_call_and_its_answer(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.now = 2.5
    server.bench.ask(peer, 0, "echo", "a", 1)
    assert server.line() == CallLine(
        client=1,
        call=1,
        procedure="echo",
        time="2001-09-09T01:46:42.500000Z",
        at=2.5,
        took=0.0,
        codec="typed",
        arguments=["a", 1],
        ended="answer",
        answer=["a", 1],
    )
    assert server.recorder.counts == {
        "calls": 1, "clients": 1, "written": 1, "unanswered": 0, "skipped": 0, "redacted": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("codec", "name"),
    [("storable", "typed"), (StorableCodec(typed=False), "perl"), ("json", "json")],
)
def test_the_codec_of_a_client(recorded, codec, name):
    server = recorded()
    server.bench.ask(server.bench.peer(codec), 0, "echo", "caf\xe9", 1.5, None)
    line = server.line()
    assert line.codec == name
    assert line.answer == (["caf\xe9", "1.5", None] if name == "perl" else ["caf\xe9", 1.5, None])


def test_what_only_perl_has(recorded):
    server = recorded()
    image = StorableCodec().encode([0, "echo"])
    image = (
        image[:6]
        + b"\x03"
        + image[7:]
        + b"\x04\x11\x01A\x03\x00\x00\x00\x01\x08\x81"
        + (b"\x00\x00\x00\x01k")
    )
    peer = server.bench.peer()
    peer.sock.sendall((len(image) + 4).to_bytes(4, "big") + image)
    server.bench.turn()
    assert server.line().arguments == [Blessed("A", {"k": 1})]


@pytest.mark.parametrize(
    ("call", "ended", "answer"),
    [
        (("refuse", "no"), "error", ["error", "no", "errors", ["no"]]),
        (("nosuch",), "error", None),
        (("fail",), "error", None),
        (("echo", "error", "no"), "error", ["error", "no"]),
        (("echo", "error", "no", "x", 1), "answer", ["error", "no", "x", 1]),
    ],
)
def test_errors(recorded, call, ended, answer):
    server = recorded()
    server.bench.ask(server.bench.peer(), 0, *call)
    line = server.line()
    assert line.ended == ended
    assert answer is None or line.answer == answer
    assert "secret" not in server.path.read_text()


def test_a_dropped_call_has_the_error_that_its_client_gets(recorded):
    server = recorded()
    ((_, *answer),) = server.bench.ask(server.bench.peer(), 0, "drop")
    assert server.line().answer == answer
    assert server.line().ended == "error"


def test_calls_have_numbers_in_the_order_in_which_they_came(recorded):
    server = recorded()
    one, other = server.bench.peer(), server.bench.peer()
    server.bench.ask(one, 0, "hold")
    server.bench.ask(other, 0, "echo")
    server.bench.ask(one, 1, "release")
    found = [(line.call, line.client, line.procedure) for line in server.lines()]
    assert found == [(1, 1, "hold"), (2, 2, "echo"), (3, 1, "release")]
    assert server.path.read_text().splitlines()[1].count('"procedure": "echo"') == 1  # ended first


def test_a_client_that_goes_before_its_answer(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "hold")
    assert server.recorder.under_way == 1
    peer.sock.close()
    server.bench.turn()
    line = server.line()
    assert (line.ended, line.answer) == ("gone", None)
    assert server.recorder.under_way == 0


def test_a_call_that_is_under_way_at_the_end(recorded):
    server = recorded()
    server.bench.ask(server.bench.peer(), 0, "hold")
    assert server.lines() == []
    server.recorder.close()
    assert server.line().ended == "open"
    server.procedures.held.clear()
    server.bench.turn()  # and goes on after it


def test_two_calls_of_one_id_are_two(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 7, "hold")
    server.bench.ask(peer, 7, "echo", "x")
    assert [(line.procedure, line.ended) for line in server.lines()] == [
        ("hold", "open"),
        ("echo", "answer"),
    ]


# ---- callbacks -------------------------------------------------------------------------------


def test_callbacks_until_the_answer_stand_with_their_call(recorded):
    server = recorded()
    server.bench.ask(server.bench.peer(), 0, "count", 3, CallbackRef(9))
    line = server.line()
    assert line.arguments == [3, CallbackRef(9)]
    assert line.callbacks == [(9, [0]), (9, [1]), (9, [2])]


def test_later_ones_are_found_with_it_too(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "count", 1, CallbackRef(9))
    server.bench.ask(peer, 1, "again", {"a": [1]})
    server.bench.ask(peer, 2, "forget")
    first, *others = server.lines()
    assert first.callbacks == [(9, [0]), (9, [{"a": [1]}]), (9, None)]
    assert [line.callbacks for line in others] == [[], []]


def test_an_id_that_is_used_again_is_of_the_newer_call(recorded):
    server = recorded()
    peer = server.bench.peer()
    for number in range(2):
        server.bench.ask(peer, 2 * number, "count", 1, CallbackRef(9))
        server.bench.ask(peer, 2 * number + 1, "forget")
    assert [line.callbacks for line in server.lines()] == [[(9, [0]), (9, None)], []] * 2


def test_callbacks_deep_in_the_arguments(recorded):
    server = recorded()
    value = {"key": [ScalarRef(CallbackRef(4))]}
    server.bench.ask(server.bench.peer(), 0, "echo", 1, value)
    line = server.lines()[0]
    assert line.arguments == [1, value]


# ---- redaction and sizes ---------------------------------------------------------------------


def test_secrets_stand_nowhere(recorded):
    server = recorded(names=["password"], procedures=["hush"])
    server.procedures.rpc_hush = server.procedures.rpc_echo
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "echo", "password", "s3cret-1", "deep", [{"password": ["s3cret-2"]}])
    server.bench.ask(peer, 1, "hush", "s3cret-3", {"x": "s3cret-4"})
    server.bench.ask(peer, 2, "count", 1, CallbackRef(9))
    server.bench.ask(peer, 3, "again", "password", b"s3cret-5")
    server.bench.ask(peer, 4, "echo", b"password", "s3cret-6")
    server.bench.ask(peer, 5, "echo", ScalarRef({"password": ScalarRef("s3cret-7")}))
    server.bench.ask(peer, 6, "tell", CallbackRef(10), "password", "s3cret-8")
    lines = server.lines()
    assert "s3cret" not in server.path.read_text()
    assert lines[0].arguments == ["password", REDACTED, "deep", [{"password": REDACTED}]]
    assert lines[0].redacted == ["arguments", "answer"]
    assert lines[1].arguments == lines[1].answer == [REDACTED]
    assert lines[2].callbacks == [(9, [0]), (9, ["password", REDACTED])]
    assert lines[3].redacted == ["arguments"]
    assert lines[6].redacted == ["arguments", "callbacks"]


def test_of_what_is_too_long_the_size_is_told(recorded):
    server = recorded()
    peer = server.bench.peer()
    size = len(peer.packet(0, "swallow", "x" * (LONGEST_PART + 1))) - 4
    server.bench.ask(peer, 0, "swallow", "x" * (LONGEST_PART + 1))
    server.bench.ask(peer, 1, "big")
    other = server.bench.peer()
    server.bench.ask(other, 0, "swallow", "\u0100" * (LONGEST_PART // 3))  # longer in the file
    first, second, third = server.lines()
    assert (first.arguments, first.answer) == (None, [])
    assert first.skipped == {"arguments": size}
    assert (second.arguments, second.answer) == ([], None)
    assert second.skipped["answer"] > LONGEST_PART
    assert 0 < third.skipped["arguments"] < LONGEST_PART
    assert server.path.stat().st_size < 10_000
    assert server.recorder.counts["skipped"] == 3


def test_many_long_callbacks_are_left_out_together(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "count", 1, CallbackRef(9))
    server.bench.ask(peer, 1, "shout", 60, CallbackRef(10))
    first, second = server.lines()
    assert first.callbacks
    assert [values for _, values in second.callbacks if values is not None] == []
    assert second.skipped["callbacks"] > LONGEST_PART


def test_what_is_kept_of_calls_under_way_is_bounded(recorded, monkeypatch):
    monkeypatch.setattr("rpcasync.recorder._MOST_KEPT", 10_000)
    server = recorded()
    held = server.procedures.held
    server.procedures.rpc_park = lambda caller, *values: held.append(caller)
    peer = server.bench.peer()
    for number in range(5):
        server.bench.ask(peer, number, "park", "x" * 4000)
    server.bench.ask(peer, 5, "count", 1, CallbackRef(9))
    server.bench.ask(peer, 6, "release")
    server.bench.ask(peer, 7, "park", "x" * 4000)
    server.bench.ask(peer, 8, "release")
    lines = server.lines()
    sizes = [4000, 4000, 4000, 0, 0, 0, 0, 4000, 0]
    assert [(each.arguments and len(each.arguments[0])) or 0 for each in lines] == sizes
    assert "arguments" in lines[4].skipped
    assert "callbacks" in lines[5].skipped
    assert server.recorder._kept == 0


def test_a_call_that_has_ended_is_not_kept_for_its_callbacks(recorded):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "count", 1, CallbackRef(9))
    (client,) = server.recorder._clients.values()
    assert client.functions[9].arguments.text is None
    server.bench.ask(peer, 1, "again", "late")
    assert server.lines()[0].callbacks == [(9, [0]), (9, ["late"])]


def test_a_name_that_is_too_long_is_cut(recorded):
    server = recorded()
    server.bench.ask(server.bench.peer(), 0, "x" * 5000)
    line = server.line()
    assert line.procedure == "x" * 1000
    assert line.arguments is None


def test_what_cannot_be_written_ends_the_recording_and_nothing_else(recorded, caplog):
    server = recorded()
    peer = server.bench.peer()
    server.bench.ask(peer, 0, "echo")
    server.recorder.flush()
    server.writer._fail(OSError(28, "No space left on device"))
    assert server.bench.ask(peer, 1, "echo", "x") == [[1, "x"]]
    assert server.bench.ask(peer, 2, "count", 1, CallbackRef(9)) == [[9, "call", 0], [2]]
    server.recorder.close()
    assert len(server.lines()) == 1
    (record,) = caplog.records
    assert record.getMessage().endswith("has ended, calls go on: No space left on device")
