"""What the program keeps with a handle, and what accepted connections have of it."""

import gc
import socket

import pytest
from support.meeting import meet
from support.pump import PATIENCE, take

from eventmux import (
    Read,
)
from eventmux.buffers import Split


def test_meta_is_kept(mux, pair):
    fh, peer = pair()
    mux.add(fh, meta={"a": 1})
    assert mux.meta(fh) == {"a": 1}
    assert mux.meta(fh, "other") == "other"
    assert mux.meta(fh) == "other"
    assert mux.meta(fh, None) is None
    assert mux.meta(fh) is None
    mux.meta(fh, "last")
    peer.close()
    assert [(event.type, mux.meta(fh)) for event in take(mux, 2)] == [
        ("ready", "last"),
        ("closing", "last"),
    ]
    mux.mux()
    with pytest.raises(KeyError):
        mux.meta(fh)


def test_meta_is_none_unless_given(mux, watched):
    assert mux.meta(watched[0]) is None


def test_meta_is_copied_to_what_is_accepted(mux):
    inner = []
    listener, fh, accepted = meet(mux, meta={"inner": inner})
    mux.meta(accepted)["own"] = 1
    assert mux.meta(listener) == {"inner": inner}
    assert mux.meta(accepted) == {"inner": inner, "own": 1}
    assert mux.meta(accepted)["inner"] is inner
    assert mux.meta(fh) is None


class Uncopyable:
    def __copy__(self):
        raise RuntimeError("there can be only one")


def test_meta_that_cannot_be_copied_does_not_break_the_mux(mux):
    # Anybody who connects could otherwise end the program of a server with a lock in its meta.
    listener = mux.listen("tcp://127.0.0.1:0", meta=Uncopyable())
    with socket.create_connection(listener.getsockname()):
        assert mux.mux(PATIENCE).type in ("connect", "error")
        gc.collect()
    assert listener in mux.handles()


def test_each_accepted_connection_has_a_buffer_of_its_own(mux):
    pattern = Split()
    pattern.write(b"left over")
    listener = mux.listen("tcp://127.0.0.1:0", buffered=pattern)
    with (
        socket.create_connection(listener.getsockname()) as one,
        socket.create_connection(listener.getsockname()) as two,
    ):
        connects = take(mux, 2)
        handles = {event.address: event.fh for event in connects}
        one.send(b"from one part")
        two.send(b"from two\n")
        assert mux.mux(PATIENCE) == Read(handles[two.getsockname()], b"from two")
        one.send(b" and the rest\n")
        expected = Read(handles[one.getsockname()], b"from one part and the rest")
        assert mux.mux(PATIENCE) == expected
