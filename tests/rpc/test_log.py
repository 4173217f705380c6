"""What is logged: with handlers as a program sets them up, and text that wants to be more."""

from __future__ import annotations

import gc
import io
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import Fault
from rpcasync._log import INTERVAL, Repeats, escape, fields, log, repeats, shorten
from rpcasync.serving.reminder import Reminder

EVIL = "\x1b[31m\nERROR rpcasync: forged\r\x00\x7f\x9b\x85\u2028\u2029\u202e\u2066\ud800 end"
LIMIT = 10


@pytest.fixture
def lines():
    """Return the lines that a program's handler has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    yield lambda: stream.getvalue().split("\n")[:-1]
    log.removeHandler(handler)


def assert_plain(lines):
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert not line.startswith("ERROR rpcasync: forged")


def fail(text, error=ValueError):
    """Log an exception with text of a peer's."""
    try:
        raise error(text)
    except error:
        log.exception("procedure %s failed", "x")


def test_a_traceback_is_as_python_writes_it(lines):
    fail("bad value")
    head, begin, frame, source, last = lines()
    assert head == "ERROR rpcasync: procedure x failed"
    assert begin == "Traceback (most recent call last):"
    assert frame.startswith(f'  File "{__file__}", line ')
    assert frame.endswith(", in fail")
    assert source == "    raise error(text)"
    assert last == "ValueError: bad value"


@given(st.text())
def test_any_text_is_shown_on_one_line(text):
    assert escape(text).isprintable()
    assert shorten(text).isprintable()
    assert len(shorten("x" * 100 + text)) == 60
    if text.isprintable():
        assert escape(text) == text


def test_messages(lines):
    log.warning("client %s: %s", EVIL, OSError(EVIL))
    log.warning(EVIL)
    log.warning("%(name)s", {"name": EVIL})
    log.warning("100%")
    assert_plain(lines())
    assert len(lines()) == 4
    assert lines()[-1] == "WARNING rpcasync: 100%"
    assert r"\x1b[31m\nERROR rpcasync: forged\r\x00\x7f\x9b\x85\u2028\u2029\u202e" in lines()[0]


class Odd(Exception):
    def __str__(self):
        raise RuntimeError(EVIL)


def test_tracebacks_of_all_kinds(lines):
    fail(EVIL)
    fail(EVIL, KeyError)
    fail(EVIL, Odd)
    fail(EVIL, type(EVIL.replace("\x00", "")[:-5], (Exception,), {"__module__": EVIL}))
    try:
        try:
            raise KeyError(EVIL)
        except KeyError as error:
            raise ValueError(EVIL) from error
    except ValueError:
        log.exception("caused")
    try:
        try:
            raise KeyError(EVIL)
        except KeyError:
            raise ValueError(EVIL)  # noqa: B904
    except ValueError:
        log.exception("on the way")
    try:
        compile("x = (\n" + EVIL.replace("\x00", ""), EVIL.replace("\x00", ""), "exec")
    except (SyntaxError, ValueError):
        log.exception("syntax")
    try:
        exec(compile("raise ValueError", "evil\nname", "exec"))
    except ValueError:
        log.exception("file name")
    log.error("no traceback", exc_info=ValueError(EVIL))
    assert_plain(lines())
    assert "The above exception was the direct cause of the following exception:" in lines()
    assert "During handling of the above exception, another exception occurred:" in lines()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="has no notes and groups")
def test_notes_and_groups(lines):
    error = ExceptionGroup(EVIL, [ValueError(EVIL), ExceptionGroup("in", [KeyError("inner")])])  # noqa: F821
    error.add_note(EVIL)
    error.__notes__.append(object())
    try:
        raise error
    except type(error):
        log.exception("group")
    assert_plain(lines())
    assert any("inner" in line for line in lines())


def test_nothing_is_without_end(lines):
    fail("x" * 10_000_000)
    error = None
    for number in range(10_000):
        before, error = error, ValueError(number)
        error.__cause__ = before
    log.error("chain", exc_info=error)
    circle = ValueError(1)
    circle.__cause__ = KeyError(2)
    circle.__cause__.__cause__ = circle
    log.error("circle", exc_info=circle)

    def recurse():
        recurse()

    try:
        recurse()
    except RecursionError:
        log.exception("deep")
    log.error("client %s", "x" * 10_000_000)
    assert sum(map(len, lines())) < 50_000
    assert lines()[-1].endswith("x... and 9999007 characters more")


def test_the_exception_stays_for_who_looks_at_it(caplog):
    fail(EVIL)
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError
    assert str(record.exc_info[1]) == EVIL


# What repeats


def test_what_repeats_is_counted(lines):
    for number in range(LIMIT + 1234):
        log.warning("client %s disconnected: %s", number, EVIL)
    log.warning("something else")
    assert len(lines()) == LIMIT + 1
    repeats.flush()
    last = lines()[-1]
    assert last.startswith(
        "WARNING rpcasync: ... and 1234 more like it in 10 s: client 1243 discon"
    )
    repeats.flush()
    assert len(lines()) == LIMIT + 2
    assert_plain(lines())


def test_another_procedure_is_of_another_kind(lines):
    for number in range(LIMIT + 5):
        log.error("procedure %s failed", "first")
        if number < 3:
            log.error("procedure %s failed", "second")
    assert sum("second" in line for line in lines()) == 3
    assert sum("first" in line for line in lines()) == LIMIT


def test_names_without_end_are_one_kind_in_the_end(lines):
    for number in range(1000):
        log.error("procedure %s failed", f"name{number}")
    assert len(lines()) < 300
    repeats.flush()
    assert "more like it" in lines()[-1]


def test_what_is_for_debugging_is_not_counted(lines, caplog):
    caplog.set_level(logging.DEBUG, "rpcasync")
    for number in range(100):
        log.debug("< call %r", number)
    assert len(lines()) == 100


def record_at(seconds):
    record = log.makeRecord("rpcasync", logging.ERROR, __file__, 1, "cannot accept", (), None)
    record.created = seconds
    return record


def test_an_interval_begins_anew(lines):
    counts = Repeats()
    passed = sum(counts.filter(record_at(100.0)) for _ in range(50))
    assert passed == LIMIT
    assert not counts.filter(record_at(100.0 + INTERVAL - 0.1))
    assert lines() == []
    assert counts.filter(record_at(100.0 + INTERVAL))
    (line,) = lines()
    assert line.endswith("... and 41 more like it in 10 s: cannot accept")
    for _ in range(50):
        counts.filter(record_at(100.0 + INTERVAL))
    assert counts.filter(record_at(3.0))  # the clock was put back
    assert len(lines()) == 2


def test_a_server_tells_when_the_time_is_over(serve, timed, clock, lines):
    bench = serve(mux=timed)
    for _ in range(LIMIT + 20):
        peer = bench.peer()
        peer.sock.send(b"\0\0\0\0")
        bench.turn()
    assert len(lines()) == LIMIT
    clock.advance(INTERVAL - 1)
    bench.turn()
    assert len(lines()) == LIMIT
    clock.advance(1)
    bench.turn()
    assert "... and 20 more like it in 10 s: client fd " in lines()[-1]
    clock.advance(100)
    bench.turn()
    assert len(lines()) == LIMIT + 1


def test_a_server_without_timers_leaves_it_to_the_next_line(lines):
    class Notes:
        def add(self, action):
            action()

    reminder = Reminder(object(), Notes())
    for _ in range(LIMIT + 2):
        log.warning("again")
    assert len(lines()) == LIMIT
    del reminder


# By a server


def test_what_a_peer_can_put_into_the_log(serve, lines, caplog):
    caplog.set_level(logging.DEBUG, "rpcasync")

    def rpc_bad(caller, text):
        raise ValueError(f"bad {text}")

    def rpc_fault(caller, text):
        bench.rpc.return_(caller)
        raise Fault(text)

    class Names(dict):
        def get(self, name, default=None):
            return dict.get(self, name) or (lambda caller: 1)

    bench = serve(Names(rpc_bad=rpc_bad, rpc_fault=rpc_fault))
    text = EVIL.replace("\ud800", "")
    for codec in ("json", "storable"):
        for call in (("bad", "text", text), ("fault", "text", text), (text,), (text * 1000,)):
            bench.ask(bench.peer(codec), 1, *call)
    bench.ask(bench.peer("json"), "\x1b[3m", "x")
    bench.peer("json").sock.send(b'\0\0\0\x0d["\x1b\n",\n]')
    bench.turn()
    assert len(lines()) > 20
    assert_plain(lines())


def test_a_handler_that_fails_shows_nothing_of_a_peer_as_it_is(serve, tmp_path, capsys):
    def rpc_bad(caller, text):
        raise ValueError(f"bad {text}")

    def rpc_fault(caller, text):
        bench.rpc.return_(caller)
        raise Fault(text)

    bench = serve({"rpc_bad": rpc_bad, "rpc_fault": rpc_fault})
    handler = logging.FileHandler(tmp_path / "log", encoding="ascii")
    log.addHandler(handler)
    try:
        for name in "bad", "fault":
            bench.ask(bench.peer("json"), 1, name, "text", "\xe9\x1b[31m\nERROR rpcasync: forged")
    finally:
        log.removeHandler(handler)
        handler.close()
    shown = capsys.readouterr().err  # logging writes there what went wrong
    assert shown.count("UnicodeEncodeError") == 2
    assert_plain(shown.split("\n"))


# Where nobody has set up logging


@pytest.fixture
def nobody(monkeypatch, capsys):
    """Have no handler, as a program that has set up no logging; return what stderr shows."""
    root = logging.RootLogger(logging.WARNING)  # pytest has handlers in the other
    for name in ("rpcasync", "eventmux"):
        monkeypatch.setattr(logging.getLogger(name), "parent", root)
    return lambda: capsys.readouterr().err


def test_warnings_reach_stderr_and_say_where_from(nobody):
    log.warning("client %s disconnected: %s", 1, "why")
    log.info("nothing to worry about")
    assert nobody() == "WARNING rpcasync: client 1 disconnected: why\n"


def test_what_a_peer_writes_is_escaped_there_too(nobody):
    log.warning("client %s", EVIL)
    fail(EVIL)
    lines = nobody().split("\n")[:-1]
    assert len(lines) == 6
    assert lines[1] == "ERROR rpcasync: procedure x failed"
    assert_plain(lines)


@pytest.mark.parametrize("logger", [log, None], ids=["ours", "root"])
def test_a_handler_of_the_programs_is_the_only_one(nobody, logger):
    stream = io.StringIO()
    logger = logger or log.parent
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        log.warning("once")
    finally:
        logger.removeHandler(handler)
    assert (stream.getvalue(), nobody()) == ("once\n", "")


def test_the_program_may_want_silence(nobody, monkeypatch):
    monkeypatch.setattr(logging, "lastResort", None)
    log.warning("unheard")
    assert nobody() == ""


def test_there_may_be_no_stderr(nobody, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    log.warning("unheard")


class Broken(io.StringIO):
    def write(self, text):
        raise RuntimeError("reentrant call inside")  # as if a signal handler logs while we write


class Echo(io.StringIO):
    def write(self, text):
        log.warning("once more")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [closed, Broken, Echo])
def test_whatever_stderr_does_nothing_is_raised_where_something_is_logged(
    nobody, monkeypatch, make
):
    monkeypatch.setattr(sys, "stderr", make())
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log.warning("unheard")
    fail("unheard")


def test_the_logger_of_another_package_does_not_count(nobody, monkeypatch):
    monkeypatch.setattr(log, "propagate", False)
    log.parent.addHandler(logging.NullHandler())
    log.warning("heard")
    assert nobody() == "WARNING rpcasync: heard\n"


def test_eventmux_has_no_handler_either(nobody):
    logging.getLogger("eventmux").warning("heard")
    assert nobody() == "heard\n"


# What a record has beside its text


def test_fields_have_the_same_names_everywhere():
    assert fields(peer="a:1", procedure="p", call=7, ms=1.5, server="tcp://b:2") == {
        "peer": "a:1",
        "procedure": "p",
        "call": 7,
        "ms": 1.5,
        "server": "tcp://b:2",
    }
    assert fields() == {}


@given(st.text(), st.text())
def test_a_field_writes_no_line_of_its_own(procedure, call):
    found = fields(procedure=procedure, call=call)
    assert all(value.isprintable() and len(value) <= 10 * 60 for value in found.values())


def test_a_line_about_a_call_tells_which(bench, caplog, procedures):
    caplog.set_level(logging.DEBUG)
    bench.rpc.on_exception = "answer"
    bench.rpc.slow = 1e-9
    procedures.rpc_wrong = lambda: None
    peer = bench.peer()
    name = next(iter(bench.rpc._peers.by_fh.values())).name
    for id_, call in enumerate((["explode"], ["unsendable"], ["forget"], ["wrong"], ["evil\n"])):
        bench.ask(peer, id_, *call)
    gc.collect()
    bench.turn()
    peer.sock.close()
    bench.turn()
    told = {
        record.getMessage().partition(":")[0]: (
            *(getattr(record, field, None) for field in ("peer", "procedure", "call")),
        )
        for record in caplog.records
    }
    assert told[f"client {name} connected"] == (name, None, None)
    assert told[f"< call 0 of {name}"] == (name, "explode", 0)
    assert told["procedure explode failed"] == (name, "explode", 0)
    assert told["procedure unsendable has a value that cannot be sent"] == (name, "unsendable", 1)
    assert told["procedure forget dropped call 2 without an answer"] == (name, "forget", 2)
    assert told["procedure wrong cannot be called"] == (None, "wrong", None)
    assert told[f"< call 4 of {name}"] == (name, r"evil\n", 4)
    assert told[f"client {name} closed"] == (name, None, None)
    slow = [record for record in caplog.records if "blocked the loop" in record.getMessage()]
    assert {record.call for record in slow} >= {0, 1}
    assert all(record.ms > 0 for record in slow)
