"""What `send()` takes, when it leaves, and what a peer that does not listen does to it."""

import itertools
import socket

import pytest
from support.meeting import meet
from support.pump import drain, kinds, receive, take, until

from eventmux import (
    Closed,
    Event,
    Read,
    Ready,
    Sent,
    Timeout,
)

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_send_returns_what_is_queued(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    assert 0 < unsent < len(HUGE)
    assert mux.buflen(fh) == unsent
    assert mux.send(fh, b"abc", b"de") == unsent + 5
    assert mux.has_events() == 0
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        event = mux.mux(0)
    assert event == Sent(fh)
    assert data + receive(peer) == HUGE + b"abcde"
    assert drain(mux) == []


def test_sent_comes_once_for_many_writes(mux, watched):
    fh, peer = watched
    mux.send(fh, HUGE)
    mux.send(fh, b"more")
    events = []
    while mux.buflen(fh):
        receive(peer)
        events.append(mux.mux(0))
    assert [event for event in events if event.type != "timeout"] == [Sent(fh)]


def test_later_is_sent_before_the_mux_waits(mux, watched):
    fh, peer = watched
    assert mux.send(fh, b"one", later=True) == 3
    assert mux.send(fh, b"two", later=True) == 6
    assert mux.buflen(fh) == 6
    assert receive(peer) == b""
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()  # what has left at once is not told of
    assert receive(peer) == b"onetwo"
    assert drain(mux) == []


def test_what_was_put_off_can_be_sent_before(mux, watched, pair):
    fh, peer = watched
    slow, theirs = pair()
    mux.add(slow)
    assert mux.mux() == Ready(slow)
    mux.send(fh, b"one", later=True)
    mux.send(fh, b"two", later=True)
    mux.send(slow, HUGE, later=True)
    mux.flush()
    assert receive(peer) == b"onetwo"
    assert mux.buflen(fh) == 0
    assert 0 < mux.buflen(slow) < len(HUGE)
    mux.flush()
    size = 0
    while mux.buflen(slow):
        size += len(receive(theirs))
        drain(mux)
    assert size + len(receive(theirs)) == len(HUGE)


def test_later_costs_one_system_call(mux, watched):
    fh, peer = watched
    for number in range(31):
        assert mux.send(fh, b"%02d," % number, later=True) == 3 * (number + 1)
    assert receive(peer) == b""
    drain(mux)
    assert receive(peer) == b"".join(b"%02d," % number for number in range(31))


def test_later_is_now_when_enough_pieces_have_come_together(mux, watched):
    fh, peer = watched
    for _ in range(31):
        mux.send(fh, b"a", later=True)
    assert mux.send(fh, b"b", later=True) == 0
    assert receive(peer) == b"a" * 31 + b"b"
    assert mux.send(fh, b"c", later=True) == 1  # from here on it waits again
    assert receive(peer) == b""
    assert drain(mux) == []  # all of it has left at once
    assert receive(peer) == b"c"


def test_what_has_left_is_nothing_to_wait_for(mux, watched):
    fh, peer = watched
    for _ in range(32 * 100):
        mux.send(fh, b"a", later=True)
    assert mux.buflen(fh) == 0
    assert mux.timeout() is None
    assert len(mux._loop.table.unflushed) == 1
    assert receive(peer) == b"a" * 3200


def test_what_waits_for_the_kernel_is_not_put_off(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    mux.send(fh, b"a", later=True)
    mux.send(fh, b"b")  # all has left, and the mux need not look
    assert mux.mux() == Sent(fh)
    unsent = mux.send(fh, HUGE)
    assert mux.timeout() is None
    assert mux.send(fh, b"end", later=True) == unsent + 3
    peer.send(b"a question")
    assert drain(mux) == []  # too much is queued for it to be read from


def test_sent_comes_when_what_was_put_off_takes_more_than_a_turn(mux, pair):
    fh, _ = pair(socket.SOCK_SEQPACKET)
    mux.add(fh)
    assert mux.mux() == Ready(fh)
    for _ in range(20):
        mux.send(fh, b"packet", later=True)
    assert mux.mux(1) == Sent(fh)
    assert mux.buflen(fh) == 0


def test_what_is_put_off_before_the_stream_is_up_is_lost_whole(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fh = mux.connect(f"tcp://127.0.0.1:{port}")  # nobody is there
    for _ in range(40):
        mux.send(fh, bytes(70_000), later=True)
    closed = take(mux, 3)[-1]
    assert closed == Closed(fh, 40 * 70_000, closed.reason)


@pytest.mark.parametrize("first", [b"", b"x"])
def test_later_is_not_lost_behind_the_end_of_the_peer(mux, pair, first):
    fh, peer = pair()
    asking, asker = pair()
    mux.add(asking, meta_handler=lambda *_: mux.send(fh, first, later=True))
    mux.add(fh)
    take(mux, 2)
    asker.send(b"a question")
    peer.shutdown(socket.SHUT_WR)
    events = [mux.mux()]
    mux.send(fh, b"the answer", later=True)
    events += drain(mux)
    assert {"read", "closing", "closed"} <= set(kinds(events))
    assert [event.missing for event in events if event.type == "closed"] == [0]
    assert receive(peer) == first + b"the answer"


def test_later_is_now_when_enough_bytes_have_come_together(mux, watched):
    fh, peer = watched
    mux.send(fh, b"a", later=True)
    assert mux.send(fh, b"b" * (64 * 1024 - 1), later=True) == 0
    assert receive(peer) == b"a" + b"b" * (64 * 1024 - 1)


def test_what_does_not_leave_at_once_when_enough_has_come_together(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    sent = b""
    for number in itertools.count(1):
        sent += b"%04d" % (number % 10_000) * 250
        left = mux.send(fh, sent[-1000:], later=True)
        if number % 32 == 0 and left:  # else all of them have left
            break
    assert left > 1000
    peer.send(b"a question")
    assert mux.mux(0) == Timeout()  # the peer is to read first
    received = b""
    for _ in range(1000):
        if not mux.buflen(fh):
            break
        received += receive(peer)
        mux.mux(0)
    assert received + receive(peer) == sent


def test_what_is_put_off_behind_a_full_queue_throttles_at_once(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1_000_000)
    assert mux.mux() == Ready(fh)
    unsent = mux.send(fh, b"x" * 900_000)
    assert 0 < unsent < 1_000_000
    while mux.buflen(fh) <= 1_000_000:
        mux.send(fh, b"x" * 1000, later=True)
    peer.send(b"a question")
    assert mux.mux(0) == Timeout()


def test_more_than_enough_for_a_peer_that_does_not_listen(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    mux.send(fh, HUGE, later=True)
    left = mux.send(fh, b"more", later=True)
    assert 1000 < left < len(HUGE)
    assert mux.send(fh, b"most", later=True) == left + 4  # it has to wait, and so does what follows
    peer.send(b"a question")
    assert drain(mux) == []  # the answers are to be read first
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        event = mux.mux(0)
    assert data + receive(peer) == HUGE + b"moremost"
    assert kinds(sorted([event, *drain(mux)], key=lambda event: event.type)) == ["read", "sent"]


def test_later_is_sent_with_what_is_sent_now(mux, watched):
    fh, peer = watched
    mux.send(fh, b"one", later=True)
    assert mux.send(fh, b"two") == 0
    assert receive(peer) == b"onetwo"
    assert drain(mux) == [Sent(fh)]


def test_later_waits_for_the_queue(mux, watched):
    fh, peer = watched
    mux.push_event(Event(), Event())
    mux.send(fh, b"one", later=True)
    mux.mux()
    assert receive(peer) == b""
    mux.mux()
    mux.mux(0)
    assert receive(peer) == b"one"


def test_later_than_the_kernel_can_take(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    assert mux.send(fh, b"end", later=True) == unsent + 3
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        mux.mux(0)
    assert data + receive(peer) == HUGE + b"end"


def test_more_is_put_off_than_the_kernel_can_take(mux, watched):
    fh, peer = watched
    assert 0 < mux.send(fh, HUGE, later=True) < len(HUGE)  # so much waits for no turn
    assert drain(mux) == []
    data = b""
    while mux.buflen(fh):
        unsent = mux.buflen(fh)
        data += receive(peer)
        mux.mux(0)
        assert mux.buflen(fh) < unsent
    assert data + receive(peer) == HUGE


def test_later_to_a_peer_that_has_gone(mux, watched):
    fh, peer = watched
    mux.send(fh, b"hello", later=True)
    peer.close()
    events = drain(mux)
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 5


def test_a_peer_that_does_not_listen_is_not_read_from(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    assert mux.send(fh, HUGE) > 1000
    peer.send(b"more questions")
    assert drain(mux) == []
    while mux.buflen(fh):
        receive(peer)
        event = mux.mux(0)
        if mux.buflen(fh) > 1000:
            assert isinstance(event, Timeout)
    assert event in (Sent(fh), Read(fh, b"more questions"))
    assert Read(fh, b"more questions") in [event, *drain(mux)]


def test_accepted_connections_inherit_high_water(mux):
    _, fh, accepted = meet(mux, high_water=1000)
    mux.kill(fh)
    until(mux, "closed", accepted)
    listener = mux.listen("tcp://127.0.0.1:0", high_water=1000)
    with socket.create_connection(listener.getsockname()) as peer:
        accepted = until(mux, "connect")[-1].fh
        mux.send(accepted, b"x" * 20_000_000)
        assert mux.buflen(accepted) > 1000
        peer.send(b"more questions")
        assert "read" not in kinds(drain(mux))


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_only_bytes_can_be_sent(mux, watched, wrong):
    with pytest.raises(TypeError, match=f"cannot send {type(wrong).__name__}, only bytes"):
        mux.send(watched[0], wrong)
    assert mux.buflen(watched[0]) == 0


def test_sending_to_a_listener_is_refused(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(TypeError, match="it is a listener"):
        mux.send(listener, b"hello")


@pytest.mark.parametrize("later", [False, True])
def test_text_is_to_be_encoded(mux, watched, later):
    fh, _ = watched
    with pytest.raises(
        TypeError, match=r"^cannot send str, .*; encode it, as in text\.encode\(\)$"
    ):
        mux.send(fh, b"one", "two", later=later)
    assert mux.buflen(fh) == 0


def test_text_is_to_be_encoded_for_packets_too(mux):
    fh = mux.listen("udp://127.0.0.1:0")
    with pytest.raises(TypeError, match="encode it"):
        mux.sendto(fh, fh.getsockname(), "two")


def test_the_handle_was_forgotten(mux, watched):
    with pytest.raises(TypeError, match=r"^'x' is no handle; that is the first argument$"):
        mux.send("x")
    with pytest.raises(TypeError, match=rf"^b'{'x' * 40}'\.\.\. is no handle"):
        mux.send(HUGE)
