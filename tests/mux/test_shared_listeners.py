"""Several processes accept from one socket: a burst is shared out among them."""

import contextlib
import os
import socket

import pytest
from support.processes import forked
from support.pump import PATIENCE

from eventmux import EventMux, Timeout

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

BURST = 40


def test_a_burst_is_not_for_one_process_alone():
    # A process that is busy with each connection takes no more than it can begin soon.
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        for _ in range(BURST):
            stack.enter_context(socket.create_connection(server.getsockname()))

        def take_one():
            with EventMux() as mux:
                mux.add(server)
                assert mux.mux(PATIENCE).type == "connect"
                taken = 1
                while mux.has_events():
                    taken += mux.mux(0).type == "connect"
                return taken

        taken = [int(forked(take_one)) for _ in range(4)]
        assert max(taken) <= BURST // 8
        assert sum(taken) >= 4


def test_all_of_a_burst_is_taken_by_one_alone():
    with EventMux() as mux, contextlib.ExitStack() as stack:
        listener = mux.listen("tcp://127.0.0.1:0")
        for _ in range(BURST):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert [mux.mux(PATIENCE).type for _ in range(BURST)] == ["connect"] * BURST
        assert mux.mux(0) == Timeout()
