"""What every buffering discipline promises. A new one gets its tests by a line in DISCIPLINES."""

import re
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmux import EventMuxError
from eventmux.buffers import (
    HTTP,
    Batch,
    FixedSize,
    Frames,
    Last,
    Regexp,
    Size,
    Split,
    _frames,
    _http,
    _records,
    _size,
    _split,
)


def _nothing(size):
    return b""


@dataclass
class Discipline:
    """One way to cut a stream, and what is needed to test it."""

    name: str
    buffer: object
    alphabet: bytes  # what payloads may consist of, so that they hold no separator
    noise: list  # pieces that make random streams interesting
    longest: int  # the longest payload that is allowed, or is enough for a test
    prefix: object = _nothing  # what a payload of this length has in front
    suffix: bytes = b""  # what a payload has behind
    least: int = 0  # the shortest payload
    extra: int = 0  # bytes that an incomplete record may have beyond the longest payload
    limit: int | None = None  # what a failure names, if it is not the longest payload
    raw: bool = False  # a record has what is in front of its payload
    gives_early: bool = True  # there are records before the end of the stream
    keeps_all: bool = True  # a stream can be put together again from its records

    def frame(self, payload):
        return self.prefix(len(payload)) + payload + self.suffix

    def record(self, payload):
        return self.frame(payload) if self.raw else payload

    def on_the_wire(self, record):
        return record if self.raw else self.frame(record)


def _post(size):
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size


def _chunked(size):
    return b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def _after_colon(data, at):
    """Tell the length of records such as b"2:ab"."""
    head = re.compile(rb"([0-9]{1,2}):").match(data, at)
    return None if head is None else head.end() - at + int(head[1])


def pieces(noise):
    return [noise[i : i + 1] for i in range(len(noise))]


HTTP_NOISE = [
    _post(2),
    _post(0),
    b"GET / HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"a",
    b"bc",
]
HTTP_MESS = [
    *HTTP_NOISE,
    *(_chunked(0), b"1\r\na\r\n", b"2;x\r\n\r\n\r\n", b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"\r\n"),
    *(b"\r", b"\n", b"HTTP/1.0 304 \n", b"a: b\r\n", b"Content-Length: 1\n", b" ", b":"),
]

DISCIPLINES = [
    Discipline("split", Split(), b"ab\r\0", pieces(b"a\n"), 9, suffix=b"\n"),
    Discipline("split-limit", Split(max_size=3), b"ab\r", pieces(b"ab\n"), 3, suffix=b"\n"),
    Discipline(
        "split-crlf",
        Split(b"\r\n", max_size=4),
        b"a\n",
        pieces(b"a\r\n"),
        4,
        suffix=b"\r\n",
        extra=1,
    ),
    Discipline(
        "split-overlap",
        Split(b"aab", max_size=5),
        b"bc",
        pieces(b"aab"),
        5,
        suffix=b"aab",
        extra=2,
    ),
    Discipline("split-same", Split(b"aaa"), b"bc", pieces(b"aab"), 9, suffix=b"aaa"),
    Discipline(
        "split-pattern",
        Split(re.compile(rb"\r?\n")),
        b"ab\0",
        pieces(b"a\r\n"),
        9,
        suffix=b"\r\n",
        keeps_all=False,  # nobody says which separator it was
    ),
    Discipline(
        "split-pattern-limit",
        Split(re.compile(rb"<[ab]>"), max_size=4, max_separator=3),
        b"ab>",
        pieces(b"<<a>>"),
        4,
        suffix=b"<a>",
        extra=2,
        keeps_all=False,
    ),
    Discipline(
        "regexp", Regexp(rb"(?s)(.*?);", max_size=None), b"a\n", pieces(b"a\n;"), 9, suffix=b";"
    ),
    Discipline(
        "regexp-limit",
        Regexp(rb"^([ab]{0,4})\.", max_size=5),
        b"ab",
        pieces(b"aab."),
        4,
        suffix=b".",
        extra=1,
        limit=5,
    ),
    Discipline(
        "regexp-whole",
        Regexp(re.compile(rb"[0-9]:..", re.DOTALL), max_size=None),
        b"a\0\n",
        pieces(b"12:a"),
        2,
        prefix=lambda n: b"%d:" % n,
        least=2,
        raw=True,
    ),
    Discipline(
        "size", Size("B"), b"\0\1ab", pieces(b"\0\1\2\3"), 9, prefix=lambda n: bytes([n]), extra=1
    ),
    Discipline(
        "size-own-header",
        Size("!I", -4, max_size=6),
        b"\0\4ab",
        pieces(b"\0\0\0\4\5"),
        6,
        prefix=lambda n: (n + 4).to_bytes(4, "big"),
        extra=4,
    ),
    Discipline(
        "size-between",
        Size("<H", 1, min_size=1, max_size=5),
        b"\0\1ab",
        pieces(b"\0\1\2"),
        5,
        prefix=lambda n: (n - 1).to_bytes(2, "little"),
        least=1,
        extra=2,
    ),
    Discipline(
        "frames",
        Frames(_after_colon, max_size=None, max_header=3),
        b"a2:\n",
        pieces(b"012:a"),
        9,
        prefix=lambda n: b"%d:" % n,
        limit=3,
        raw=True,
    ),
    Discipline(
        "frames-limit",
        Frames(lambda data, at: data[at] + 1, max_size=6),
        b"\0\1ab",
        pieces(b"\0\1\2\5\6"),
        5,
        prefix=lambda n: bytes([n]),
        extra=1,
        limit=6,
        raw=True,
    ),
    Discipline("batch", Batch(Split(max_size=9)), b"ab\r", pieces(b"ab\n"), 9, suffix=b"\n"),
    Discipline("fixed", FixedSize(2), b"a\0\n", pieces(b"a\n"), 2, least=2),
    Discipline("last", Last(max_size=None), b"a", pieces(b"a\n"), 9, gives_early=False),
    Discipline("last-limit", Last(max_size=9), b"a", pieces(b"a\n"), 9, gives_early=False),
    Discipline(
        "http",
        HTTP(max_size=None),
        b"a\r\n",
        HTTP_MESS,
        9,
        prefix=_post,
        raw=True,
        keeps_all=False,
    ),
    Discipline(
        "http-limit",
        HTTP(max_size=45),
        b"a\r\n",
        HTTP_NOISE,
        45 - len(_post(0)),
        prefix=_post,
        extra=len(_post(0)),
        limit=45,
        raw=True,
    ),
    Discipline(
        "http-header",
        HTTP(max_header=40, max_size=None),
        b"a\r\n",
        HTTP_NOISE,
        9,
        prefix=_post,
        limit=40,
        raw=True,
    ),
]


def disciplines(condition=lambda discipline: True):
    return pytest.mark.parametrize(
        "discipline",
        [pytest.param(each, id=each.name) for each in DISCIPLINES if condition(each)],
    )


every_discipline = disciplines()
early_disciplines = disciplines(lambda each: each.gives_early)
lossless_disciplines = disciplines(lambda each: each.keeps_all)


def cut(data, borders):
    """Cut data at the given offsets; some chunks may be empty."""
    offsets = [0, *sorted(border % (len(data) + 1) for border in borders), len(data)]
    return [data[start:end] for start, end in pairwise(offsets)]


def outcome(buffer, chunks):
    """Return the records, the type of the failure or None, and how many bytes were written."""
    records = []
    written = 0
    for chunk in chunks:
        try:
            written += len(chunk)
            buffer.write(chunk)
        except EventMuxError as error:
            return records + buffer.read(), type(error), written
        records += buffer.read()
    return records, None, written


def payloads(discipline):
    letters = st.sampled_from(pieces(discipline.alphabet))
    sizes = {"min_size": discipline.least, "max_size": discipline.longest}
    return st.lists(letters, **sizes).map(b"".join)


def noise(discipline):
    """Bytes of all kinds; fewer pieces if they are long."""
    most = 40 if max(map(len, discipline.noise)) == 1 else 9
    return st.lists(st.sampled_from(discipline.noise), max_size=most).map(b"".join)


borders = st.lists(st.integers(0, 1000), max_size=8)


@early_disciplines
@given(data=st.data())
def test_any_chunking_gives_the_records(discipline, data):
    drawn = data.draw(st.lists(payloads(discipline), max_size=6))
    stream = b"".join(map(discipline.frame, drawn))
    records = [*map(discipline.record, drawn)]
    buffer = discipline.buffer.fresh()
    assert outcome(buffer, cut(stream, data.draw(borders))) == (records, None, len(stream))
    assert buffer.pending == 0
    assert buffer.read_last() == []


@every_discipline
@given(data=st.data())
def test_any_chunking_of_anything_ends_the_same(discipline, data):
    stream = data.draw(noise(discipline))
    whole, at_random, single = (discipline.buffer.fresh() for _ in range(3))
    records, failure, _ = outcome(whole, [stream])
    chunks = cut(stream, data.draw(borders))
    assert outcome(at_random, chunks)[:2] == (records, failure)
    bytewise = [stream[i : i + 1] for i in range(len(stream))]
    *found, written = outcome(single, bytewise)
    assert found == [records, failure]
    if failure is None:
        assert whole.pending == at_random.pending == single.pending
        assert whole.returns_last is at_random.returns_last is single.returns_last
        assert whole.read_last() == at_random.read_last() == single.read_last()
    else:
        assert whole.read_last()[0].startswith(single.read_last()[0])
        assert written <= len(stream)


@lossless_disciplines
@given(data=st.data())
def test_no_byte_is_lost(discipline, data):
    stream = data.draw(noise(discipline))
    buffer = discipline.buffer.fresh()
    records, _, _ = outcome(buffer, cut(stream, data.draw(borders)))
    whole = discipline.buffer.fresh()
    assert outcome(whole, [stream])[0] == records
    framed = b"".join(map(discipline.on_the_wire, records))
    assert framed + b"".join(whole.read_last()) == stream


@every_discipline
@given(data=st.data())
def test_records_can_be_read_late(discipline, data):
    stream = data.draw(noise(discipline))
    records, failure, _ = outcome(discipline.buffer.fresh(), [stream])
    late = discipline.buffer.fresh()
    try:
        for chunk in cut(stream, data.draw(borders)):
            late.write(chunk)
    except EventMuxError as error:
        assert type(error) is failure
    assert late.read() == records
    assert late.read() == []


@every_discipline
@given(data=st.data())
def test_pending_is_what_waits_and_bounded(discipline, data):
    buffer = discipline.buffer.fresh()
    limit = discipline.longest + discipline.extra
    limited = getattr(buffer, "_max_size", None) is not None
    for chunk in cut(data.draw(noise(discipline)), data.draw(borders)):
        before = buffer.pending
        try:
            buffer.write(chunk)
        except EventMuxError:
            assert buffer.pending <= before + len(chunk)
            break
        used = sum(len(discipline.on_the_wire(record)) for record in buffer.read())
        if discipline.keeps_all:
            assert buffer.pending == before + len(chunk) - used
        assert buffer.pending <= limit or not limited


def broken(discipline):
    """Return a buffer that has failed, or skip nothing: None if this one cannot fail."""
    buffer = discipline.buffer.fresh()
    good = discipline.frame(b"bb")
    for bad in (b"\xff" * 8, b"c" * 50):
        try:
            buffer.write(good + bad)
        except EventMuxError as error:
            return buffer, error
        buffer = discipline.buffer.fresh()
    return None, None


limited_disciplines = disciplines(lambda each: each.gives_early and broken(each)[0] is not None)


def test_most_disciplines_can_fail():
    assert len(limited_disciplines.args[1]) >= 5


@limited_disciplines
def test_the_good_records_come_before_the_failure(discipline):
    buffer, _ = broken(discipline)
    assert buffer.read() == [discipline.record(b"bb")]
    assert buffer.read() == []


@limited_disciplines
def test_a_failure_stays(discipline):
    buffer, first = broken(discipline)
    buffer.read()
    pending = buffer.pending
    for chunk in (discipline.frame(b"bb"), b""):
        with pytest.raises(type(first), match=str(first)):
            buffer.write(chunk)
    assert buffer.read() == []
    assert buffer.pending == pending


@limited_disciplines
def test_a_failure_names_the_value_and_the_limit(discipline):
    _, error = broken(discipline)
    numbers = [int(word) for word in str(error).replace(",", "").split() if word.isdigit()]
    assert len(numbers) == 2
    assert numbers[0] > numbers[1] == (discipline.limit or discipline.longest)


@limited_disciplines
def test_a_failure_does_not_grow(discipline):
    buffer, _ = broken(discipline)
    depths = []
    for _ in range(3):
        with pytest.raises(EventMuxError) as caught:
            buffer.write(b"")
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


@limited_disciplines
def test_fresh_does_not_inherit_a_failure(discipline):
    buffer, failure = broken(discipline)
    again = buffer.fresh()
    again.write(discipline.frame(b"bb"))
    assert again.read() == [discipline.record(b"bb")]
    with pytest.raises(type(failure)):
        again.write(buffer.read_last()[-1])


@early_disciplines
def test_fresh_is_empty_and_independent(discipline):
    first = discipline.buffer.fresh()
    start, record = discipline.frame(b"bb"), discipline.record(b"bb")
    first.write(start + start[:1])
    second = first.fresh()
    assert type(second) is type(first)
    assert second.returns_last is first.returns_last
    assert (second.pending, second.read(), second.read_last()) == (0, [], [])
    second.write(start)
    assert second.read() == [record]
    assert first.read() == [record]
    assert first.pending == 1


@early_disciplines
def test_read_last_empties(discipline):
    buffer = discipline.buffer.fresh()
    start = discipline.frame(b"bb")
    buffer.write(start + start[:-1])
    assert buffer.pending == len(start) - 1
    assert buffer.read_last() == [discipline.record(b"bb"), start[:-1]]
    assert buffer.pending == 0
    assert buffer.read_last() == []


@early_disciplines
def test_read_last_leaves_an_empty_buffer(discipline):
    buffer = discipline.buffer.fresh()
    buffer.write(discipline.frame(b"b" * discipline.longest)[:-1])
    buffer.read_last()
    buffer.write(discipline.frame(b"bb"))
    assert buffer.read() == [discipline.record(b"bb")]
    assert buffer.pending == 0


@every_discipline
def test_an_empty_write_is_nothing(discipline):
    buffer = discipline.buffer.fresh()
    buffer.write(b"")
    assert (buffer.pending, buffer.read(), buffer.read_last()) == (0, [], [])


@early_disciplines
def test_records_are_bytes(discipline):
    buffer = discipline.buffer.fresh()
    for byte in discipline.frame(b"bb") * 2:
        buffer.write(bytes([byte]))
    assert [type(record) for record in buffer.read()] == [bytes, bytes]


@every_discipline
def test_what_is_left_is_bytes(discipline):
    buffer = discipline.buffer.fresh()
    buffer.write(discipline.frame(b"bb")[:1])
    assert [type(rest) for rest in buffer.read_last()] == [bytes]


class CountingBytearray(bytearray):
    """Counts the bytes that are looked at or copied."""

    touched = 0

    def find(self, sub, start=0):
        found = super().find(sub, start)
        CountingBytearray.touched += max(0, (found if found >= 0 else len(self)) - start)
        return found

    def split(self, *args):
        CountingBytearray.touched += len(self)
        return super().split(*args)

    def __contains__(self, item):
        CountingBytearray.touched += len(self)
        return super().__contains__(item)

    def __getitem__(self, index):
        found = super().__getitem__(index)
        CountingBytearray.touched += 1 if isinstance(found, int) else len(found)
        return found

    def __bytes__(self):
        CountingBytearray.touched += len(self)
        return bytes(memoryview(self))


class CountingPattern:
    """Counts the bytes that a pattern may look at."""

    def __init__(self, pattern):
        self._pattern = pattern

    def search(self, data, start=0):
        found = self._pattern.search(data, start)
        CountingBytearray.touched += (found.end() if found else len(data)) - start
        return found

    def finditer(self, data, start=0):
        CountingBytearray.touched += len(data) - start
        return self._pattern.finditer(data, start)


@pytest.fixture
def counting(monkeypatch):
    """Make new buffers count what they touch."""
    monkeypatch.setattr(CountingBytearray, "touched", 0)
    for module in (_records, _split, _size, _frames, _http):
        monkeypatch.setattr(module, "bytearray", CountingBytearray, raising=False)
    monkeypatch.setattr(_http, "_END_OF_FIELDS", CountingPattern(_http._END_OF_FIELDS))


def counted(buffer):
    fresh = buffer.fresh()
    if getattr(fresh, "_pattern", None) is not None:
        fresh._pattern = CountingPattern(fresh._pattern)
    return fresh


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINEAR = {
    "split": (Split(), b"", b"\n"),
    "split-long": (Split(b"\r\n\r\n"), b"", b"\r\n\r\n"),
    "split-pattern": (Split(re.compile(rb"\r?\n"), max_separator=4), b"", b"\n"),
    "size": (Size("!I"), (20_000).to_bytes(4, "big"), b""),
    "frames": (Frames(lambda data, at: 20_001), b"", b""),
    "fixed": (FixedSize(20_000), b"", b""),
    "last": (Last(), b"", b""),
    "http-head": (HTTP(), b"GET / HTTP/1.1\r\na: ", b"\r\n\r\n"),
    "http-body": (HTTP(), _post(20_000), b""),
    "http-to-end": (HTTP(), b"HTTP/1.1 200 OK\r\n\r\n", b""),
    "http-chunk": (HTTP(), CHUNKED + b"4e20\r\n", b"\r\n0\r\n\r\n"),
    "http-extension": (HTTP(), CHUNKED + b"0;", b"\r\n\r\n"),
    "http-trailer": (HTTP(), CHUNKED + b"0\r\na: ", b"\r\n\r\n"),
}


@pytest.mark.parametrize(("buffer", "before", "after"), LINEAR.values(), ids=LINEAR)
def test_ib6_a_byte_at_a_time_is_linear(counting, buffer, before, after):
    # A buffer that looked again at what it has would touch 200 million bytes.
    fresh = counted(buffer)
    record = b"x" * 20_000
    for byte in before + record + after:
        fresh.write(bytes([byte]))
    assert len(fresh.read_last()) == 1
    assert 0 < CountingBytearray.touched < 10 * len(record)


MANY = {
    "split": (Split(), b"x\n"),
    "split-pattern": (Split(re.compile(rb"\r?\n")), b"x\r\n"),
    "size": (Size("B"), b"\x01x"),
    "fixed": (FixedSize(2), b"xx"),
    "frames": (Frames(lambda data, at: 2), b"xx"),
    "http": (HTTP(), b"\r\nGET / HTTP/1.1\r\n\r\n"),
    "http-body": (HTTP(), b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    "http-chunks": (HTTP(), CHUNKED + b"1\r\nx\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize(("buffer", "record"), MANY.values(), ids=MANY)
def test_many_records_in_one_write_are_linear(counting, buffer, record):
    fresh = counted(buffer)
    stream = record * 5000
    fresh.write(stream)
    assert len(fresh.read()) == 5000
    assert CountingBytearray.touched < 10 * len(stream)
