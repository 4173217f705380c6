"""HTTP: where a message ends, and what is refused because that is in doubt."""

import http.client
import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.chunks import chunkings

from eventmux import BufferOverflow, EventMuxError, HeaderOverflow, MalformedRecord
from eventmux.buffers import HTTP

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n\r\n"


def request(*fields, body=b""):
    return b"\r\n".join([b"POST / HTTP/1.1", *fields, b"", body])


def response(*fields, status=b"200 OK", version=b"1.1", body=b""):
    return b"\r\n".join([b"HTTP/" + version + b" " + status, *fields, b"", body])


def chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


CHUNKED = b"Transfer-Encoding: chunked"


def written(buffer, *pieces):
    for piece in pieces:
        buffer.write(piece)
    return buffer.read()


def refused(data, **options):
    """Return the error, and check that it comes also if the data comes in single bytes."""
    errors = []
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        buffer = HTTP(**options)
        with pytest.raises(EventMuxError) as caught:
            written(buffer, *pieces)
        errors.append(caught.value)
        assert buffer.read() == []
        assert data.startswith(b"".join(buffer.read_last()))
    assert type(errors[0]) is type(errors[1])
    return errors[0]


# Messages with and without a body


def test_a_request_without_a_length_has_no_body():
    assert written(HTTP(), GET + GET) == [GET, GET]


@pytest.mark.parametrize("make", [request, response])
def test_a_body_is_as_long_as_its_length_says(make):
    message = make(b"Content-Length: 4", body=b"\r\n\r\n")
    assert written(HTTP(), message + GET) == [message, GET]


def test_a_body_may_come_later():
    buffer = HTTP()
    message = request(b"Content-Length: 5", body=b"hello")
    assert written(buffer, message[:-2]) == []
    assert buffer.pending == len(message) - 2
    assert written(buffer, message[-2:] + GET[:3]) == [message]
    assert buffer.pending == 3


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length:5",
        b"content-length:  5",
        b"CONTENT-LENGTH: \t5 \t",
        b"Content-Length: 005",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\nContent-Length: 5",
    ],
)
def test_a_length_is_understood(field):
    message = request(field, body=b"hello")
    assert written(HTTP(), message) == [message]


@pytest.mark.parametrize(
    "field",
    [
        b"X-Content-Length: 5",
        b"Content-Length-X: 5",
        b"X: Content-Length: 5",
        b"X: Transfer-Encoding: chunked",
        b"X-Transfer-Encoding: chunked",
    ],
)
def test_another_field_is_no_length(field):
    head = request(field)
    assert written(HTTP(), head + GET) == [head, GET]


@pytest.mark.parametrize(
    "status", [b"100 Continue", b"199", b"204 No Content", b"304 Not Modified"]
)
@pytest.mark.parametrize("field", [b"Content-Length: 5", CHUNKED, b"X: y"])
def test_some_responses_have_no_body_whatever_they_say(status, field):
    head = response(field, status=status)
    assert written(HTTP(), head + OK[:-1]) == [head]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("field", [b"X: y", b"Connection: close"])
def test_a_response_without_a_length_is_all_that_comes(version, field):
    buffer = HTTP()
    message = response(field, version=version, body=b"one\r\n\r\ntwo" + GET)
    assert written(buffer, message[:20], message[20:-4], message[-4:]) == []
    assert buffer.pending == len(message)
    assert buffer.returns_last is False
    assert buffer.read_last() == [message]
    assert buffer.returns_last is True


def test_a_response_that_is_not_chunked_at_last_is_all_that_comes():
    buffer = HTTP()
    message = response(b"Transfer-Encoding: gzip", body=b"..")
    assert written(buffer, message) == []
    assert buffer.returns_last is False
    assert buffer.read_last() == [message]


def test_a_message_cut_short_is_no_record():
    for message in (GET[:-1], request(b"Content-Length: 5", body=b"hell")):
        buffer = HTTP()
        assert written(buffer, message) == []
        assert buffer.returns_last is True
        assert buffer.read_last() == [message]


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
def test_blank_lines_between_messages_are_dropped(blank):
    buffer = HTTP()
    assert written(buffer, blank + GET + blank + GET + blank) == [GET, GET]
    assert buffer.pending == 0


def test_lines_may_end_without_cr():
    message = b"POST / HTTP/1.1\nContent-Length: 2\nX: y\n\nab"
    assert written(HTTP(), message, message[:40], message[40:]) == [message, message]


def test_a_reason_may_be_missing():
    for line in (b"HTTP/1.1 204", b"HTTP/1.1 204 ", b"HTTP/1.0 204 \xe6"):
        assert written(HTTP(), line + b"\r\n\r\n") == [line + b"\r\n\r\n"]


# The chunked coding


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"05\r\nhello\r\n000\r\n\r\n",
        b"5 \t\r\nhello\r\n0 \r\n\r\n",
        b'5;a=b\r\nhello\r\n0;c="d;e"\r\n\r\n',
        b"5\r\nhello\r\n0\r\nTrailer: x\r\nContent-Length: 9\r\n\r\n",
    ],
)
@pytest.mark.parametrize("make", [request, response])
def test_chunks_are_put_together(make, body):
    head = make(CHUNKED)
    for pieces in ([head + body + GET], [bytes([byte]) for byte in head + body + GET]):
        buffer = HTTP()
        assert written(buffer, *pieces) == [head + b"hello", GET]
        assert buffer.pending == 0


def test_chunks_may_look_like_anything():
    chunks = b"0\r\n\r\n", b"\r\n", b"x" * 26, GET
    head = request(b"transfer-encoding:Chunked")
    stream = head + chunked(*chunks) + b"0\r\n\r\n"
    assert written(HTTP(), stream) == [head + b"".join(chunks)]


def test_sizes_are_hexadecimal():
    head = request(CHUNKED)
    stream = head + b"1a\r\n" + b"x" * 26 + b"\r\nA\r\n" + b"y" * 10 + b"\r\n0\r\n\r\n"
    assert written(HTTP(), stream) == [head + b"x" * 26 + b"y" * 10]


@pytest.mark.parametrize(
    "fields",
    [
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: ,chunked,"],
    ],
)
def test_only_the_last_coding_is_removed(fields):
    head = request(*fields)
    assert written(HTTP(), head + b"1\r\nx\r\n0\r\n\r\n") == [head + b"x"]


def test_what_is_left_has_its_chunks_removed():
    buffer = HTTP()
    head = request(CHUNKED)
    assert written(buffer, head + chunked(b"abc") + b"5\r\nde") == []
    assert buffer.pending == len(head) + 5
    assert buffer.returns_last is True
    assert buffer.read_last() == [head + b"abcde"]
    assert (buffer.pending, buffer.read_last()) == (0, [])
    assert written(buffer, GET) == [GET]


def test_memory_is_not_filled_with_what_is_dropped():
    buffer = HTTP(max_size=1000)
    head = request(CHUNKED)
    buffer.write(head)
    for _ in range(100):
        buffer.write(b"1;" + b"x" * 5000 + b"\r\na\r\n")
        assert buffer.pending < 1000
    assert written(buffer, b"0\r\n\r\n") == [head + b"a" * 100]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 2\r\n",
        b";a\r\n",
        b"1\n",
        b"1;a\n",
        b"1;a\rb\r\n",
        b"1;\0\r\n",
        b"f" * 17 + b"\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"1\r\na0\r\n\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\na: b\rc\r\n\r\n",
    ],
)
def test_broken_chunks_are_refused(body):
    head = request(CHUNKED)
    buffer = HTTP()
    with pytest.raises(MalformedRecord, match=r"chunk|header line"):
        buffer.write(head + body)
    bytewise = HTTP()
    with pytest.raises(MalformedRecord, match=r"chunk|header line"):
        written(bytewise, *(bytes([byte]) for byte in head + body))
    assert buffer.read() == bytewise.read() == []
    (rest,) = buffer.read_last()
    assert rest.startswith(head)
    assert rest.startswith(bytewise.read_last()[0])


# What is in doubt


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5", b"Content-Length: 05"],
        [b"Content-Length: 5, 6"],
        [b"Content-Length: 5,"],
        [b"Content-Length:"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5.0"],
        [b"Content-Length: 1_0"],
        [b"Content-Length: \xb2"],
        [b"Content-Length: " + b"9" * 20],
        [b"Content-Length: 5", CHUNKED],
        [CHUNKED, b"Content-Length: 5"],
        [CHUNKED, CHUNKED],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: ,"],
        [b"Content-Length: 5", b"Transfer-Encoding: identity"],
    ],
)
@pytest.mark.parametrize("make", [request, response])
@pytest.mark.parametrize("header_only", [False, True])
def test_a_length_in_doubt_is_refused(fields, make, header_only):
    error = refused(make(*fields), header_only=header_only)
    assert isinstance(error, MalformedRecord)
    assert "Content-Length" in str(error) or "Transfer-Encoding" in str(error)


@pytest.mark.parametrize(
    "coding", [b"gzip", b"chunked, gzip", b"xchunked", b"chunked;x", b"chunked\x0b", b"identity"]
)
def test_a_request_must_be_chunked_at_last(coding):
    error = refused(request(b"Transfer-Encoding: " + coding))
    assert isinstance(error, MalformedRecord)
    assert "must end in chunked" in str(error)


def test_http_1_0_knows_no_chunks():
    assert "HTTP/1.0" in str(refused(response(CHUNKED, version=b"1.0")))
    assert "HTTP/1.0" in str(refused(b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n"))


@pytest.mark.parametrize(
    "line",
    [
        b" folded",
        b"\tfolded: x",
        b"X : y",
        b" X: y",
        b": y",
        b"X",
        b"X\0: y",
        b"X: \0",
        b"X: y\rZ: x",
        b"X: y\r",
        b"\xc4: y",
        b"X y: z",
        b"Content-Length : 5",
        b"Content-Length\r: 5",
    ],
)
@pytest.mark.parametrize("make", [request, response])
def test_a_broken_field_is_refused(line, make):
    error = refused(make(b"A: b", line, b"C: d"))
    assert isinstance(error, MalformedRecord)
    assert "header line is b" in str(error)
    assert "must be 'name: value', and end as the others do" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET / HTTP/2.0",
        b"PRI * HTTP/2.0",
        b"GET  / HTTP/1.1",
        b"GET / / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"G:T / HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /\rX HTTP/1.1",
        b"GET / HTTP/1.12",
        b"GET / http/1.1",
        b"HTTP/1.1",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 200 O\rK",
        b"\x16\x03\x01",
    ],
)
def test_a_broken_start_line_is_refused(line):
    error = refused(line + b"\r\nX: y\r\n\r\n")
    assert isinstance(error, MalformedRecord)
    assert "message begins with b" in str(error)


def test_a_message_shows_only_a_little_of_what_came():
    assert len(str(refused(b"x" * 5000 + b"\r\n\r\n"))) < 150
    assert len(str(refused(request(b"Content-Length: " + b"1" * 5000)))) < 150
    assert len(str(refused(request(b"x" * 5000)))) < 150


# Limits


def test_the_limits_are_what_passes():
    message = request(b"Content-Length: 5", body=b"hello")
    options = {"max_size": len(message), "max_header": len(message) - 5}
    assert written(HTTP(**options).fresh(), message * 3) == [message] * 3


def test_an_announced_length_is_refused_at_once():
    head = request(b"Content-Length: 70000")
    error = refused(head, max_size=65536)
    assert (error.size, error.limit) == (len(head) + 70000, 65536)
    assert refused(request(b"Content-Length: " + b"9" * 19), max_size=10**9).limit == 10**9


def test_an_announced_chunk_is_refused_at_once():
    head = request(CHUNKED)
    buffer = HTTP(max_size=len(head) + 5)
    buffer.write(head + chunked(b"abc") + b"2\r\nde\r\n")
    with pytest.raises(BufferOverflow) as caught:
        buffer.write(b"1\r\n")
    assert (caught.value.size, caught.value.limit) == (len(head) + 6, len(head) + 5)
    assert buffer.read_last() == [head + b"abcde1\r\n"]


def test_a_body_up_to_the_end_has_a_limit():
    buffer = HTTP(max_size=len(OK) + 3)
    assert written(buffer, OK + b"abc") == []
    with pytest.raises(BufferOverflow, match=f"{len(OK) + 4} bytes, limit is {len(OK) + 3}"):
        buffer.write(b"d")
    assert buffer.returns_last is True
    assert buffer.read_last() == [OK + b"abcd"]


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_has_a_limit(end):
    data = b"GET / HTTP/1.1\r\nX: " + b"y" * 100 + end
    assert refused(data, max_header=50).limit == 50
    assert refused(data, max_size=40).limit == 40
    assert refused(data, max_size=40, header_only=True).limit == 40


def test_a_head_has_a_limit_if_nothing_is_said():
    buffer = HTTP().fresh()
    buffer.write(b"x" * 65536)
    with pytest.raises(BufferOverflow, match="record of 65537 bytes, limit is 65536"):
        buffer.write(b"x")


@pytest.mark.parametrize("end", [b"", b"\r\n"])
@pytest.mark.parametrize("start", [b"1;", b"0;"])
def test_the_line_of_a_chunk_has_a_limit(start, end):
    buffer = HTTP(max_header=60)
    buffer.write(request(CHUNKED) + b"1;" + b"x" * 56 + b"\r\na\r\n")
    with pytest.raises(BufferOverflow, match="record of 61 bytes, limit is 60"):
        buffer.write(start + b"x" * (59 - len(end)) + end)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_trailers_have_a_limit(end):
    stream = request(CHUNKED) + b"0\r\n"
    assert len(written(HTTP(max_header=60), stream + b"a: " + b"x" * 53 + b"\r\n\r\n")) == 1
    buffer = HTTP(max_header=60)
    with pytest.raises(BufferOverflow):
        buffer.write(stream + b"a: b\r\n" * 8 + b"a: " + b"x" * (10 - len(end)) + end)


@pytest.mark.parametrize("limit", [0, -1, None, 1.5, True])
def test_max_header_is_a_positive_int(limit):
    with pytest.raises(ValueError, match=f"max_header is {limit!r}, must be a positive int"):
        HTTP(max_header=limit)


# Heads only


def test_a_head_waits_for_the_length_of_its_body():
    buffer = HTTP(header_only=True).fresh()
    head = response(b"Content-Length: 5")
    assert not buffer.waiting
    assert written(buffer, head[:9]) == []
    assert not buffer.waiting
    assert written(buffer, head[9:] + b"he") == [head]
    assert buffer.waiting
    assert written(buffer, b"llo" + GET) == []
    assert buffer.pending == 5 + len(GET)
    buffer.expect(5)
    assert buffer.read() == [b"hello", GET]
    assert buffer.waiting
    assert buffer.pending == 0


def test_a_body_may_be_empty():
    buffer = HTTP(header_only=True)
    assert written(buffer, OK + OK) == [OK]
    buffer.expect(0)
    assert buffer.read() == [OK]


def test_a_body_may_come_after_it_was_expected():
    buffer = HTTP(header_only=True)
    assert written(buffer, OK) == [OK]
    buffer.expect(3)
    assert not buffer.waiting
    assert written(buffer, b"ab") == []
    assert written(buffer, b"c\r\n" + OK) == [b"abc", OK]


def test_what_follows_a_head_is_given_out_raw_at_the_end():
    buffer = HTTP(header_only=True)
    assert written(buffer, OK + b"abc", b"\r\n") == [OK]
    assert buffer.returns_last is True
    assert buffer.read_last() == [b"abc\r\n"]
    assert not buffer.waiting
    assert written(buffer, OK) == [OK]


@pytest.mark.parametrize("size", [-1, 1.0, None, "5", True])
def test_an_expected_size_is_an_int(size):
    buffer = HTTP(header_only=True)
    buffer.write(OK)
    with pytest.raises(ValueError, match=f"size is {size!r}, must be an int of 0 or more"):
        buffer.expect(size)
    assert buffer.waiting


def test_nothing_is_expected_without_a_head():
    buffer = HTTP(header_only=True)
    with pytest.raises(ValueError, match=r"expect\(5\), but no head waits"):
        buffer.expect(5)
    buffer.write(OK)
    buffer.expect(5)
    with pytest.raises(ValueError, match="no head waits"):
        buffer.expect(5)
    whole = HTTP()
    whole.write(OK)
    with pytest.raises(ValueError, match="no head waits"):
        whole.expect(0)
    assert whole.read_last() == [OK]


def test_an_expected_size_has_a_limit():
    buffer = HTTP(header_only=True, max_size=20)
    assert written(buffer, OK + b"abc") == [OK]
    with pytest.raises(BufferOverflow, match="record of 21 bytes, limit is 20"):
        buffer.expect(21)
    assert not buffer.waiting
    for again in (lambda: buffer.write(b""), lambda: buffer.expect(1)):
        with pytest.raises(BufferOverflow, match="record of 21 bytes, limit is 20"):
            again()
    assert buffer.read_last() == [b"abc"]


def test_expect_says_what_is_wrong_with_what_was_held():
    buffer = HTTP(header_only=True)
    assert written(buffer, OK + b"abc??\r\n\r\n") == [OK]
    with pytest.raises(MalformedRecord, match="message begins with"):
        buffer.expect(3)
    assert buffer.read() == [b"abc"]
    assert not buffer.waiting


# Any stream


bodies = st.lists(st.sampled_from([b"a", b"\r\n", b"0\r\n\r\n", b"\0", GET]), max_size=4)
names = st.sampled_from([b"X", b"Host", b"x-content-length", b"Content-Lengths"])
values = st.sampled_from([b"", b"y", b"5", b"chunked", b"a: b", b"\xff"])


def _once(pair):
    """Return what may not be there twice: a Host."""
    return pair[0] if pair[0] == b"Host" else object()


@st.composite
def messages(draw):
    """Draw a message: what comes over the wire, and the record."""
    make = draw(st.sampled_from([request, response]))
    pairs = draw(st.lists(st.tuples(names, values), max_size=3, unique_by=_once))
    fields = [b"%s:%s" % pair for pair in pairs]
    parts = draw(bodies)
    body = b"".join(parts)
    if draw(st.booleans()):
        head = make(*fields, draw(st.sampled_from([CHUNKED, b"transfer-encoding:\tChunked "])))
        end = draw(st.sampled_from([b"0\r\n\r\n", b"00;x\r\n\r\n", b"0\r\nA: b\r\nC: d\r\n\r\n"]))
        wire = head + chunked(*parts) + end
    else:
        head = make(b"content-length:%d" % len(body), *fields)
        wire = head + body
    blank = draw(st.sampled_from([b"", b"\r\n", b"\n\n"]))
    return blank + wire, head + body


@given(st.data())
def test_any_chunking_gives_the_messages(data):
    drawn = data.draw(st.lists(messages(), max_size=4))
    last = data.draw(st.sampled_from([b"", OK, OK + b"abc\r\n\r\n"]))
    stream = b"".join(wire for wire, _ in drawn) + last
    buffer = HTTP()
    records = [
        record for piece in data.draw(chunkings(stream)) for record in written(buffer, piece)
    ]
    assert records == [record for _, record in drawn]
    assert buffer.returns_last is not bool(last)
    assert buffer.read_last() == ([last] if last else [])


@given(st.data())
def test_any_bytes_give_records_or_an_error(data):
    valid = data.draw(st.lists(messages(), max_size=2))
    stream = bytearray(b"".join(wire for wire, _ in valid))
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(stream)))
        stream[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    buffer = HTTP(
        header_only=data.draw(st.booleans()),
        max_size=data.draw(st.sampled_from([None, 60, 200])),
        max_header=data.draw(st.sampled_from([40, 65536])),
    )
    ends = []
    for pieces in ([bytes(stream)], data.draw(chunkings(bytes(stream)))):
        fresh = buffer.fresh()
        records, failure = [], None
        try:
            for piece in pieces:
                fresh.write(piece)
                records += fresh.read()
                while fresh.waiting:
                    fresh.expect(2)
                    records += fresh.read()
        except EventMuxError as error:
            failure = type(error)
            records += fresh.read()
        ends.append((records, failure, fresh.returns_last))
        if failure is None:
            ends[-1] += (fresh.pending, fresh.read_last())
    assert ends[0] == ends[1]


class FakeSocket:
    def __init__(self, data):
        self._data = data

    def makefile(self, mode):
        return io.BytesIO(self._data)


STATUSES = [b"200 OK", b"404", b"204 No Content", b"304 Not Modified"]
LENGTHS = ["length", "chunks", "end"]


@given(st.sampled_from(STATUSES), st.sampled_from(LENGTHS), bodies)
def test_a_response_is_what_http_client_makes_of_it(status, kind, parts):
    body = b"".join(parts)
    bodiless = status[:3] in (b"204", b"304")
    assume(not (bodiless and kind == "chunks"))  # http.client reads chunks where none may be
    if kind == "chunks":
        head = response(b"X: y", CHUNKED, status=status)
        wire = head + chunked(*filter(None, parts)) + b"0\r\nA: b\r\n\r\n"
    else:
        fields = [b"Content-Length: %d" % len(body)] if kind == "length" else []
        head = response(*fields, status=status)
        wire = head + body
    reference = http.client.HTTPResponse(FakeSocket(wire))
    reference.begin()
    buffer = HTTP()
    stream = head if bodiless else wire  # else the body would be taken for the next response
    records = [record for byte in stream for record in written(buffer, bytes([byte]))]
    assert records + buffer.read_last() == [head + reference.read()]


# The bug of IO::Buffered that is not to be here again


@pytest.mark.parametrize(
    ("stream", "records"),
    [
        (request(b"Content-Length:5", body=b"hello"), 1),
        (request(b"X-Content-Length: 5") + GET, 2),
        (response(CHUNKED) + b"1\r\n\n\r\n0\r\n\r\n", 1),
        (response(body=b"one\r\n\r\ntwo"), 0),
    ],
    ids=["no-blank", "other-field", "chunked", "no-length"],
)
def test_ib7_lengths_are_read_as_the_standard_says(stream, records):
    buffer = HTTP()
    assert len(written(buffer, stream)) == records
    assert buffer.read_last() == ([] if records else [stream])


# How a record came

POST = request(b"Content-Length: 5", body=b"hello")
IN_CHUNKS = request(CHUNKED, body=chunked(b"abc", b"d") + b"0;a=b\r\nx: y\r\n\r\n")


@given(st.data())
def test_records_can_be_taken_back(data):
    messages = [GET, POST, b"\r\n" + GET, IN_CHUNKS]
    came = data.draw(st.lists(st.sampled_from(messages), max_size=5))
    stream = b"".join(came) + data.draw(
        st.sampled_from([b"", b"\r\n", b"\nGE", POST[:-1], IN_CHUNKS[:-9]])
    )
    buffer = HTTP()
    for chunk in data.draw(chunkings(stream)):
        buffer.write(chunk)
    records = buffer.read()
    assert len(records) == len(came)
    count = data.draw(st.integers(0, len(came)))
    last = buffer.read_last() if data.draw(st.booleans()) else []
    back = buffer.unread([*records[count:], *last])
    assert back == stream[len(b"".join(came[:count])) :]


def test_what_is_kept_of_chunks_has_a_limit():
    buffer = HTTP(max_size=1000, max_header=100)
    buffer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(500):
        buffer.write(b"1;" + b"x" * 90 + b"\r\na\r\n")
        assert len(buffer._raw) <= 1100
    buffer.write(b"0\r\n\r\n")
    assert buffer.read()[0].endswith(b"a" * 500)


def test_blank_lines_without_end_are_not_kept():
    buffer = HTTP(max_header=100)
    for _ in range(1000):
        buffer.write(b"\r\n")
    assert (buffer.pending, len(buffer._skipped)) == (0, 100)


# What a client that waits is to be told

WAITS = b"Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("field", [WAITS, b"expect:100-Continue", b"EXPECT: \t100-continue \t"])
@pytest.mark.parametrize("length", [b"Content-Length: 5", CHUNKED])
@pytest.mark.parametrize("options", [{}, {"piece_size": 10}])
def test_a_client_that_waits_is_told_to_go_on(field, length, options):
    buffer = HTTP(**options)
    head = request(field, length)
    for byte in head[:-1]:
        buffer.write(bytes([byte]))
        assert buffer.reply == b""
    buffer.write(head[-1:])
    assert buffer.reply == CONTINUE
    assert buffer.take_reply() == CONTINUE
    assert buffer.take_reply() == buffer.reply == b""


@pytest.mark.parametrize(
    "stream",
    [
        request(WAITS),  # there is no body
        request(WAITS, b"Content-Length: 0"),
        request(WAITS, b"Content-Length: 5", body=b"h"),  # it is on its way
        request(b"Expect: 200-ok", b"Content-Length: 5"),
        request(b"X-Expect: 100-continue", b"Content-Length: 5"),
        GET + request(WAITS, b"Content-Length: 5"),  # that one has to be answered first
        request(WAITS, b"Content-Length: 5").replace(b"HTTP/1.1", b"HTTP/1.0"),
        response(WAITS, b"Content-Length: 5"),
    ],
)
def test_who_does_not_wait_is_told_nothing(stream):
    buffer = HTTP()
    buffer.write(stream)
    assert buffer.reply == b""


@pytest.mark.parametrize("options", [{"send_continue": False}, {"header_only": True}])
def test_the_program_may_tell_it_itself(options):
    buffer = HTTP(**options).fresh()
    buffer.write(request(WAITS, b"Content-Length: 5"))
    assert buffer.reply == b""


def test_who_announces_too_much_is_not_told_to_go_on():
    buffer = HTTP(max_size=200)
    with pytest.raises(BufferOverflow):
        buffer.write(request(WAITS, b"Content-Length: 201"))
    assert buffer.reply == b""


# Bodies in pieces


def joined(records):
    """Put the pieces of each message together again; return what was cut short, too."""
    messages, left = [], []
    for record in records:
        if record:
            left.append(record)
        else:
            messages.append(b"".join(left))
            left = []
    return messages, b"".join(left)


def test_a_body_comes_as_it_arrives():
    buffer = HTTP(piece_size=4).fresh()
    head = request(b"Content-Length: 9")
    assert written(buffer, head) == [head]
    assert written(buffer, b"ab") == [b"ab"]
    assert written(buffer, b"cdefgh") == [b"cdef", b"gh"]
    assert buffer.pending == 0
    assert written(buffer, b"i" + GET) == [b"i", b"", GET, b""]
    assert not buffer.has_begun


def test_chunks_are_no_pieces():
    buffer = HTTP(piece_size=4)
    head = response(CHUNKED)
    came = chunked(b"a", b"bcd", b"efghi") + b"0\r\nx: y\r\n\r\n"
    assert written(buffer, head + came) == [head, b"abcd", b"efgh", b"i", b""]


def test_a_body_up_to_the_end_has_its_end_told():
    buffer = HTTP(piece_size=4)
    assert written(buffer, OK + b"abcde") == [OK, b"abcd", b"e"]
    assert buffer.returns_last is False
    assert buffer.read_last() == [b""]


@pytest.mark.parametrize(
    "stream", [request(b"Content-Length: 9", body=b"abc"), request(CHUNKED, body=b"3\r\nabc\r\n")]
)
def test_what_is_cut_short_has_no_end(stream):
    buffer = HTTP(piece_size=4)
    assert joined(written(buffer, stream))[0] == []
    assert buffer.has_begun
    assert buffer.returns_last is True
    assert b"" not in buffer.read_last()


@given(st.data())
def test_pieces_are_the_message(data):
    drawn = data.draw(st.lists(messages(), max_size=4))
    size = data.draw(st.integers(1, 9))
    buffer = HTTP(piece_size=size)
    records = []
    for piece in data.draw(chunkings(b"".join(wire for wire, _ in drawn))):
        records += written(buffer, piece)
        assert buffer.pending == 0 or buffer.has_begun
    assert joined(records) == ([message for _, message in drawn], b"")
    longest = max((len(record) for record in records if b"HTTP/1.1" not in record), default=0)
    assert longest <= size


def test_the_sum_of_the_pieces_has_a_limit():
    head = request(CHUNKED)
    buffer = HTTP(piece_size=4, max_size=len(head) + 8)
    assert written(buffer, head + chunked(b"abcd", b"ef")) == [head, b"abcd", b"ef"]
    with pytest.raises(BufferOverflow) as caught:
        buffer.write(b"3\r\n")
    assert caught.value.size == len(head) + 9
    assert refused(request(b"Content-Length: 9"), piece_size=4, max_size=46).limit == 46
    ends = HTTP(piece_size=4, max_size=len(OK) + 3)
    with pytest.raises(BufferOverflow):
        ends.write(OK + b"abcd")


def test_a_body_of_any_length_takes_no_room():
    buffer = HTTP(piece_size=1000, max_size=None)
    buffer.write(request(CHUNKED))
    size = len(buffer.read())
    for _ in range(2000):
        for piece in (b"1388\r\n", b"x" * 3000, b"x" * 2000, b"\r\n"):
            buffer.write(piece)
            assert buffer.pending < 10
            assert len(buffer._raw) < 100
            size += len(buffer.read())
    assert size == 1 + 2000 * 5


@given(st.data())
def test_pieces_can_be_taken_back(data):
    stream = b"".join(data.draw(st.lists(st.sampled_from([GET, POST, IN_CHUNKS]), max_size=3)))
    buffer = HTTP(piece_size=data.draw(st.integers(1, 4)))
    for chunk in data.draw(chunkings(stream)):
        buffer.write(chunk)
    records = buffer.read()
    count = data.draw(st.integers(0, len(records)))
    given_out = sum(len(getattr(record, "raw", record)) for record in records[:count])
    assert buffer.unread(records[count:]) == stream[given_out:]


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_piece_has_a_size(size):
    with pytest.raises(ValueError, match=f"piece_size is {size!r}, must be a positive int or None"):
        HTTP(piece_size=size)
    with pytest.raises(ValueError, match="with header_only there are none"):
        HTTP(piece_size=5, header_only=True)


# What could be understood in another way, by who stands in front


@pytest.mark.parametrize("make", [request, response])
@pytest.mark.parametrize(
    "fields",
    [
        b"A: b\nC: d\r\n\r\n",
        b"A: b\r\nC: d\n\r\n",
        b"A: b\r\n\n",
        b"A: b\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_lines_end_in_one_way(make, fields):
    error = refused(make(fields)[:-4])
    assert isinstance(error, MalformedRecord)


def test_a_head_of_bare_lines_is_understood():
    head = b"GET / HTTP/1.1\nHost: x\n\n"
    assert written(HTTP(), head + GET) == [head, GET]


def test_a_request_has_one_host():
    assert "2 Host fields" in str(refused(request(b"Host: a", b"X: y", b"host: b")))
    twice = response(b"Host: a", b"Host: b", b"Content-Length: 0")
    assert written(HTTP(), twice) == [twice]


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\r\nTrailer: x\n\r\n",
        b"5\r\nhello\r\n0\r\nTrailer: x\n\n",
        b"5\r\nhello\r\n0\r\n folded: x\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5;a\n\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("options", [{}, {"piece_size": 100}])
def test_chunks_are_understood_in_one_way(body, options):
    buffer = HTTP(**options)
    with pytest.raises(MalformedRecord):
        buffer.write(request(CHUNKED) + body)


def test_a_head_that_is_too_long_is_told_from_a_body():
    assert isinstance(refused(request(b"a: " + b"b" * 99), max_header=50), HeaderOverflow)
    assert isinstance(
        refused(request(CHUNKED, body=b"1;" + b"x" * 99), max_header=60), HeaderOverflow
    )
    assert type(refused(request(b"Content-Length: 99"), max_size=50)) is BufferOverflow
    assert type(refused(request(b"a: " + b"b" * 99), max_size=50)) is BufferOverflow
