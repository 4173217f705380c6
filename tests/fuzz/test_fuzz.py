"""A short run of each target; that a fault is found where there is one; and inputs that once were.

The long runs are `run.py`'s.
"""

from __future__ import annotations

import os
import struct
import sys
from random import Random

import pytest

from fuzz import packets
from fuzz.campaign import TARGETS, Part, campaign, fuzz, main, table
from fuzz.judge import Judge
from fuzz.targets import Target, check

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork, SIGPROF, socketpair")

_INPUTS = 60
_LONGEST = 3000  # bytes: longer ones are for the long runs

# Each of these escaped once, or would have.
_FOUND = {
    "json": [
        b"[1e999]",
        b"[-1E400]",
        b"[%b.5]" % (b"1" * 400),
        b"[" * 100_000,
        b'["\\ud800"]',
        b"[%b]" % (b"9" * 4301),
        b"\xef\xbb\xbf[1]",
    ],
    "storable": [b"\x05\x0b\x02\0\0\0\x01" + b"\x04" * 100_000 + b"\x05"],
    "server": [
        packets.frame(b'[1,"fails","\\u001b[31m\\nERROR rpcasync: forged"]'),
        packets.frame(b'[1,"fails","\\u0085\\u2028\\u009b31m"]'),
        packets.frame(b'[1,"\\u001b[31m\\nERROR rpcasync: forged"]'),
        packets.frame(b'[1,"add","\\u001b[31m\\nERROR rpcasync: forged",1]'),
        packets.frame(b'[1,"keep"]') * 60,
        packets.frame(b'[1,"big"]') * 100,
        struct.pack("!I", 0),
    ],
    "client": [packets.frame(b'[0,"error","\\u001b[31m\\nERROR rpcasync: forged"]')],
}


@pytest.fixture(params=TARGETS)
def target(request):
    target = TARGETS[request.param]()
    yield target
    target.close()


def test_nothing_escapes(target):
    figures = fuzz(target, Random(1), lambda count: count >= _INPUTS, longest=_LONGEST)
    assert [(escape.what, escape.data, escape.text) for escape in figures.shown] == []
    assert figures.inputs == _INPUTS
    assert len(figures.outcomes) > 1  # else they would all be refused at the first byte


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, found in _FOUND.items() for data in found]
)
def test_what_was_found_once_is_not_found_again(name, data):
    target = TARGETS[name]()
    try:
        target.run(data)
    finally:
        target.close()


def test_a_seed_repeats_a_run():
    inputs: list[list[bytes]] = [[], []]
    for each in inputs:
        fuzz(TARGETS["thaw"](), Random(5), lambda count: count >= 50, each.append, _LONGEST)
    assert inputs[0] == inputs[1]
    assert len(set(inputs[0])) > 40


def test_most_kinds_of_errors_are_met():
    figures = fuzz(TARGETS["thaw"](), Random(2), lambda count: count >= 500, longest=500)
    usual = {
        "bad-number",
        "bad-opcode",
        "bad-tag",
        "cycle",
        "limit-depth",
        "list",
        "truncated",
        "trailing",
    }
    assert figures.outcomes.keys() >= usual
    assert len(figures.outcomes) > 12


# ---- faults that are put there -----------------------------------------------------------


class Planted(Target):
    """Has a fault where there is an X, and does one of several things then."""

    def __init__(self, fault):
        super().__init__()
        self._fault = fault

    def make(self, source):
        return source.choice((b"abc", b"defX", b"ghi")) * source.randrange(1, 5)

    def run(self, data):
        if b"X" in data:
            self._fault()
        return str(len(data))


class InFinalizer:
    def __del__(self):
        raise KeyError("nobody sees this")


def _recurse():
    return _recurse()


def _spin():
    while True:
        pass


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (_recurse, "RecursionError"),
        (_spin, "Hang"),
        (InFinalizer, "in a finalizer: KeyError"),
        (lambda: check(1 > 2, "not greater", 1, 2), "Broken"),
        (lambda: b"" * sys.maxsize + bytes(2**62), "MemoryError"),
    ],
)
def test_a_fault_is_found_and_its_input_shrinks(fault, what):
    with Judge(Planted(fault), patience=0.02) as judge:
        assert judge.look(b"aaaaa") is None
        escape = judge.look(b"abcdefXghiXjkl")
        assert escape is not None
        assert escape.what.startswith(what)
        judge.shrink(escape, tries=20)
        assert escape.data == b"X"
        assert what.split()[-1] in escape.text
        assert judge.look(b"YYY") is None
        assert judge.figures.escapes.total() == 1
        assert judge.figures.inputs == 3


def test_what_is_slow_or_large_shows():
    held = []
    with Judge(Planted(lambda: held.append(bytearray(5_000_000)))) as judge:
        judge.look(b"aaa")
        fast = judge.figures.time.value
        judge.look(b"X" + bytes(70_000))
        assert judge.figures.memory.value > 50
        assert judge.figures.memory.data.startswith(b"X")
        assert fast < 0.01


def test_a_process_that_ends_is_an_escape_and_the_rest_goes_on():
    part = Part("planted", lambda: Planted(lambda: os._exit(3)), "1", 10.0, 30)
    campaign([part], jobs=1)
    assert part.figures.inputs >= 30
    assert {*part.figures.escapes} == {"the process ended: status 3"}
    assert b"X" in part.figures.shown[0].data
    assert "| planted | " in table([part])[2]


def test_the_command(tmp_path, capsys):
    options = ["--target", "json", "--inputs", "30", "--seed", "1", "--keep", str(tmp_path)]
    assert main(options) == 0
    assert "| json | 30 | " in capsys.readouterr().out
    kept = next(tmp_path.glob("json-slowest-*"))
    assert main(["--target", "json", "--replay", str(kept)]) == 0
    assert "outcome" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--replay", str(kept)])
