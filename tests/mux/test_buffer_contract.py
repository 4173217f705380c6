"""What every buffering discipline promises. A new one gets its tests by a line in DISCIPLINES."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmux import EventMuxError, buffers
from eventmux.buffers import Size, Split


@dataclass
class Discipline:
    """One way to cut a stream, and what is needed to test it."""

    name: str
    buffer: object
    prefix: object  # what a record of this length has in front
    suffix: bytes  # what a record has behind
    alphabet: bytes  # what records may consist of, so that they hold no separator
    noise: bytes  # bytes that make random streams interesting
    longest: int  # the limit, or what is enough for a test if there is none
    extra: int  # bytes that an incomplete record may have beyond its limit

    def frame(self, record):
        return self.prefix(len(record)) + record + self.suffix


def _nothing(size):
    return b""


DISCIPLINES = [
    Discipline("split", Split(), _nothing, b"\n", b"ab\r\0", b"a\n", 9, 0),
    Discipline("split-limit", Split(max_size=3), _nothing, b"\n", b"ab\r", b"ab\n", 3, 0),
    Discipline("split-crlf", Split(b"\r\n", max_size=4), _nothing, b"\r\n", b"a\n", b"a\r\n", 4, 1),
    Discipline("split-overlap", Split(b"aab", max_size=5), _nothing, b"aab", b"bc", b"aab", 5, 2),
    Discipline("split-same", Split(b"aaa"), _nothing, b"aaa", b"bc", b"aab", 9, 2),
    Discipline("size", Size("B"), lambda n: bytes([n]), b"", b"\0\1ab", b"\0\1\2\3", 9, 1),
    Discipline(
        "size-own-header",
        Size("!I", -4, max_size=6),
        lambda n: (n + 4).to_bytes(4, "big"),
        b"",
        b"\0\4ab",
        b"\0\0\0\4\5",
        6,
        4,
    ),
    Discipline(
        "size-between",
        Size("<H", 1, min_size=1, max_size=5),
        lambda n: (n - 1).to_bytes(2, "little"),
        b"",
        b"\0\1ab",
        b"\0\1\2",
        5,
        2,
    ),
]

every_discipline = pytest.mark.parametrize(
    "discipline", [pytest.param(each, id=each.name) for each in DISCIPLINES]
)


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


def alphabet(letters, longest):
    return st.lists(st.sampled_from(letters), max_size=longest).map(bytes)


borders = st.lists(st.integers(0, 1000), max_size=8)


@every_discipline
@given(data=st.data())
def test_any_chunking_gives_the_records(discipline, data):
    least = 1 if discipline.name == "size-between" else 0
    one = alphabet(discipline.alphabet, discipline.longest).filter(lambda r: len(r) >= least)
    records = data.draw(st.lists(one, max_size=6))
    stream = b"".join(map(discipline.frame, records))
    buffer = discipline.buffer.fresh()
    assert outcome(buffer, cut(stream, data.draw(borders))) == (records, None, len(stream))
    assert buffer.pending == 0
    assert buffer.read_last() == []


@every_discipline
@given(data=st.data())
def test_any_chunking_of_anything_ends_the_same(discipline, data):
    stream = data.draw(alphabet(discipline.noise, 40))
    whole, at_random, single = (discipline.buffer.fresh() for _ in range(3))
    records, failure, _ = outcome(whole, [stream])
    chunks = cut(stream, data.draw(borders))
    assert outcome(at_random, chunks)[:2] == (records, failure)
    bytewise = [stream[i : i + 1] for i in range(len(stream))]
    *found, written = outcome(single, bytewise)
    assert found == [records, failure]
    if failure is None:
        assert whole.pending == at_random.pending == single.pending
        assert whole.read_last() == at_random.read_last() == single.read_last()
    else:
        assert whole.read_last()[0].startswith(single.read_last()[0])
        assert written <= len(stream)


@every_discipline
@given(data=st.data())
def test_no_byte_is_lost(discipline, data):
    stream = data.draw(alphabet(discipline.noise, 40))
    buffer = discipline.buffer.fresh()
    records, _, _ = outcome(buffer, cut(stream, data.draw(borders)))
    whole = discipline.buffer.fresh()
    assert outcome(whole, [stream])[0] == records
    framed = b"".join(map(discipline.frame, records))
    assert framed + b"".join(whole.read_last()) == stream


@every_discipline
@given(data=st.data())
def test_records_can_be_read_late(discipline, data):
    stream = data.draw(alphabet(discipline.noise, 40))
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
    limited = "limit" in discipline.name or getattr(buffer, "_max_size", None) is not None
    for chunk in cut(data.draw(alphabet(discipline.noise, 40)), data.draw(borders)):
        before = buffer.pending
        try:
            buffer.write(chunk)
        except EventMuxError:
            assert buffer.pending <= before + len(chunk)
            break
        used = sum(len(discipline.frame(record)) for record in buffer.read())
        assert buffer.pending == before + len(chunk) - used
        assert buffer.pending <= limit or not limited


def broken(discipline):
    """Return a buffer that has failed, or skip nothing: None if this one cannot fail."""
    buffer = discipline.buffer.fresh()
    good = discipline.frame(b"b" * min(2, discipline.longest))
    for bad in (b"\xff" * 8, b"c" * 50):
        try:
            buffer.write(good + bad)
        except EventMuxError as error:
            return buffer, error
        buffer = discipline.buffer.fresh()
    return None, None


limited_disciplines = pytest.mark.parametrize(
    "discipline",
    [pytest.param(each, id=each.name) for each in DISCIPLINES if broken(each)[0] is not None],
)


def test_most_disciplines_can_fail():
    assert len(limited_disciplines.args[1]) >= 5


@limited_disciplines
def test_the_good_records_come_before_the_failure(discipline):
    buffer, _ = broken(discipline)
    assert buffer.read() == [b"bb"]
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
    assert numbers[0] > numbers[1] == discipline.longest


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
    assert again.read() == [b"bb"]
    with pytest.raises(type(failure)):
        again.write(buffer.read_last()[-1])


@every_discipline
def test_fresh_is_empty_and_independent(discipline):
    first = discipline.buffer.fresh()
    start = discipline.frame(b"bb")
    first.write(start + start[:1])
    second = first.fresh()
    assert type(second) is type(first)
    assert second.returns_last is first.returns_last
    assert (second.pending, second.read(), second.read_last()) == (0, [], [])
    second.write(start)
    assert second.read() == [b"bb"]
    assert first.read() == [b"bb"]
    assert first.pending == 1


@every_discipline
def test_read_last_empties(discipline):
    buffer = discipline.buffer.fresh()
    start = discipline.frame(b"bb")
    buffer.write(start + start[:-1])
    assert buffer.pending == len(start) - 1
    assert buffer.read_last() == [b"bb", start[:-1]]
    assert buffer.pending == 0
    assert buffer.read_last() == []


@every_discipline
def test_read_last_leaves_an_empty_buffer(discipline):
    buffer = discipline.buffer.fresh()
    buffer.write(discipline.frame(b"b" * discipline.longest)[:-1])
    buffer.read_last()
    buffer.write(discipline.frame(b"b"))
    assert buffer.read() == [b"b"]
    assert buffer.pending == 0


@every_discipline
def test_an_empty_write_is_nothing(discipline):
    buffer = discipline.buffer.fresh()
    buffer.write(b"")
    assert (buffer.pending, buffer.read(), buffer.read_last()) == (0, [], [])


@every_discipline
def test_records_are_bytes(discipline):
    buffer = discipline.buffer.fresh()
    for byte in discipline.frame(b"bb") * 2:
        buffer.write(bytes([byte]))
    assert [type(record) for record in buffer.read()] == [bytes, bytes]


class CountingBytearray(bytearray):
    """Counts the bytes that are looked at or copied."""

    touched = 0

    def find(self, sub, start=0):
        CountingBytearray.touched += max(0, len(self) - start)
        return super().find(sub, start)

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


@pytest.mark.parametrize(
    ("buffer", "before", "after"),
    [
        (Split(), b"", b"\n"),
        (Split(b"\r\n\r\n"), b"", b"\r\n\r\n"),
        (Size("!I"), (20_000).to_bytes(4, "big"), b""),
    ],
    ids=["split", "split-long", "size"],
)
def test_a_byte_at_a_time_is_linear(monkeypatch, buffer, before, after):
    # A buffer that looked again at what it has would touch 200 million bytes.
    monkeypatch.setattr(buffers, "bytearray", CountingBytearray, raising=False)
    monkeypatch.setattr(CountingBytearray, "touched", 0)
    fresh = buffer.fresh()
    record = b"x" * 20_000
    for byte in before + record + after:
        fresh.write(bytes([byte]))
    assert fresh.read() == [record]
    assert 0 < CountingBytearray.touched < 10 * len(record)


@pytest.mark.parametrize("buffer", [Split(), Size("B")], ids=["split", "size"])
def test_many_records_in_one_write_are_linear(monkeypatch, buffer):
    monkeypatch.setattr(buffers, "bytearray", CountingBytearray, raising=False)
    monkeypatch.setattr(CountingBytearray, "touched", 0)
    fresh = buffer.fresh()
    stream = (b"\x01x" if isinstance(fresh, Size) else b"x\n") * 20_000
    fresh.write(stream)
    assert fresh.read() == [b"x"] * 20_000
    assert CountingBytearray.touched < 10 * len(stream)
