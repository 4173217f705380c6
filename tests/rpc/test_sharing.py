"""Which of several processes accepts next, on a real scoreboard."""

import os
import random
import socket

import pytest

from eventmux import EventMux
from rpcasync import Server
from rpcasync.serving.scoreboard import Scoreboard, make_file
from rpcasync.serving.sharing import Sharing


class Process:
    """One that accepts: what it has, and whether it waits."""

    def __init__(self, board, place):
        self.clients = 0
        self.listens = True
        self.sharing = Sharing(board, place)
        self.sharing.join(lambda: self.clients if self.listens else None)
        self.sharing.update()

    def look(self):
        """Return whether it accepts somebody."""
        if self.sharing.wait() > 0:
            return False
        self.sharing.took()
        self.clients += 1
        return True


def fewest(board):
    return min((clients for clients, _ in board.read() if clients >= 0), default=None)


def accepted(board):
    return sum(accepted for _, accepted in board.read())


@pytest.fixture
def board():
    return Scoreboard(make_file(4))


@pytest.fixture
def three(board):
    return [Process(board, place) for place in range(3)]


def test_nobody_is_there(board):
    assert board.read() == [(-1, 0)] * 4


def test_who_has_no_more_than_others_accepts(three):
    assert [process.look() for process in three] == [True] * 3
    assert [process.look() for process in three] == [True] * 3


def test_who_has_more_waits_for_others(three):
    first, second, third = three
    assert first.look()
    assert not first.look()
    assert second.look()
    assert not first.look()  # somebody has been accepted: the others are alive
    assert third.look()
    assert first.look()


def test_who_has_waited_in_vain_accepts_until_the_others_do(three):
    first, second, third = three
    assert first.look()
    assert [first.look() for _ in range(15)] == [False] * 10 + [True] * 5
    assert second.look()  # the second is back
    assert [first.look() for _ in range(15)] == [False] * 10 + [True] * 5
    third.sharing.join(lambda: 1)  # the third, too, if by another way
    third.sharing.update()
    assert not first.look()
    assert third.look()


def test_each_that_is_accepted_shows_that_others_are_alive(three):
    first, second, _ = three
    first.clients = 9
    for _ in range(5):
        assert [first.look() for _ in range(10)] == [False] * 10
        assert second.look()
        second.clients = 0


def test_who_accepts_nobody_is_not_waited_for(three):
    first, second, third = three
    second.listens = third.listens = False
    second.sharing.update()
    assert first.look()
    assert not first.look()  # the third is one who has, as far as the board says
    third.sharing.update()
    assert first.look()


def test_who_has_ended_is_not_waited_for(three, board):
    assert three[0].look()
    for place in (1, 2):
        board.write(place, None)
    assert three[0].look()


def test_clients_that_go_count(three):
    first, second, third = three
    first.clients, second.clients, third.clients = 2, 2, 1
    for process in three:
        process.sharing.update()
    assert not first.look()
    third.clients = 2
    third.sharing.update()
    assert first.look()


def test_the_clients_of_all_servers_of_a_process_count(board):
    process = Process(board, 0)
    process.sharing.join(lambda: 3)
    process.clients = 2
    process.sharing.update()
    assert fewest(board) == 5
    process.listens = False
    process.sharing.update()
    assert fewest(board) == 3


@pytest.mark.parametrize("seed", range(5))
def test_they_are_even_whoever_is_woken_first(three, seed):
    draw = random.Random(seed)
    left = 30
    while left:
        for process in draw.sample(three, 3):
            left -= left > 0 and process.look()
    assert [process.clients for process in three] == [10] * 3


def test_a_board_is_shared_by_its_descriptor():
    descriptor = make_file(2)
    other = Scoreboard(os.dup(descriptor))
    board = Scoreboard(descriptor)
    board.write(1, 7)
    board.count(1)
    assert (fewest(other), accepted(other)) == (7, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_board_without_memfd(monkeypatch):
    monkeypatch.delattr("os.memfd_create", raising=False)
    board = Scoreboard(make_file(3))
    board.write(2, 0)
    assert fewest(board) == 0


# In a server


@pytest.fixture
def server(board):
    """A server that shares a listener; it, its mux, and the address."""
    with EventMux() as mux, socket.create_server(("127.0.0.1", 0)) as listener:
        rpc = Server(mux, {})
        rpc._arrivals.entrance.share(Sharing(board, 0))
        rpc.add_listener(listener, shared=True)
        yield rpc, mux, listener.getsockname()


def turn_until(server, is_over):
    rpc, mux, _ = server
    while not is_over():
        event = mux.mux(20)
        assert event.type != "timeout"
        rpc.io(event)


def test_the_board_has_the_clients_of_a_server(server, board):
    assert (fewest(board), accepted(board)) == (0, 0)
    with socket.create_connection(server[2]), socket.create_connection(server[2]):
        turn_until(server, lambda: fewest(board) == 2)
    turn_until(server, lambda: fewest(board) == 0)
    assert accepted(board) == 2


def test_a_server_that_is_full_is_not_waited_for(server, board):
    server[0].set_limits(max_clients=1)
    with socket.create_connection(server[2]):
        turn_until(server, lambda: fewest(board) is None)
    turn_until(server, lambda: fewest(board) == 0)


def test_a_server_that_drains_is_not_waited_for(server, board):
    server[0].drain()
    turn_until(server, lambda: fewest(board) is None)


def test_a_server_takes_who_nobody_else_takes(server, board):
    board.write(1, 0)  # this one hangs
    with socket.create_connection(server[2]), socket.create_connection(server[2]):
        turn_until(server, lambda: accepted(board) == 2)


def test_a_listener_of_its_own_is_nobody_elses_affair(server, board):
    rpc, _, _ = server
    board.write(1, 0)
    own = rpc.listen("tcp://127.0.0.1:0")
    with socket.create_connection(own.getsockname()):
        turn_until(server, lambda: len(rpc.clients) == 1)
    assert accepted(board) == 0


class SmallMux:
    """What a server needs of a mux, and no more."""

    def add(self, fh, **options):
        pass

    send = kill = add


def test_another_mux_cannot_share():
    with pytest.raises(TypeError, match="--workers needs an EventMux"):
        Server(SmallMux(), {})._arrivals.entrance.share(Sharing(Scoreboard(make_file(1)), 0))
