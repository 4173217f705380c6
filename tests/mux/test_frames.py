"""Frames: a function tells lengths. Four formats, and functions that are at fault."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings
from support.framings import MQTT, NETSTRINGS, RESP, SYSLOG
from support.pump import PATIENCE, kinds, until

from eventmux import BufferOverflow, EventMuxError, FramingError, MalformedRecord, Ready
from eventmux.buffers import AtLeast, Frames, Split


def netstring(data, at):
    colon = data.find(b":", at, at + 9)
    return None if colon < 0 else colon - at + int(data[at:colon]) + 2


def written(buffer, *pieces):
    for piece in pieces:
        buffer.write(piece)
    return buffer.read()


def single(stream):
    return [stream[i : i + 1] for i in range(len(stream))]


# Four formats, against encoders that share nothing with the functions


def as_netstring(payload):
    return b"%d:%s," % (len(payload), payload)


def as_syslog(payload):
    return str(len(payload)).encode() + b" " + payload


def as_mqtt(payload):
    """Encode as MQTT 3.1.1, section 2.2.3, has it."""
    size, encoded = len(payload), bytearray(b"\x30")
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | 128 if size else digit)
        if not size:
            return bytes(encoded) + payload


def as_resp(value):
    """Encode as the protocol specification of Redis has it."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case str():
            return b"+" + value.encode() + b"\r\n"
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(as_resp, value))


payloads = st.one_of(
    st.binary(max_size=300), st.sampled_from([b",", b"5:a", b"\r\n", b"$1\r\n", b"x" * 20_000])
)
nested = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.text("abc \xe9", max_size=9),
        st.binary(max_size=40),
        st.sampled_from([b"\r\n", b"*3\r\n", b"x" * 5000]),
    ),
    lambda values: st.lists(values, max_size=5),
    max_leaves=20,
)
FORMATS = {
    "netstrings": (NETSTRINGS, as_netstring, payloads),
    "syslog": (SYSLOG, as_syslog, st.binary(min_size=1, max_size=2000)),
    "mqtt": (MQTT, as_mqtt, payloads),
    "resp": (RESP, as_resp, nested),
}
every_format = pytest.mark.parametrize(
    ("buffer", "encoded", "values"), FORMATS.values(), ids=FORMATS
)


@every_format
@given(data=st.data())
def test_any_chunking_gives_what_was_encoded(buffer, encoded, values, data):
    drawn = [encoded(value) for value in data.draw(st.lists(values, max_size=6))]
    fresh = buffer.fresh()
    records = []
    for piece in data.draw(chunkings(b"".join(drawn))):
        records += written(fresh, piece)
    assert records == drawn
    assert (fresh.pending, fresh.read_last()) == (0, [])


@every_format
@given(data=st.data())
def test_any_byte_may_be_the_last_to_come(buffer, encoded, values, data):
    drawn = encoded(data.draw(values))
    size = data.draw(st.integers(1, len(drawn))) - 1
    fresh = buffer.fresh()
    assert written(fresh, drawn[:size]) == []
    assert fresh.pending == size
    assert fresh.read_last() == ([drawn[:size]] if size else [])


@every_format
@given(data=st.data())
def test_any_bytes_give_records_or_an_error(buffer, encoded, values, data):
    stream = bytearray(b"".join(map(encoded, data.draw(st.lists(values, max_size=2)))))
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(stream)))
        stream[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    ends = []
    for pieces in ([bytes(stream)], data.draw(chunkings(bytes(stream)))):
        fresh = buffer.fresh()
        records, failure = [], None
        try:
            for piece in pieces:
                records += written(fresh, piece)
        except EventMuxError as error:
            failure = type(error)
            records += fresh.read()
        rest = fresh.read_last() if failure is None else None
        ends.append((records, failure, rest))
    assert ends[0] == ends[1]
    assert failure is not FramingError


@pytest.mark.parametrize(
    ("buffer", "stream", "error"),
    [
        (NETSTRINGS, b"x" * 11, BufferOverflow),  # no length within max_header
        (NETSTRINGS, b"99999999:", BufferOverflow),
        (SYSLOG, b"0 " + b"x" * 9, BufferOverflow),
        (SYSLOG, b"65531 ", BufferOverflow),
        (MQTT, b"0\xff\xff\xff\xff\x01", BufferOverflow),
        (RESP, b"$x\r\n", MalformedRecord),
        (RESP, b"*1\r\n$\r\n", MalformedRecord),
        (RESP, b"$1048577\r\n", BufferOverflow),
        (RESP, b"*999999\r\n", BufferOverflow),  # three bytes for each, at least
        (RESP, b"*1\r\n" * 300_000, BufferOverflow),
    ],
)
def test_what_is_no_record_is_refused(buffer, stream, error):
    good = {NETSTRINGS: b"1:a,", SYSLOG: b"1 a", MQTT: b"0\1a", RESP: b"+a\r\n"}[buffer]
    fresh = buffer.fresh()
    with pytest.raises(error):
        fresh.write(good + stream)
    assert fresh.read() == [good]
    assert fresh.read_last() == [stream]


def test_an_array_is_judged_by_the_least_that_its_elements_take():
    value = [b"x" * 100] * 9000
    assert written(RESP.fresh(), as_resp(value)) == [as_resp(value)]


# What the function is asked


class Asked:
    """A function that notes what it was asked, and how much that was to look at."""

    def __init__(self, function):
        self.function = function
        self.times = 0
        self.bytes = 0
        self.types = set()

    def __call__(self, data, at):
        self.times += 1
        self.bytes += len(data) - at
        self.types.add(type(data))
        assert at < len(data)
        return self.function(data, at)


def test_a_known_length_is_not_asked_for_again():
    asked = Asked(netstring)
    record = as_netstring(b"x" * 10_000)
    assert written(Frames(asked), *single(record)) == [record]
    assert asked.times == len(b"10000:")
    assert asked.types == {bytes}


def test_an_empty_write_asks_nothing():
    asked = Asked(netstring)
    buffer = Frames(asked)
    assert written(buffer, b"", b"1", b"", b"") == []
    assert asked.times == 1


def test_at_least_spares_looking_at_each_byte():
    values = as_resp([b"x" * 50] * 400)
    asked = Asked(RESP._function)
    assert written(Frames(asked), *single(values)) == [values]
    assert asked.bytes < 100 * len(values)  # 11,000 times as much if it looked at each byte


def test_a_long_record_is_asked_for_twice():
    asked = Asked(RESP._function)
    value = as_resp([b"SET", b"key", b"x" * 500_000])
    pieces = [value[start : start + 4096] for start in range(0, len(value), 4096)]
    assert written(Frames(asked), *pieces) == [value]
    assert asked.times <= 3


def test_many_records_in_one_write_are_linear():
    class Counting(bytes):
        sliced = 0

        def __getitem__(self, index):
            found = super().__getitem__(index)
            Counting.sliced += len(found)
            return found

    stream = b"1:a," * 50_000
    buffer = Frames(lambda data, at: 4)
    buffer.write(Counting(stream))
    assert len(buffer.read()) == 50_000
    assert 0 < Counting.sliced <= len(stream) + 100


@given(chunks=chunkings(b"12:hello world!,0:,5:a:b,c,3:abc,"))
def test_at_least_makes_no_difference_to_the_records(chunks):
    def careful(data, at):
        return netstring(data, at) or AtLeast(len(data) - at + 1)

    assert written(Frames(careful), *chunks) == written(Frames(netstring), *chunks)


def test_at_least_what_is_there_already_is_asked_at_the_next_byte():
    asked = Asked(lambda data, at: 3 if len(data) - at == 3 else AtLeast(1))
    assert written(Frames(asked), b"a", b"b", b"c", b"d") == [b"abc"]
    assert asked.times == 4


# A function that is at fault, and what it says about the peer


def failing(result):
    def function(data, at):
        if data[at : at + 1] == b"a":
            return 1
        if isinstance(result, Exception):
            raise result
        return result

    return function


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("5", "function() returned '5', must be a number of bytes, or None"),
        (2.0, "function() returned 2.0"),
        (True, "function() returned True"),
        (b"", "function() returned b''"),
        (AtLeast("5"), "returned AtLeast(size='5')"),
        (KeyError("x"), "KeyError in the function that tells lengths: 'x'"),
        (IndexError("far"), "IndexError in the function that tells lengths: far"),
    ],
)
def test_the_function_is_at_fault(result, text):
    buffer = Frames(failing(result))
    for _ in range(2):
        with pytest.raises(FramingError) as caught:
            buffer.write(b"aaxyz")
        assert text in str(caught.value)
        assert isinstance(caught.value.__cause__, (TypeError, KeyError, IndexError))
    assert buffer.read() == [b"a", b"a"]
    assert buffer.read_last() == [b"xyz"]


@pytest.mark.parametrize("result", [0, -1, -(10**30), AtLeast(0), AtLeast(-5)])
def test_a_length_of_nothing_is_malformed(result):
    buffer = Frames(failing(result))
    with pytest.raises(MalformedRecord, match=r"record that begins with b'xy' is -?\d+ bytes long"):
        buffer.write(b"aaxy")
    assert buffer.read() == [b"a", b"a"]


def test_a_value_error_is_the_peers_fault():
    told = r"^record that begins with b'.*': invalid literal for int"
    with pytest.raises(MalformedRecord, match=told):
        Frames(netstring).write(b"xx:")
    own = BufferOverflow(5, 4)
    with pytest.raises(BufferOverflow) as caught:
        Frames(failing(own)).write(b"x")
    assert caught.value is own


@pytest.mark.parametrize("size", [11, 10**6, 2**64, 10**30])
@pytest.mark.parametrize("kind", [int, AtLeast])
def test_a_length_over_the_limit_is_refused_before_the_record_is_there(size, kind):
    buffer = Frames(failing(kind(size)), max_size=10)
    with pytest.raises(BufferOverflow) as caught:
        buffer.write(b"ax")
    assert (caught.value.size, caught.value.limit) == (size, 10)
    assert buffer.read() == [b"a"]


def test_the_limits_are_what_passes():
    assert written(Frames(lambda data, at: 10, max_size=10), b"x" * 10) == [b"x" * 10]
    buffer = Frames(lambda data, at: None, max_header=10)
    assert written(buffer, *single(b"x" * 10)) == []
    with pytest.raises(BufferOverflow, match="record of 11 bytes, limit is 10"):
        buffer.write(b"x")


def test_without_a_limit_any_length_is_waited_for():
    assert written(Frames(lambda data, at: 10**30, max_size=None), b"x" * 100) == []


@pytest.mark.parametrize("function", [None, 5, b":"])
def test_a_function_can_be_called(function):
    with pytest.raises(TypeError, match="must be callable"):
        Frames(function)


@pytest.mark.parametrize("name", ["max_size", "max_header"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_limits_are_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}, must be a positive int"):
        Frames(netstring, **{name: value})


# In a mux


def test_records_come_one_by_one(mux, watched_as):
    _, peer = watched_as(NETSTRINGS)
    peer.sendall(b"1:a,0:,2:b")
    peer.shutdown(socket.SHUT_WR)
    events = until(mux, "closed")
    assert kinds(events) == ["read", "read", "read_last", "closing", "closed"]
    assert [event.data for event in events[:3]] == [b"1:a,", b"0:,", b"2:b"]


@pytest.mark.parametrize("stream", [b"1:a,x:", b"1:a,99999999:"])
def test_what_a_peer_does_is_an_event(mux, watched_as, stream):
    fh, peer = watched_as(Frames(netstring))
    peer.sendall(stream)
    events = until(mux, "error")
    assert kinds(events) == ["read", "error"]
    assert isinstance(events[-1].exception, (MalformedRecord, BufferOverflow))
    assert events[-1].data == stream[4:]
    mux.send(fh, b"no\n")
    until(mux, "closed")
    assert peer.recv(9) == b"no\n"


def test_the_fault_of_the_function_comes_out_once(mux, watched_as):
    fault = KeyError("x")
    _, peer = watched_as(Frames(failing(fault)))
    peer.sendall(b"axyz")
    events = []
    with pytest.raises(KeyError) as caught:  # noqa: PT012  # it comes out of one of them
        while not events or events[-1].type != "closed":
            events.append(mux.mux(PATIENCE))
    assert caught.value is fault
    events += until(mux, "closed")
    assert kinds(events) == ["read", "error", "closing", "closed"]
    assert isinstance(events[1].exception, FramingError)


def test_the_buffer_may_change_between_frames(mux, watched_as):
    fh, peer = watched_as(Split(b"\n"))
    peer.sendall(b"frames\n3:a\nb,1:x,lines\nend\n")
    records = []
    while b"end" not in records:
        [*_, read] = until(mux, "read")
        records.append(read.data)
        if read.data == b"frames":
            mux.set(fh, buffered=NETSTRINGS)
        elif read.data == b"1:x,":
            mux.set(fh, buffered=Split(b"\n"))
    assert records == [b"frames", b"3:a\nb,", b"1:x,", b"lines", b"end"]


@pytest.fixture
def watched_as(mux, pair):
    """Watch a handle with a buffer; give it when it is up, and the peer's end."""

    def watch(buffered, **options):
        fh, peer = pair()
        mux.add(fh, buffered=buffered, **options)
        assert mux.mux(PATIENCE) == Ready(fh)
        return fh, peer

    return watch
