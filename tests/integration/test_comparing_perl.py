"""What Perl itself says of two scalars, beside what `compare()` says."""

from __future__ import annotations

import itertools
import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.comparing.answers import compare
from rpcasync.comparing.scalars import is_number
from rpcasync.storable import freeze

ORACLE = Path(__file__).parent / "perl" / "equality_oracle.pl"

VALUES: list[object] = [
    *(0, 1, -1, 3, 7, 10, 2**31, 2**53 - 1, 2**53, 2**63 - 1, -(2**63)),
    *(0.1, 0.5, -0.5, 0.1 + 0.2, 1e15, 123456789012345.0, 1e100, 1e-7, 1 / 3),
    *("", "0", "1", "-1", "3", "3.0", "3.50", "3.5", ".5", "5.", "-.5", "0.1", "0.3"),
    *("0.30000000000000004", "0.30000000000001", "1e3", "1000", "1E3", "1e+300", "1e300", "1e-7"),
    *("0.0000001", "0.333333333333333", "9.00719925474099e+15", "1e+15", "1000000000000001"),
    *("abc", "ABC", "Inf", "inf", "-inf", "infinity", "information", "2 apples", "1_000"),
    *("0x10", "16", "1e", "e1", "-", ".", "+", "--1", "caf\xe9", "\u263a", "\u0663", "0 but true"),
    *("00", "007", "+1", " 1", "1 ", "1\n", "01.5", "-01"),
]
PAIRS = list(itertools.combinations_with_replacement(VALUES, 2))


def ask(pairs: list[tuple[object, object]]) -> list[tuple[bool, bool, bool]]:
    """Return for each pair what Perl's `eq` and `==` say, and if both print as one number."""
    image = freeze([list(pair) for pair in pairs])
    run = subprocess.run(["perl", ORACLE], input=image, capture_output=True, check=True)
    assert not run.stderr
    lines = run.stdout.decode().splitlines()
    return [(a == "1", b == "1", c == "1") for a, b, c in map(str.split, lines)]


def is_padded(value: object) -> bool:
    """True for a text that Perl can take for a number, and no program prints as one."""
    text = str(value)
    is_padded = is_number(text.strip().lstrip("+-0") or "0")
    return text == "0 but true" or (is_padded and not is_number(text))


def is_close(one: object, other: object) -> bool:
    """True for two numbers that only differ in a digit beyond the 15th."""
    if not is_number(str(one)) or not is_number(str(other)):
        return False
    return math.isclose(float(str(one)), float(str(other)), rel_tol=1e-15)


def check(one: object, other: object, perls: tuple[bool, bool, bool]) -> None:
    is_equal = compare([one], [other]) == []
    if any(perls):
        assert is_equal or is_close(one, other), (one, other, perls)
    else:
        assert not is_equal or is_close(one, other), (one, other, perls)


@pytest.fixture(scope="module")
def perls():
    return dict(zip(PAIRS, ask(PAIRS), strict=True))


def test_equal_is_what_perl_finds_equal(perls):
    checked = [pair for pair in PAIRS if not any(map(is_padded, pair))]
    assert len(checked) > 1000
    for one, other in checked:
        check(one, other, perls[one, other])


def test_a_padded_number_is_text_whatever_perl_says(perls):
    told = [pair for pair in PAIRS if any(map(is_padded, pair)) and perls[pair][1]]
    assert ("1", "1\n") in told
    for one, other in told:
        assert (compare([one], [other]) == []) == perls[one, other][0], (one, other)


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(-1e300, 1e300).filter(lambda number: not 0 < abs(number) < 1e-300),
)
pairs = st.one_of(
    st.tuples(numbers, numbers),
    st.tuples(numbers, numbers.map(repr)),
    numbers.flatmap(
        lambda number: st.tuples(
            st.just(number), st.sampled_from(["", ".0", "e0", "e1"]).map(repr(number).__add__)
        )
    ),
)


@pytest.mark.slow
@given(st.lists(pairs, max_size=50))
def test_numbers_as_text(cases):
    for (one, other), perls in zip(cases, ask(cases), strict=True):
        check(one, other, perls)
