import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings

from rpcasync.errors import EncodeError, FrameTooLarge, ProtocolError
from rpcasync.wire.framing import LengthPrefix

PAYLOADS = st.lists(st.binary(min_size=3, max_size=40), max_size=5)


def drain(framing):
    frames = []
    while (frame := framing.next_frame()) is not None:
        frames.append(frame)
    return frames


def test_the_length_counts_itself():
    assert LengthPrefix().frame(b"abc") == b"\0\0\0\x07abc"


@given(PAYLOADS.flatmap(lambda ps: st.tuples(st.just(ps), chunkings(stream(ps)))))
def test_any_chunking_gives_the_payloads_back(drawn):
    payloads, pieces = drawn
    framing = LengthPrefix()
    received = []
    for piece in pieces:
        framing.feed(piece)
        received += drain(framing)
    assert received == payloads


def stream(payloads):
    return b"".join(map(LengthPrefix().frame, payloads))


def test_frames_that_were_not_taken_stay_in_front():
    framing = LengthPrefix()
    framing.feed(stream([b"one", b"two"]))
    assert framing.next_frame() == b"one"
    framing.feed(stream([b"three", b"four"]))
    assert drain(framing) == [b"two", b"three", b"four"]


@pytest.mark.parametrize("length", range(7))
def test_a_length_below_seven_is_impossible(length):
    framing = LengthPrefix()
    framing.feed(stream([b"good"]) + struct.pack("!I", length))
    assert framing.next_frame() == b"good"
    for _ in range(2):
        with pytest.raises(ProtocolError, match=f"header announces {length - 4} bytes"):
            framing.next_frame()


def test_a_packet_over_the_limit_is_refused_on_its_header():
    framing = LengthPrefix(max_packet=1000)
    framing.feed(stream([b"good"]) + struct.pack("!I", 1001))
    assert framing.next_frame() == b"good"
    with pytest.raises(FrameTooLarge, match="packet of 1001 bytes, limit is 1000"):
        framing.next_frame()
    framing.feed(stream([b"more"]))
    with pytest.raises(FrameTooLarge):
        framing.next_frame()


def test_a_packet_of_exactly_the_limit_passes_both_ways():
    framing = LengthPrefix(max_packet=1000)
    framing.feed(framing.frame(b"x" * 996))
    assert framing.next_frame() == b"x" * 996
    with pytest.raises(EncodeError, match="packet of 1001 bytes, limit is 1000"):
        framing.frame(b"x" * 997)


@pytest.mark.parametrize("limit", [6, 2**32, -1, 1.5, None, True])
def test_an_impossible_limit(limit):
    with pytest.raises(ValueError, match="max_packet is"):
        LengthPrefix(limit)
