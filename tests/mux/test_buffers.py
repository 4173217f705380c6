"""What each discipline but HTTP cuts, and what it refuses."""

import re
import struct
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings

from eventmux import BufferOverflow, EventMuxError, MalformedRecord
from eventmux.buffers import HTTP, FixedSize, Last, Regexp, Size, Split


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


@pytest.mark.parametrize("separator", ["\n", None, 10, bytearray(b"\n"), re.compile("\n")])
def test_split_wants_bytes(separator):
    with pytest.raises(TypeError, match=r"separator is .*, must be bytes"):
        Split(separator)


def test_split_wants_a_separator():
    with pytest.raises(ValueError, match="separator is empty"):
        Split(b"")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10"])
@pytest.mark.parametrize("kind", [Split, Size, Last, partial(Regexp, b"x"), HTTP])
def test_max_size_is_a_positive_int(kind, limit):
    with pytest.raises(ValueError, match=f"max_size is {limit!r}, must be a positive int or None"):
        kind(max_size=limit)


# Split by a pattern


def split(pattern, **options):
    return Split(re.compile(pattern), **options)


def bytewise(data):
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("cut", range(1, 8))
def test_split_cuts_at_a_pattern(cut):
    data = b"a\nb\r\n\nc"
    assert written(split(rb"\r?\n"), data[:cut], data[cut:]) == [b"a", b"b", b""]


def test_split_does_not_wait_for_a_longer_separator():
    buffer = split(rb"\n+")
    assert written(buffer, b"a\n") == [b"a"]
    assert written(buffer, b"\nb\n\n") == [b"", b"b"]


def test_split_gives_what_follows_the_last_match_at_the_end():
    buffer = split(rb";|,")
    assert written(buffer, b"a;b,c") == [b"a", b"b"]
    assert buffer.read_last() == [b"c"]


@pytest.mark.parametrize("pattern", [rb"\b|;", rb"(?=;)|;", rb";|(?<=;)|(?=a)"])
def test_split_takes_no_empty_match_for_a_separator(pattern):
    assert written(split(pattern), b"ab;c d;", b"e;") == [b"ab", b"c d", b"e"]


def test_split_finds_a_separator_of_many_pieces():
    separator = b"<" + b"x" * 62 + b">"
    assert written(split(rb"<x*>"), b"a", *bytewise(separator + b"b" + separator)) == [b"a", b"b"]


def test_split_looks_back_as_far_as_it_was_told():
    data = b"a<xx>b<x>"
    assert written(split(rb"<x*>", max_separator=4), *bytewise(data)) == [b"a", b"b"]
    assert written(split(rb"<x*>", max_separator=3), *bytewise(data)) == [b"a<xx>b"]
    assert written(split(rb"<x*>", max_separator=3), data) == [b"a", b"b"]


def test_split_limit_leaves_room_for_the_longest_separator():
    buffer = split(rb"\r?\n", max_size=3, max_separator=2)
    assert written(buffer, b"abc\r", b"\nabcd") == [b"abc"]
    with pytest.raises(BufferOverflow, match="record of 4 bytes, limit is 3"):
        buffer.write(b"e")
    assert buffer.read_last() == [b"abcde"]


def test_split_gives_the_good_records_before_one_over_the_limit():
    buffer = split(rb"\r?\n", max_size=3)
    with pytest.raises(BufferOverflow, match="record of 8 bytes, limit is 3"):
        buffer.write(b"a\nbc\r\nlong one\nd\n")
    assert buffer.read() == [b"a", b"bc"]
    assert buffer.read_last() == [b"long one\nd\n"]


def test_split_keeps_its_pattern_and_its_limits_in_a_fresh_one():
    fresh = split(rb"<x*>", max_size=5, max_separator=3).fresh()
    assert written(fresh, *bytewise(b"a<x>b<xx>")) == [b"a"]
    with pytest.raises(BufferOverflow, match="record of 6 bytes, limit is 5"):
        fresh.write(b"123")


@pytest.mark.parametrize("pattern", [b"", b"x*", b"$", b"(?:a|)", rb"\A"])
def test_no_pattern_may_match_nothing(pattern):
    with pytest.raises(ValueError, match="must not match the empty string"):
        split(pattern)
    with pytest.raises(ValueError, match="must not match the empty string"):
        Regexp(pattern)


@pytest.mark.parametrize("size", [0, -1, 1.5, None, True])
def test_max_separator_is_a_positive_int(size):
    with pytest.raises(ValueError, match=f"max_separator is {size!r}, must be a positive int"):
        split(b"x", max_separator=size)


# Regexp


def test_regexp_gives_the_first_group():
    assert written(Regexp(rb"(\d+)([;,])"), b"12;3,4", b"5;6") == [b"12", b"3", b"45"]


def test_regexp_gives_the_match_if_there_is_no_group():
    assert written(Regexp(rb"\d+;"), b"12;3;4") == [b"12;", b"3;"]


def test_regexp_gives_nothing_for_a_group_that_took_no_part():
    assert written(Regexp(rb"(a)?;"), b"a;;a;") == [b"a", b"", b"a"]


def test_regexp_never_skips_anything():
    buffer = Regexp(rb"(\d);")
    assert written(buffer, b"1;x2;3;") == [b"1"]
    assert buffer.pending == 5
    assert buffer.read_last() == [b"x2;3;"]


@pytest.mark.parametrize("chunks", [[b"a\nb\nc\n"], [b"a\nb", b"\nc\n"], [b"a", b"\nb\nc\n"]])
@pytest.mark.parametrize("pattern", [rb"(.*)\n", re.compile(rb"(.*)\n"), rb"^(.*)\n", rb"(.+)\n"])
def test_a_dot_is_no_newline(pattern, chunks):
    assert written(Regexp(pattern), *chunks) == [b"a", b"b", b"c"]


@given(st.sampled_from([rb"(.*)\n", rb"(?s)(.*?);", rb"(?i)(A.);", rb"(?m)^(.)$\n"]), st.data())
def test_bytes_mean_what_re_makes_of_them(pattern, data):
    stream = data.draw(st.text("Aa;\n").map(str.encode))
    chunks = data.draw(chunkings(stream))
    assert written(Regexp(pattern), *chunks) == written(Regexp(re.compile(pattern)), *chunks)


def test_regexp_matches_newlines_if_it_says_so():
    assert written(Regexp(rb"(?s)(.*?);"), b"a\nb;\n;") == [b"a\nb", b"\n"]


def test_regexp_takes_a_compiled_pattern_as_it_is():
    assert written(Regexp(re.compile(rb"(X.*?);", re.I)), b"xa;Xb;x\n;") == [b"xa", b"Xb"]


@pytest.mark.parametrize("pattern", [rb"^(.);", rb"\A(.);", rb"(?<!;)(.);", rb"\b(.);"])
def test_regexp_sees_each_record_as_the_start_of_the_stream(pattern):
    assert written(Regexp(pattern), b"a;b;", b"c;") == [b"a", b"b", b"c"]


def test_regexp_takes_an_empty_match_for_none():
    buffer = Regexp(rb"(?=b)|(a)")
    assert written(buffer, b"aab", b"a") == [b"a", b"a"]
    assert buffer.pending == 2


@pytest.mark.parametrize("last", [True, False])
def test_regexp_says_what_the_rest_is(last):
    buffer = Regexp(b"(a);", returns_last=last).fresh()
    assert written(buffer, b"a;a") == [b"a"]
    assert buffer.returns_last is last
    assert buffer.read_last() == [b"a"]
    assert Regexp(b"a").returns_last is True


def test_regexp_limit_is_the_size_of_the_match():
    assert written(Regexp(b"(.*?);", max_size=3), b"ab;", b"ab", b";") == [b"ab", b"ab"]


@pytest.mark.parametrize("data", [b"abc;", b"abcd", b"abc;a;"])
def test_regexp_refuses_one_byte_more(data):
    buffer = Regexp(b"(.*?);", max_size=3)
    with pytest.raises(BufferOverflow, match="record of 4 bytes, limit is 3"):
        buffer.write(b"a;" + data)
    assert buffer.read_last() == [b"a", data]


def test_regexp_has_a_limit_if_nothing_is_said():
    buffer = Regexp(b"(.*?);").fresh()
    assert written(buffer, b"x" * 65535 + b";", b"x" * 65536) == [b"x" * 65535]
    with pytest.raises(BufferOverflow, match="record of 65537 bytes, limit is 65536"):
        buffer.write(b"x")
    assert written(Regexp(b"(.*?);", max_size=None).fresh(), b"x" * 70000, b";") == [b"x" * 70000]


@pytest.mark.parametrize("pattern", ["a", None, 5, bytearray(b"a"), re.compile("a")])
def test_regexp_wants_bytes(pattern):
    with pytest.raises(TypeError, match=r"pattern is .*, must be bytes or a compiled pattern"):
        Regexp(pattern)


def test_regexp_wants_a_regular_expression():
    with pytest.raises(ValueError, match=r"pattern is b'\(a': missing"):
        Regexp(b"(a")


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
    buffer = Size("!Q", max_size=None)
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


# FixedSize


def test_fixed_cuts_records_of_one_size():
    buffer = FixedSize(3)
    assert written(buffer, b"a", b"bcde", b"", b"fghij") == [b"abc", b"def", b"ghi"]
    assert buffer.returns_last is True
    assert buffer.read_last() == [b"j"]


@pytest.mark.parametrize("size", [-1, 1.5, None, "2", True])
def test_fixed_wants_a_positive_int(size):
    with pytest.raises(ValueError, match=f"size is {size!r}, must be a positive int"):
        FixedSize(size)


# Last


def test_last_gives_everything_at_the_end():
    buffer = Last()
    assert written(buffer, b"a\n", b"", b"b") == []
    assert buffer.pending == 3
    assert buffer.returns_last is False
    assert buffer.read_last() == [b"a\nb"]
    assert (buffer.pending, buffer.read_last()) == (0, [])


def test_last_gives_nothing_for_nothing():
    assert Last().read_last() == []


def test_last_has_a_limit():
    buffer = Last(max_size=3).fresh()
    assert written(buffer, b"abc") == []
    for data in (b"d", b"e"):
        with pytest.raises(BufferOverflow, match="record of 4 bytes, limit is 3"):
            buffer.write(data)
    assert buffer.read_last() == [b"abcd"]


# The bugs of IO::Buffered that are not to be here again; IB-6 is in
# test_buffer_contract.py and IB-7 in test_httpbuffer.py


def test_ib1_a_length_below_its_header_is_refused():
    with pytest.raises(MalformedRecord, match="header announces -4 bytes"):
        Size("!I", -4).write(b"\0\0\0\0x")


@pytest.mark.parametrize("buffer", [split(b","), Split(b","), Regexp(b"(?s)(.*?),")])
def test_ib2_records_with_newlines_stay_in_order(buffer):
    assert written(buffer.fresh(), b"a\nb,c,") == [b"a\nb", b"c"]


@pytest.mark.parametrize("buffer", [split(b"\n"), Split(), Regexp(b"(.*?)\n")])
def test_ib3_an_empty_record_does_not_stop_the_others(buffer):
    assert written(buffer.fresh(), b"a\n\nb\nc\n") == [b"a", b"", b"b", b"c"]


def test_ib4_an_empty_record_is_given_out_at_once():
    assert written(Size("!I"), b"\0\0\0\0") == [b""]


def test_ib5_a_part_of_a_header_is_left_as_it_came():
    buffer = Size("!I")
    buffer.write(b"\0\0\1")
    assert buffer.read_last() == [b"\0\0\1"]


def test_ib8_records_of_no_bytes_are_refused():
    with pytest.raises(ValueError, match="size is 0, must be a positive int"):
        FixedSize(0)


def test_ib9_two_numbers_are_no_length():
    with pytest.raises(ValueError, match="exactly one integer"):
        Size("!II")


def test_failures_are_of_one_tree():
    assert issubclass(BufferOverflow, EventMuxError)
    assert issubclass(MalformedRecord, EventMuxError)
    assert issubclass(MalformedRecord, ValueError)


# What nobody has limited

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("buffer", "stream", "limit"),
    [
        (Split(), b"x", 32 * MIB),
        (Split(re.compile(rb"\r?\n")), b"x", 32 * MIB + 63),  # these may begin a separator
        (Regexp(rb"(.*)\n"), b"x", 65536),
        (Last(), b"x", 32 * MIB),
        (HTTP(), b"GET / HTTP/1.1\r\nContent-Length: 33554432\r\n\r\n", 0),
        (HTTP(), b"HTTP/1.1 200 OK\r\n\r\n", 32 * MIB),
        (Size(), struct.pack("!I", 32 * MIB + 1), 0),
    ],
    ids=["split", "pattern", "regexp", "last", "announced", "to the end", "size"],
)
def test_a_record_has_a_limit_by_itself(buffer, stream, limit):
    buffer = buffer.fresh()
    with pytest.raises(BufferOverflow, match=r"limit is (33554432|65536)"):
        buffer.write(stream + b"x" * limit)


@pytest.mark.parametrize("kind", [Split, Last, HTTP, Size, partial(Regexp, rb"(.*)\n")])
def test_no_limit_has_to_be_said(kind):
    buffer = kind(max_size=None).fresh()
    buffer.write(struct.pack("!I", 32 * MIB + 1) if kind is Size else b"x")
    assert buffer.pending
