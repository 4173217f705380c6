"""Split and Size: what each of them cuts, and what it refuses."""

import struct

import pytest

from eventmux import BufferOverflow, EventMuxError, MalformedRecord
from eventmux.buffers import Size, Split


def written(buffer, *chunks):
    """Write the chunks and return the records."""
    for chunk in chunks:
        buffer.write(chunk)
    return buffer.read()


# Split


def test_split_cuts_lines():
    assert written(Split(), b"one\ntwo\nthr") == [b"one", b"two"]


def test_split_keeps_empty_records():
    assert written(Split(), b"\n\na\n\n") == [b"", b"", b"a", b""]


def test_split_gives_the_remainder_as_a_record():
    buffer = Split()
    assert written(buffer, b"one\ntwo") == [b"one"]
    assert buffer.read_last() == [b"two"]
    assert buffer.returns_last is False


def test_split_gives_unread_records_before_the_remainder():
    buffer = Split()
    buffer.write(b"one\ntwo")
    assert buffer.read_last() == [b"one", b"two"]


def test_split_has_no_remainder_after_a_separator():
    buffer = Split()
    assert written(buffer, b"one\n") == [b"one"]
    assert buffer.read_last() == []


def test_split_takes_separators_from_left_to_right():
    assert written(Split(b"aa"), b"a", b"aa", b"aab", b"aa") == [b"", b"", b"ab"]


@pytest.mark.parametrize("cut", range(1, 4))
def test_split_finds_a_separator_that_came_in_two_writes(cut):
    data = b"x\r\n\r\ny"
    assert written(Split(b"\r\n\r\n"), data[: 1 + cut], data[1 + cut :]) == [b"x"]


def test_split_is_not_fooled_by_half_a_separator():
    assert written(Split(b"\r\n"), b"a\rb\nc\r", b"\rd\r", b"\n") == [b"a\rb\nc\r\rd"]


def test_split_limit_is_the_size_without_separator():
    buffer = Split(b"\r\n", max_size=3)
    assert written(buffer, b"abc\r\n", b"abc", b"\r", b"\n") == [b"abc", b"abc"]


@pytest.mark.parametrize("data", [b"abcd\n", b"abcd"])
def test_split_refuses_one_byte_more(data):
    with pytest.raises(BufferOverflow, match=r"record of 4 bytes, limit is 3"):
        Split(max_size=3).write(data)


def test_split_limit_is_for_one_record_not_for_one_write():
    assert written(Split(max_size=3), b"abc\n" * 1000) == [b"abc"] * 1000


def test_split_gives_the_good_records_before_the_overflow():
    buffer = Split(max_size=3)
    with pytest.raises(BufferOverflow):
        buffer.write(b"a\nbc\nlong one\nd\n")
    assert buffer.read() == [b"a", b"bc"]
    assert buffer.read_last() == [b"long one\nd\n"]


def test_split_gives_no_remainder_over_the_limit():
    # Six bytes cannot become a record of five any more, whether a separator follows or not.
    buffer = Split(b"\r\n", max_size=5)
    with pytest.raises(BufferOverflow):
        buffer.write(b"abcdef")


@pytest.mark.parametrize("separator", ["\n", None, 10, bytearray(b"\n")])
def test_split_wants_bytes(separator):
    with pytest.raises(TypeError, match=r"separator is .*, must be bytes"):
        Split(separator)


def test_split_wants_a_separator():
    with pytest.raises(ValueError, match="separator is empty"):
        Split(b"")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10"])
@pytest.mark.parametrize("kind", [Split, Size])
def test_max_size_is_a_positive_int(kind, limit):
    with pytest.raises(ValueError, match=f"max_size is {limit!r}, must be a positive int or None"):
        kind(max_size=limit)


# Size

INTEGERS = [
    order + code
    for order in ("", "@", "=", "<", ">", "!")
    for code in "bBhHiIlLqQnN"
    if code not in "nN" or order in ("", "@")
]


@pytest.mark.parametrize("text", INTEGERS)
def test_size_reads_every_format_of_an_integer(text):
    header = struct.pack(text, 3)
    assert written(Size(text), header + b"abc" + header, b"de", b"f") == [b"abc", b"def"]


def test_size_may_have_padding_in_its_header():
    assert written(Size("!2xHx"), b"??\x00\x02?ab") == [b"ab"]


def test_size_that_counts_its_own_header():
    buffer = Size("!I", -4)
    assert written(buffer, b"\0\0\0\x04", b"\0\0\0\x07abc") == [b"", b"abc"]


def test_size_with_a_trailer():
    assert written(Size("B", 2), b"\x00..\x01a..") == [b"..", b"a.."]


def test_size_keeps_empty_records():
    assert written(Size("B"), b"\0\0\x01a\0") == [b"", b"", b"a", b""]


def test_size_gives_the_whole_remainder_as_last():
    buffer = Size("!H")
    assert written(buffer, b"\0\x01a\0\x05bc") == [b"a"]
    assert buffer.read_last() == [b"\0\x05bc"]
    assert buffer.returns_last is True


def test_size_gives_half_a_header_as_last():
    buffer = Size("!I")
    buffer.write(b"\0\0")
    assert buffer.read_last() == [b"\0\0"]


def test_size_limit_is_the_size_without_header():
    assert written(Size("B", max_size=3), b"\x03abc\x03def") == [b"abc", b"def"]


def test_size_refuses_what_a_header_announces_before_it_comes():
    with pytest.raises(BufferOverflow, match=r"record of 70000 bytes, limit is 65536"):
        Size("!I", max_size=65536).write(struct.pack("!I", 70000))


def test_size_limit_is_after_the_offset():
    assert written(Size("!I", -4, max_size=3), b"\0\0\0\x07abc") == [b"abc"]
    with pytest.raises(BufferOverflow, match=r"record of 4 bytes, limit is 3"):
        Size("!I", -4, max_size=3).write(b"\0\0\0\x08")


@pytest.mark.parametrize("announced", [0, 3])
def test_size_refuses_less_than_nothing(announced):
    with pytest.raises(
        MalformedRecord, match=f"header announces {announced - 4} bytes, must be at least 0"
    ):
        Size("!I", -4).write(struct.pack("!I", announced))


def test_size_refuses_a_negative_length():
    with pytest.raises(MalformedRecord, match="header announces -1 bytes"):
        Size("!i").write(b"\xff\xff\xff\xff")


def test_size_refuses_less_than_its_smallest():
    assert written(Size("B", min_size=2), b"\x02ab") == [b"ab"]
    with pytest.raises(MalformedRecord, match="announces 1 bytes, must be at least 2"):
        Size("B", min_size=2).write(b"\x01a")


def test_size_gives_the_good_records_before_the_failure():
    buffer = Size("B", max_size=3)
    with pytest.raises(BufferOverflow):
        buffer.write(b"\x01a\x00\x04bcde")
    assert buffer.read() == [b"a", b""]
    assert buffer.read_last() == [b"\x04bcde"]


def test_a_huge_announcement_costs_nothing():
    buffer = Size("!Q")
    buffer.write(b"\xff" * 8 + b"abc")
    assert buffer.pending == 11


@pytest.mark.parametrize(
    "text",
    ["", "II", "!", "?", "c", "4s", "p", "f", "d", "x", "0I", "Z", "!n", "\0I", "\xe9", None, 4],
)
def test_size_wants_the_format_of_one_integer(text):
    with pytest.raises(ValueError, match="format"):
        Size(text)


@pytest.mark.parametrize("offset", [1.0, "4", None, True])
def test_size_wants_an_int_as_offset(offset):
    with pytest.raises(ValueError, match=f"offset is {offset!r}, must be an int"):
        Size("!I", offset)


@pytest.mark.parametrize("least", [-1, 1.0, None, True])
def test_size_wants_an_int_as_min_size(least):
    with pytest.raises(ValueError, match=f"min_size is {least!r}, must be an int of 0 or more"):
        Size("!I", min_size=least)


def test_size_refuses_limits_that_nothing_can_meet():
    with pytest.raises(ValueError, match=r"10.*5"):
        Size("!I", min_size=10, max_size=5)


def test_fresh_keeps_every_setting():
    pattern = Size("<H", 1, min_size=2, max_size=5)
    assert written(pattern.fresh(), b"\1\0ab\4\0abcde") == [b"ab", b"abcde"]
    with pytest.raises(MalformedRecord, match="announces 1 bytes, must be at least 2"):
        pattern.fresh().write(b"\0\0")
    with pytest.raises(BufferOverflow, match="6 bytes, limit is 5"):
        pattern.fresh().write(b"\5\0")


def test_failures_are_of_one_tree():
    assert issubclass(BufferOverflow, EventMuxError)
    assert issubclass(MalformedRecord, EventMuxError)
    assert issubclass(MalformedRecord, ValueError)
