"""Functions that a client passes to a server: the server's end, with the client's in our hands."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import sys
import threading

import pytest
from support.records import warnings_of

from rpcasync import Coderef, Disconnected, EncodeError, StorableCodec
from rpcasync.serving.notes import Notes
from rpcasync.wire.messages import CallbackRef


def test_how_a_callback_is_used(bench, procedures, codec):
    peer = bench.peer(codec)
    assert bench.ask(peer, 5, "keep", CallbackRef(3)) == [[5, 1]]
    callback = procedures.last()
    assert isinstance(callback, Coderef)
    assert (callback.id, callback.alive) == (3, True)
    assert callback(1, [2], n=None, self=4) is None
    callback.call("x")
    assert peer.read() == []
    bench.turn()
    assert peer.read() == [[3, "call", 1, [2], "n", None, "self", 4], [3, "call", "x"]]
    callback.release()
    assert not callback.alive
    assert repr(callback).endswith(" released>")
    callback.release()
    for call in (callback, callback.call):
        with pytest.raises(ValueError, match=r"<Coderef 3 of fd \d+ released> cannot be called"):
            call(1)
    del callback, call
    bench.turn()
    assert peer.read() == [[3, "destroy"]]


def test_the_end_of_a_block_releases(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    with contextlib.suppress(KeyError), procedures.last() as callback:
        callback(1)
        raise KeyError
    bench.turn()
    assert peer.read() == [[3, "call", 1], [3, "destroy"]]


def test_arguments_around_callbacks(bench, procedures, codec):
    peer = bench.peer(codec)
    ref = CallbackRef
    bench.ask(peer, 9, "keep", 0, "", None, ref(0), "x", [ref("1"), {"k": ref(2)}], 0, ref(0))
    zero, empty, none, first, text, (second, table), again_zero, again = procedures.kept.pop()
    assert (zero, empty, none, text, again_zero) == (0, "", None, "x", 0)
    assert again is first
    assert [coderef.id for coderef in (first, second, table["k"])] == [0, "1", 2]
    bench.ask(peer, 10, "keep", ref(2))
    assert procedures.last() is table["k"]
    for coderef in (first, second, table["k"]):
        coderef()
    bench.turn()
    assert peer.read() == [[0, "call"], ["1", "call"], [2, "call"]]


def test_perls_own_strings_as_bytes(serve, procedures):
    bench = serve(codecs=[StorableCodec(byte_strings="bytes")])
    peer = bench.peer(StorableCodec(typed=False))
    bench.ask(peer, 9, "keep", CallbackRef("7"))
    procedures.last()(b"x")
    bench.turn()
    assert peer.read() == [["7", "call", "x"], ["7", "destroy"]]


@pytest.fixture
def sends(bench, monkeypatch):
    """What was given to the mux to be sent, from here on."""
    sends = []
    send = bench.mux.send
    monkeypatch.setattr(bench.mux, "send", lambda *a, **k: sends.append(a) or send(*a, **k))
    return sends


def test_the_last_reference(bench, procedures, sends):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    sends.clear()
    procedures.kept.clear()
    assert sends == []  # a finalizer may run in the middle of anything
    bench.turn()
    assert len(sends) == 1
    assert peer.read() == [[3, "destroy"]]
    assert len(procedures.connection.coderefs) == 0
    assert bench.foreign == []


def test_the_last_reference_in_a_circle(bench, procedures, sends):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    circle = [procedures.last()]
    circle.append(circle)
    bench.turn()
    sends.clear()
    del circle
    assert peer.read() == []
    gc.collect()
    assert sends == []
    bench.turn()
    assert peer.read() == [[3, "destroy"]]


def test_the_last_reference_in_another_thread(serve, procedures, timed, clock, selector):
    bench = serve(mux=timed)
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    now = clock.now

    def let_go():
        thread = threading.Thread(target=procedures.kept.clear)
        thread.start()
        thread.join()

    selector.meanwhile.append((0, let_go))
    bench.rpc.io(timed.mux(60))
    assert clock.now == now  # the mux, which was waiting, was woken
    bench.turn()
    assert peer.read() == [[3, "destroy"]]


def test_a_turn_while_the_finalizer_runs_in_another_thread(bench, procedures, monkeypatch):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    # As if the loop of the first thread turned before the finalizer is at its end: no public way
    monkeypatch.setattr(Notes, "add", lambda notes, action: action())
    procedures.kept.clear()
    bench.turn()
    assert peer.read() == [[3, "destroy"]]


def test_a_callback_that_is_passed_again_in_time_is_not_destroyed(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    peer.send(6, "keep", CallbackRef(3))
    event = bench.mux.mux(0)
    procedures.kept.clear()
    # The note is taken first, and would destroy it behind the client's back otherwise; only in
    # here can a note be kept back that long
    noted = list(bench.rpc._notes.actions)
    bench.rpc._notes.actions.clear()
    bench.rpc.io(event)
    bench.rpc._notes.actions.extend(noted)
    bench.turn()
    assert peer.read() == [[6, 1]]
    procedures.last()("alive")
    bench.turn()
    assert peer.read() == [[3, "call", "alive"], [3, "destroy"]]


def test_a_client_that_has_gone(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    callback = procedures.last()
    peer.sock.close()
    bench.turn()
    assert not callback.alive
    assert repr(callback).endswith(" dead>")
    with pytest.raises(Disconnected, match=r"callback 3: client fd \d+ has gone"):
        callback(1)
    callback.release()
    with pytest.raises(ValueError, match="cannot be called any more"):
        callback(1)
    bench.turn()


def test_a_socket_that_the_program_killed(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3), CallbackRef(4))
    callback, other = procedures.kept.pop()
    bench.mux.kill(procedures.connection.fh)
    with pytest.raises(Disconnected, match="has gone"):
        callback(1)
    assert not other.alive
    del other
    bench.turn()
    assert bench.rpc.clients == set()


def test_what_a_callback_cannot_carry(bench, procedures, codec):
    peer = bench.peer(codec)
    bench.ask(peer, 5, "keep", CallbackRef(3))
    callback = procedures.last()
    for bad in (object(), print, callback, "x" * 17_000_000):
        with pytest.raises(EncodeError):
            callback([bad])
    assert callback.alive
    callback("fine")
    bench.turn()
    assert peer.read() == [[3, "call", "fine"]]


def test_callbacks_cannot_be_answers(bench, codec, caplog):
    peer = bench.peer(codec)
    caplog.set_level(logging.CRITICAL, "rpcasync")  # a traceback would hold the arguments
    answer, destroy = bench.ask(peer, 5, "list", CallbackRef(3))
    assert answer[:3] == [5, "error", "list: a value cannot be sent"]
    assert destroy == [3, "destroy"]
    assert not peer.ended


def test_an_annotated_parameter(bench):
    peer = bench.peer()
    assert bench.ask(peer, 1, "count", "upto", 2, "progress", CallbackRef(0)) == [
        [0, "call", 0, "name", "x"],
        [0, "call", 1, "name", "x"],
        [1, "done"],
        [0, "destroy"],
    ]
    (answer,) = bench.ask(peer, 2, "count", "upto", 2, "progress", "x")
    assert answer[2] == "count: progress: cannot convert str 'x' to a callback"


@pytest.mark.parametrize("procedure", ["nothing", "count", "methods", "ignore"])
def test_callbacks_of_calls_that_no_procedure_keeps(bench, codec, procedure):
    peer = bench.peer(codec)
    packets = bench.ask(peer, 5, procedure, CallbackRef(3), [CallbackRef(4)], 1)
    assert packets[0][0] == 5
    assert sorted(packets[1:]) == [[3, "destroy"], [4, "destroy"]]


def test_a_failing_procedure_takes_its_client_along(bench, procedures):
    peer, other = bench.peer(), bench.peer()
    bench.ask(peer, 1, "keep", CallbackRef(0))
    bench.ask(peer, 2, "explode", CallbackRef(1))
    assert peer.ended
    assert not procedures.last().alive
    assert bench.ask(other, 1, "ignore") == [[1]]


def nested(depth):
    value = CallbackRef(0)
    for _ in range(depth):
        value = [value]
    return value


def test_callbacks_that_are_deep_down(bench):
    """Before 3.12 the decoder of JSON ends where we do; in later ones it gets further."""
    peer = bench.peer("json")
    (answer, *_) = bench.ask(peer, 1, "ignore", nested(800))
    assert answer == [1]
    if sys.version_info >= (3, 12):
        (answer, *_) = bench.ask(peer, 2, "ignore", nested(1100))
        assert answer[:3] == [2, "error", "ignore: nested too deeply"]
    assert not peer.ended


# Against clients that do not keep to a measure


def test_too_many_callbacks(serve, procedures, codec):
    bench = serve(max_callbacks=3)
    peer, other = bench.peer(codec), bench.peer()
    bench.ask(peer, 10, "keep", CallbackRef(0), CallbackRef(1))
    packets = bench.ask(peer, 11, "keep", *map(CallbackRef, (0, 1, 2, 3, 4)))
    assert sorted(packets[:2]) == [[3, "destroy"], [4, "destroy"]]
    text = "keep: 5 callbacks are alive, limit is 3"
    assert packets[2:] == [[11, "error", text, "errors", [text]], [2, "destroy"]]
    assert all(callback.alive for callback in procedures.kept[0])
    assert bench.ask(other, 12, "keep", *map(CallbackRef, range(3))) == [[12, 3]]
    procedures.kept.clear()
    bench.turn()
    assert sorted(peer.read()) == [[0, "destroy"], [1, "destroy"]]
    assert bench.ask(peer, 13, "keep", *map(CallbackRef, range(3))) == [[13, 3]]
    procedures.kept.clear()


def test_a_client_that_does_not_read(serve, procedures, caplog):
    bench = serve(max_outbuffer=100_000)
    peer, other = bench.peer(), bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    callback = procedures.last()
    for _ in range(10):
        callback("x" * 10_000)
    count = 0
    while callback.alive:
        assert callback("x" * 50_000) is None
        count += 1
        assert count < 100
    with pytest.raises(Disconnected, match="has gone"):
        callback("x")
    bench.turn()
    assert len(bench.rpc.clients) == 1
    assert bench.ask(other, 1, "ignore") == [[1]]
    (line,) = warnings_of(caplog)
    assert re.search(r"does not read: \d+ bytes queued, limit is 100000$", line)


def test_a_client_that_reads_may_be_sent_any_amount(serve, procedures):
    bench = serve(max_outbuffer=100_000)
    peer = bench.peer()
    bench.ask(peer, 5, "keep", CallbackRef(3))
    callback = procedures.last()
    count = 0
    for _ in range(100):
        callback("x" * 150_000)  # the loop need not turn for it
        bench.mux.send(procedures.connection.fh)
        count += len(peer.read())
    while count < 100:
        bench.turn()
        count += len(peer.read())
    assert callback.alive


def test_values_that_only_mention_the_name(bench, codec):
    values = ["RPC::Async::Coderef", {"RPC::Async::Coderef": 3}, ["RPC::Async::Coderef"]]
    assert bench.ask(bench.peer(codec), 0, "list", *values) == [[0, *values]]


def test_to_release_is_no_error_when_the_client_has_gone(bench, procedures):
    peer = bench.peer()
    peer.send(0, "keep", CallbackRef(5))
    bench.turn()
    ((callback,),) = procedures.kept
    bench.mux.kill(procedures.connection.fh)  # behind the server's back
    with callback:
        pass
    callback.release()
    assert not callback.alive
