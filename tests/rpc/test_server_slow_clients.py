"""Clients that do not read, read too slowly, or stop in the middle of an answer."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios


def test_a_client_that_does_not_read_is_not_served(bench, procedures):
    peer, other = bench.peer(), bench.peer()
    for id in range(100):
        peer.send(id, "big", 500_000)
    bench.turn()
    served = len(procedures.ran)
    assert served < 10
    bench.turn()
    assert len(procedures.ran) == served
    assert bench.ask(other, 0, "list") == [[0]]
    packets = []
    while len(packets) < 100:
        packets += peer.read()
        bench.turn()
    assert [packet[0] for packet in packets] == list(range(100))


def test_a_client_that_stops_reading_half_way_is_not_read_from(bench, procedures):
    peer = bench.peer()
    peer.send(0, "big", 3_000_000)
    bench.turn()
    (fh,) = bench.rpc.clients
    while bench.mux.buflen(fh) > 800_000:  # below the mark, and never empty
        peer.sock.recv(100_000)
        bench.turn()
    for id in range(1, 50):
        peer.send(id, "note", id)
        bench.turn()
    assert procedures.ran == [3_000_000]
    while len(procedures.ran) < 50:
        peer.sock.recv(100_000)
        bench.turn()
    assert procedures.ran == [3_000_000, *range(1, 50)]


def test_a_large_answer_that_came_late_does_not_stop_what_follows(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    bench.rpc.return_(procedures.parked[0], "x" * 3_000_000)
    packets = []
    while not packets:
        bench.turn()
        packets += peer.read()
    bench.turn()
    assert bench.ask(peer, 1, "list", "next") == [[1, "next"]]


def test_a_slow_reader_is_given_no_more_to_wait_for(bench, procedures):
    peer = bench.peer()
    (fh,) = bench.rpc.clients
    request = peer.packet(0, "big", 300_000)
    sent = 0
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            sent += peer.sock.send(request * 1000)
        bench.turn()
        with contextlib.suppress(BlockingIOError):
            peer.sock.recv(300_000)
    (unread,) = struct.unpack("i", fcntl.ioctl(fh, termios.FIONREAD, bytes(4)))
    assert sent - unread - len(procedures.ran) * len(request) < 200_000


def test_a_client_that_does_not_read_is_not_served_when_its_turn_comes(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer, other = bench.peer(), bench.peer()
    peer.send_calls(("park", 0), *[("big", 500_000)] * 200)
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert bench.ask(other, 0, "note", 1) == [[0, 1]]
    assert procedures.ran.count(500_000) < 10
    answers = []
    while len(answers) < 201:
        bench.turn()
        answers += peer.read()
    assert [answer[0] for answer in answers] == list(range(201))


def test_a_client_that_cannot_be_written_to_is_served_to_the_end(bench, procedures):
    peer = bench.peer()
    peer.send(0, "big", 4_000_000)
    bench.turn()
    peer.sock.shutdown(socket.SHUT_RD)
    peer.sock.recv(1_000_000)  # so that the next write is tried, and fails
    bench.turn()
    peer.send(1, "note", 1)
    bench.turn()
    assert procedures.ran == [4_000_000, 1]


def test_a_client_that_closes_in_the_middle_of_an_answer(bench):
    peer, other = bench.peer(), bench.peer()
    peer.send(0, "big", 3_000_000)
    bench.turn()
    assert len(peer.sock.recv(1000)) == 1000
    peer.sock.close()
    bench.turn()
    assert len(bench.rpc.clients) == 1
    assert bench.ask(other, 0, "list") == [[0]]


def test_a_client_that_asks_and_shuts_down_its_side_is_answered(bench):
    peer = bench.peer()
    peer.send(0, "big", 3_000_000)
    peer.send(1, "list", "last")
    peer.sock.shutdown(socket.SHUT_WR)
    packets = []
    while not peer.ended:
        bench.turn()
        packets += peer.read()
    assert [packet[0] for packet in packets] == [0, 1]
    assert bench.rpc.clients == set()


def test_a_client_that_shuts_down_and_does_not_read_is_served_bit_by_bit(bench, procedures):
    peer = bench.peer()
    peer.sock.sendall(b"".join(peer.packet(id, "big", 500_000) for id in range(100)))
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert len(procedures.ran) < 10
    packets = []
    while not peer.ended:
        packets += peer.read()
        bench.turn()
    assert [packet[0] for packet in packets] == list(range(100))
