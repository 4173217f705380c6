"""Which calls of a recording are made when, and what is counted: against a real server."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import call_line, write_recording

from eventmux import EventMux
from rpcasync import Client, Server
from rpcasync.recording.lines import Header
from rpcasync.recording.reader import Recording
from rpcasync.replaying.replay import Replay
from rpcasync.replaying.tally import Tally
from rpcasync.storable import Blessed, ScalarRef
from rpcasync.wire.messages import CallbackRef


class Procedures:
    """What came is noted: the client, the procedure and the values."""

    def __init__(self):
        self.seen = []
        self.held = {}
        self.kept = []

    def note(self, caller, name, values):
        self.seen.append((caller.fh.fileno(), name, values))

    def rpc_echo(self, caller, *values):
        self.note(caller, "echo", values)
        self.rpc.return_(caller, *values)

    def rpc_take(self, caller, *values):
        self.note(caller, "take", values)
        self.rpc.return_(caller)

    def rpc_double(self, caller, n: int, /):
        self.note(caller, "double", (n,))
        self.rpc.return_(caller, "n", 2 * n)

    def rpc_fail(self, caller, text, /):
        self.rpc.error(caller, text)

    def rpc_hold(self, caller):
        self.note(caller, "hold", ())
        self.held.setdefault(caller.fh, []).append(caller)

    def rpc_release(self, caller):
        self.note(caller, "release", ())
        for each in self.held.pop(caller.fh, []):
            self.rpc.return_(each, "released")
        self.rpc.return_(caller)

    def rpc_count(self, caller, upto, callback, /):
        self.rpc.return_(caller)
        for number in range(upto):
            callback(number)

    def rpc_tell(self, caller, callback, /):
        callback("x")
        self.rpc.return_(caller)

    def rpc_leave(self, caller):
        self.rpc.return_(caller)
        self.mux.close(caller.fh)

    def rpc_vanish(self, caller):
        self.mux.kill(caller.fh)

    def rpc_stop(self, caller):
        self.rpc.close_listeners()
        for fh in self.rpc.clients:
            self.mux.kill(fh)
        self.rpc.return_(caller)


@contextmanager
def serving(path):
    """Run the server in a thread; give its procedures, which have the `url`."""
    procedures = Procedures()
    procedures.mux = mux = EventMux()
    procedures.rpc = rpc = Server(mux, procedures, slow=None)
    procedures.url = f"unix://{path}"
    rpc.listen(procedures.url)

    def run():
        with mux:
            while rpc.has_clients():
                rpc.io(mux.mux())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield procedures
    finally:
        if rpc._arrivals.listeners:
            with EventMux() as other:
                client = Client(other, procedures.url)
                client.stop(lambda error=None: None)
                while client.has_requests():
                    client.io(other.mux())
        thread.join()


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path / "socket") as procedures:
        yield procedures


@pytest.fixture
def play(server, tmp_path):
    def play(*lines, header=None, compares=True, timeout=10.0, url=None, **options):
        path = tmp_path / "calls"
        if lines:
            write_recording(path, *lines, header=header)
        tally = Tally(compares)
        with Recording(str(path)) as recording, EventMux() as mux:
            replay = Replay(mux, url or server.url, recording, tally, timeout=timeout, **options)
            replay.run()
            replay.end()
        return tally

    return play


def differences(tally):
    return {
        (name, kind): (found.count, found.call, found.example.old, found.example.new)
        for (name, kind), found in tally.differences.items()
    }


# ---- answers ---------------------------------------------------------------------------------


def test_equal_answers(play):
    tally = play(
        call_line(1, arguments=["a", 1]),
        call_line(2, "double", [4], ["n", "8"]),  # as Perl has it
        call_line(3, "fail", ["no"], ["error", "no"], ended="error"),
    )
    assert tally.is_good
    assert (tally.played, tally.answered, tally.clients) == (3, 3, 1)
    assert tally.names == {"echo": 1, "double": 1, "fail": 1}


def test_answers_that_differ_are_counted_by_procedure_and_kind(play):
    lines = [call_line(1 + n, "double", [n], ["n", 7]) for n in range(5)]
    tally = play(*lines, call_line(9, "echo", ["a", 1], ["a", None]))
    assert not tally.is_good
    assert differences(tally) == {
        ("double", "value"): (5, 1, "7", "0"),
        ("echo", "undef"): (1, 9, "undef", "1"),
    }


def test_a_call_counts_once_for_each_kind(play):
    tally = play(call_line(1, arguments=[1, "a", 2], answer=[5, "b", None]))
    counts = {kind: found.count for (_, kind), found in tally.differences.items()}
    assert counts == {"value": 1, "undef": 1}


def test_without_compare_only_errors_count(play):
    tally = play(
        call_line(1, "double", [3], ["n", 7]),
        call_line(2, "fail", ["no"], ["sum", 1]),
        call_line(3, "echo", ["a", 1], ["error", "no"], ended="error"),
        compares=False,
    )
    assert differences(tally) == {
        ("fail", "error"): (1, 2, "answer", "error"),
        ("echo", "error"): (1, 3, "error", "answer"),
    }


@pytest.mark.parametrize("codec", ["perl", "typed", "json"])
def test_calls_are_made_in_the_codec_of_their_client(play, server, codec):
    values: list[object] = ["text", 7, None, [1, {"a": "caf\xe9"}]]
    if codec == "typed":
        values += [b"bytes", 1.5, True]
    if codec == "perl":
        values += [ScalarRef("x"), Blessed("A::B", {"k": [1]})]
    tally = play(call_line(1, "take", values, [], codec=codec))
    assert tally.is_good
    assert server.seen[0][2] == tuple(values)


def test_what_has_no_form_is_not_played(play):
    tally = play(call_line(1, arguments=["\ud800"]), call_line(2, arguments=["x"]))
    assert tally.not_played == {"cannot be sent": 1}
    assert tally.answered == 1


# ---- clients, and the order ------------------------------------------------------------------


def test_each_recorded_client_has_a_connection_of_its_own(play, server):
    play(*(call_line(n + 1, arguments=[n], client=1 + n % 3) for n in range(9)))
    order = [values[0] for _, _, values in server.seen]
    assert order == list(range(9))
    by_client: dict[int, set[int]] = {}
    for fh, _, (number,) in server.seen:
        by_client.setdefault(fh, set()).add(number % 3)
    assert sorted(by_client.values()) == [{0}, {1}, {2}]


def test_a_client_of_another_session_is_another(play, server, tmp_path):
    path = tmp_path / "calls"
    write_recording(path, call_line(1, arguments=[1], at=500.0))
    write_recording(path, call_line(1, arguments=[2], at=0.5), header=Header("s2"))
    tally = play()
    assert (tally.answered, tally.clients) == (2, 2)
    assert [values for _, _, values in server.seen] == [(1,), (2,)]


def test_a_session_begins_when_the_calls_of_the_one_before_have_ended(play, tmp_path):
    path = tmp_path / "calls"
    write_recording(path, call_line(1, "hold", answer=["released"], at=500.0))
    write_recording(path, call_line(1, "stop", at=0.5), header=Header("s2"))
    assert play(timeout=0.2).failed["timed out"] == 1  # `stop` disconnects all


def test_calls_that_ran_together_do_so_again(play):
    """`hold` is answered by the `release` that came while it ran."""
    tally = play(
        call_line(1, "hold", answer=["released"], at=1.0, took=2.0),
        call_line(2, "release", at=2.0, took=0.5),
        call_line(3, "echo", ["x"], at=4.0),
    )
    assert tally.is_good
    assert tally.answered == 3


def test_a_call_waits_for_those_that_had_ended(play, server):
    """A limit of one has nothing to do with it: these two came one after the other."""
    play(
        call_line(1, "hold", answer=["released"], at=1.0, took=0.5),
        call_line(2, "release", at=2.0, took=0.5, client=2),
        timeout=0.2,
    )
    assert [name for _, name, _ in server.seen] == ["hold", "release"]


def test_never_more_calls_than_the_limit(play, server):
    lines = [call_line(n + 1, "hold", at=1.0, took=9.0, answer=["released"]) for n in range(5)]
    tally = play(*lines, call_line(9, "release", at=2.0, took=1.0), in_flight=3, timeout=0.3)
    assert tally.failed["timed out"] >= 3
    assert [name for _, name, _ in server.seen[:3]] == ["hold"] * 3


def test_what_was_never_answered_is_waited_for_by_none(play):
    tally = play(
        call_line(1, "hold", ended="gone"),
        call_line(2, "echo", ["x"]),
        call_line(3, "hold", ended="open"),
        call_line(4, "hold", ended="lost"),
        timeout=60.0,
    )
    assert tally.is_good
    assert (tally.answered, tally.unanswered) == (1, 3)


def test_what_is_not_answered_in_time_has_failed(play):
    tally = play(
        call_line(1, "hold", answer=["released"]), call_line(2, "echo", ["x"]), timeout=0.1
    )
    assert (tally.failed, tally.answered) == ({"timed out": 1}, 1)
    assert not tally.is_good


def test_the_pace_of_the_recording(play):
    lines = [call_line(n + 1, arguments=[n], at=10.0 + n, took=0.1) for n in range(4)]
    assert 0.3 <= play(*lines, speed=10.0).seconds < 5
    assert play(speed=1e6).seconds < 0.3


@given(data=st.data())
def test_any_order_of_ends_is_played_to_the_end(data, tmp_path_factory):
    """Whatever overlaps: all are made, in the order in which they came."""
    count = data.draw(st.integers(1, 12))
    lines = []
    at = 0.0
    for number in range(count):
        at += data.draw(st.sampled_from([0.0, 0.5, 1.0]))
        took = data.draw(st.sampled_from([0.0, 0.5, 3.0]))
        client = data.draw(st.integers(1, 3))
        ended = data.draw(st.sampled_from(["answer", "answer", "gone"]))
        lines.append(
            call_line(number + 1, arguments=[number], at=at, took=took, client=client, ended=ended)
        )
    folder = tmp_path_factory.mktemp("replay")
    with serving(folder / "s") as server:
        path = write_recording(folder / "calls", *data.draw(st.permutations(lines)))
        tally = Tally(compares=True)
        with Recording(str(path)) as recording, EventMux() as mux:
            replay = Replay(mux, server.url, recording, tally, in_flight=3)
            replay.run()
            replay.end()
        assert tally.is_good
        assert tally.played == count
        by_client: dict[int, list[int]] = {}
        for fh, _, (number,) in server.seen:
            by_client.setdefault(fh, []).append(number)
        assert all(numbers == sorted(numbers) for numbers in by_client.values())


# ---- what is left out ------------------------------------------------------------------------


def test_calls_without_all_their_arguments_are_not_made(play, server):
    tally = play(
        call_line(1, arguments=["password", "[redacted]"], redacted=["arguments"]),
        call_line(2, skipped={"arguments": 10**7}),
        call_line(3, arguments=["x"]),
    )
    assert tally.not_played == {"redacted": 1, "not recorded in full": 1}
    assert [values for _, _, values in server.seen] == [("x",)]


def test_an_answer_that_was_redacted_is_compared_but_for_that(play):
    header = Header("s1", names=["token"])
    old = ["token", "[redacted]", "n", 1]
    tally = play(
        call_line(1, "echo", ["token", "abc", "n", 1], old, redacted=["answer"]),
        call_line(2, "echo", ["token", "abc", "n", 2], old, redacted=["answer"]),
        header=header,
    )
    assert differences(tally) == {("echo", "value"): (1, 2, "1", "2")}


def test_an_answer_that_was_too_long_is_not_compared(play):
    line = call_line(1, arguments=["x"], skipped={"answer": 9}).replace('"answer": ["x"]', '"a": 1')
    assert play(line).is_good


def test_only_some_procedures(play, server):
    lines = [call_line(1, arguments=["x"]), call_line(2, "double", [1], ["n", 2])]
    tally = play(*lines, wants=lambda name: name == "double")
    assert (tally.played, tally.not_played) == (1, {})
    assert [name for _, name, _ in server.seen] == ["double"]
    assert tally.clients == 1


# ---- callbacks -------------------------------------------------------------------------------


def counted(*callbacks, upto=3):
    return call_line(1, "count", [upto, CallbackRef(9)], [], callbacks=[list(c) for c in callbacks])


def test_callbacks_are_compared_even_behind_the_answer(play):
    assert play(counted((9, [0]), (9, [1]), (9, [2]), (9, None))).is_good


def test_callbacks_that_differ(play):
    tally = play(counted((9, [0]), (9, [7]), (9, [2])))
    assert differences(tally) == {("count", "value"): (1, 1, "7", "1")}
    assert tally.differences["count", "value"].example.path == "callback 2: [0]"


def test_fewer_and_more_of_them(play):
    tally = play(counted((9, [0]), (9, [1]), (9, [2]), (9, [3])), timeout=0.3)
    assert differences(tally) == {
        ("count", "length"): (1, 1, "called 4 times", "called 3 times"),
    }


def test_one_where_there_was_none(play):
    line = call_line(1, "tell", [CallbackRef(9)], [])
    assert differences(play(line)) == {
        ("tell", "length"): (1, 1, "called 0 times", "called once"),
    }


def test_more_of_them(play):
    tally = play(counted((9, [0]), (9, [1])), call_line(2, "echo", ["x"]))
    assert differences(tally) == {
        ("count", "length"): (1, 1, "called 2 times", "called more often"),
    }


def test_callbacks_that_were_too_long_are_not_compared(play):
    line = call_line(1, "count", [2, CallbackRef(9)], [], skipped={"callbacks": 10**7})
    assert play(line).is_good


# ---- a server that goes ----------------------------------------------------------------------


def test_a_client_that_is_disconnected_connects_again(play, server):
    tally = play(
        call_line(1, "leave"),
        call_line(2, arguments=["x"]),
        call_line(3, arguments=["y"]),
    )
    assert tally.gone is None
    assert [values for _, _, values in server.seen][-1] == ("y",)


def test_clients_that_leave_without_an_answer_are_no_sign_of_a_server_that_goes(play):
    left = [call_line(n, "hold", client=n, ended="gone") for n in (1, 2, 3)]
    tally = play(*left, call_line(4, "vanish", client=4), call_line(5, client=5))
    assert tally.gone is None
    assert (tally.answered, tally.failed, tally.unanswered) == (1, {"disconnected": 1}, 3)


def test_a_server_that_ends(play, server):
    tally = play(
        call_line(1, arguments=["x"]),
        call_line(2, "stop", answer=[]),
        *(call_line(n, arguments=[n]) for n in range(3, 9)),
    )
    assert tally.gone is not None
    assert tally.answered == 1
    assert tally.failed["disconnected"] >= 1
    done = tally.answered + sum(tally.failed.values()) + sum(tally.not_played.values())
    assert done == 8
    assert tally.not_played["the server has gone"] >= 5
    assert not tally.is_good


def test_a_server_that_is_not_there(play, tmp_path):
    tally = play(call_line(1), call_line(2), url=f"unix://{tmp_path}/nobody")
    assert "is the server running?" in tally.gone
    assert tally.answered == 0


def test_a_server_that_answers_nothing_is_given_up(play, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/rude")
        listener.listen()

        def close_all():
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                sock.close()

        thread = threading.Thread(target=close_all)
        thread.start()
        lines = [call_line(n + 1) for n in range(20)]
        tally = play(*lines, url=f"unix://{tmp_path}/rude")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert tally.gone is not None
    assert tally.failed["disconnected"] == 3
    assert tally.not_played["the server has gone"] == 17


def test_a_program_serves_all_recorded_clients(play, tmp_path):
    program = tmp_path / "server.py"
    program.write_text(
        "from eventmux import EventMux\n"
        "from rpcasync import Server, init_clients\n"
        "count = 0\n"
        "def rpc_next(caller):\n"
        "    global count\n"
        "    count += 1\n"
        "    rpc.return_(caller, count)\n"
        "mux = EventMux()\n"
        "rpc = Server(mux)\n"
        "init_clients(rpc)\n"
        "while rpc.has_clients():\n"
        "    rpc.io(mux.mux())\n"
    )
    lines = [call_line(n + 1, "next", [], [n + 1], client=n + 1) for n in range(3)]
    tally = play(*lines, url=f"python://{program}")
    assert tally.is_good
    assert (tally.answered, tally.clients) == (3, 1)
