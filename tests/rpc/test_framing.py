import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings
from support.peers import split

from rpcasync.errors import EncodeError, FrameTooLarge, ProtocolError
from rpcasync.wire.framing import LengthPrefix

PAYLOADS = st.lists(st.binary(min_size=3, max_size=40), max_size=5)


def test_the_length_counts_itself():
    assert LengthPrefix().frame(b"abc") == b"\0\0\0\x07abc"


@given(PAYLOADS.flatmap(lambda ps: st.tuples(st.just(ps), chunkings(stream(ps)))))
def test_any_chunking_gives_the_payloads_back(drawn):
    payloads, pieces = drawn
    framing = LengthPrefix()
    received = []
    for piece in pieces:
        payloads_of_piece, failure = split(framing, piece)
        assert failure is None
        received += payloads_of_piece
    assert received == payloads


def stream(payloads):
    return b"".join(map(LengthPrefix().frame, payloads))


@pytest.mark.parametrize("length", range(7))
def test_a_length_below_seven_is_impossible(length):
    good, failure = split(LengthPrefix(), stream([b"good"]) + struct.pack("!I", length))
    assert good == [b"good"]
    assert type(failure) is ProtocolError
    assert f"header announces {length - 4} bytes" in str(failure)


def test_a_packet_over_the_limit_is_refused_on_its_header():
    framing = LengthPrefix(max_packet=1000)
    good, failure = split(framing, stream([b"good"]) + struct.pack("!I", 1001))
    assert good == [b"good"]
    assert type(failure) is FrameTooLarge
    assert str(failure) == "packet of 1001 bytes, limit is 1000"


def test_a_packet_of_exactly_the_limit_passes_both_ways():
    framing = LengthPrefix(max_packet=1000)
    assert split(framing, framing.frame(b"x" * 996)) == ([b"x" * 996], None)
    with pytest.raises(EncodeError, match="packet of 1001 bytes, limit is 1000"):
        framing.frame(b"x" * 997)


@pytest.mark.parametrize("limit", [6, 2**32, -1, 1.5, None, True])
def test_an_impossible_limit(limit):
    with pytest.raises(ValueError, match="max_packet is"):
        LengthPrefix(limit)


@given(
    PAYLOADS.flatmap(lambda ps: st.tuples(st.just(ps), chunkings(stream(ps)))),
    st.integers(1, 4),
)
def test_what_was_fed_is_cut_when_it_is_asked_for(drawn, every):
    payloads, pieces = drawn
    framing = LengthPrefix()
    received = []
    fed = 0
    for number, piece in enumerate(pieces):
        framing.feed(piece)
        fed += len(piece)
        if number % every == 0 or number == len(pieces) - 1:
            frames = framing.cut()
            assert framing.cut() is frames  # asking again changes nothing
            assert framing.held == framing.size + sum(map(len, frames))
            while frames:
                received.append(frames.pop())
    assert received == payloads
    assert framing.size == framing.held == 0


@pytest.mark.parametrize("size", [1, 3, 100, 300, 70_000])
def test_a_long_packet_in_pieces_of_one_size(size):
    payload = bytes(range(256)) * (40 if size < 100 else 4000)
    packet = LengthPrefix().frame(payload)
    framing = LengthPrefix()
    for at in range(0, len(packet), size):
        assert framing.cut() == []
        assert framing.size == framing.held == at
        assert len(framing._pieces) < 600 + at // 256  # byte by byte costs no object each
        framing.feed(packet[at : at + size])
    assert framing.cut() == [payload]
    assert framing.held == len(payload)


def test_whether_a_piece_was_fed():
    framing = LengthPrefix()
    piece = stream([b"good"])[:5]
    assert not framing.has_fed(piece)
    framing.feed(piece)
    assert framing.has_fed(piece)
    framing.cut()
    assert not framing.has_fed(piece)


def test_nothing_is_kept_behind_a_failure():
    framing = LengthPrefix()
    framing.feed(b"\0\0\0\0" + b"x" * 1000)
    assert framing.cut() == []
    framing.feed(b"x" * 1000)
    assert framing.held == 0
    framing = LengthPrefix()
    framing.feed(stream([b"good"]))
    framing.cut()
    framing.clear()
    assert framing.held == 0
    assert framing.cut() == []
