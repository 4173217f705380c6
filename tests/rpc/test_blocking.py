"""A client that waits, from one thread and from many: real sockets, real threads.

Where one thread is enough, the server's answers are in the socket before the call is made.
"""

import contextlib
import copy
import errno
import gc
import linecache
import os
import pickle
import signal
import socket
import threading
import time
import warnings
import weakref

import pytest
from support.handled import forgetting
from support.line_interrupts import Interrupter
from support.peers import Peer
from support.pump import PATIENCE

import rpcasync
from eventmux import Event, EventMux
from eventmux.errors import URLError
from rpcasync import (
    ArgumentError,
    BlockingClient,
    CallCancelled,
    CallTimeout,
    Disconnected,
    EncodeError,
    RemoteError,
    Server,
)


class Service(threading.Thread):
    """A server in a thread of its own; `parked` are the calls of `park()`, in order."""

    def __init__(self):
        super().__init__()
        self.mux = EventMux()
        self.rpc = Server(self.mux, self)
        address = self.rpc.listen("tcp://127.0.0.1:0").getsockname()
        self.url = "tcp://{}:{}".format(*address)
        self.parked = []
        self.kept = []
        self.has_changed = threading.Condition()
        self.start()

    def run(self):
        with self.mux:
            for event in self.mux:
                event = self.rpc.io(event)
                if isinstance(event, Order):
                    if event.function is None:
                        return
                    event.function()

    def do(self, function):
        """Have the server's thread do something."""
        self.mux.post(Order(function=function))

    def stop(self):
        self.do(None)
        self.join()

    def wait_for(self, count):
        """Wait until so many calls are parked."""
        with self.has_changed:
            assert self.has_changed.wait_for(lambda: len(self.parked) >= count, PATIENCE)

    def answer(self, number=0, **values):
        """Answer a call of `park()`."""
        caller = self.parked.pop(number)
        self.do(lambda: self.rpc.return_(caller, **values))

    def rpc_add_numbers(self, caller, n1: int, n2: int):
        self.rpc.return_(caller, sum=n1 + n2)

    def rpc_park(self, caller):
        with self.has_changed:
            self.parked.append(caller)
            self.has_changed.notify_all()

    def rpc_boom(self, caller):
        raise rpcasync.Fault("boom")

    def rpc_count(self, caller, upto: int, progress):
        for number in range(upto):
            progress(number)
        self.rpc.return_(caller, upto=upto)

    def rpc_keep(self, caller, function):
        self.kept.append(function)
        self.rpc.return_(caller, kept=len(self.kept))

    def rpc_close(self, caller):
        self.rpc.return_(caller, "closed", 1)

    def drop_clients(self):
        self.do(lambda: [self.mux.kill(fh) for fh in self.mux.handles() if fh in self.rpc.clients])


class Order(Event):
    """Something for the server's thread to do."""

    def __init__(self, function):
        super().__init__()
        self.function = function


@pytest.fixture
def service():
    service = Service()
    yield service
    service.stop()


@pytest.fixture
def rpc(service):
    with rpcasync.connect(service.url) as rpc:
        yield rpc


@pytest.fixture
def by_hand():
    """Make clients with the server's end of the socket in our hands."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            rpc = stack.enter_context(BlockingClient(ours, **options))
            return rpc, Peer(theirs)

        yield make


class Threads:
    """Threads, each with what it returned or raised."""

    def __init__(self):
        self.threads = []
        self.results = {}

    def start(self, name, function, *args, **named):
        def run():
            try:
                self.results[name] = function(*args, **named)
            except BaseException as error:  # noqa: BLE001  # the test looks at it
                self.results[name] = error

        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), self.results
        return self.results


@pytest.fixture
def threads():
    return Threads()


def open_descriptors():
    """Return how many there are, without those of earlier tests."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


def follows(rpc, count=1):
    """Wait until so many threads wait, besides the one that leads."""
    end = time.monotonic() + PATIENCE
    while len(rpc._lead.waiting) < count or rpc._lead.leader is None:
        assert time.monotonic() < end
        time.sleep(0)


# One thread


def test_a_call(rpc):
    reply = rpc.add_numbers(n1=2, n2=3)
    assert isinstance(reply, rpcasync.Reply)
    assert int(reply["sum"]) == 5
    assert int(rpc.call("add_numbers", "n1", 4, n2=5)["sum"]) == 9


def test_a_procedure_that_is_named_like_a_member(rpc):
    assert rpc.call("close")["closed"]
    assert rpc.add_numbers(n1=1, n2=1)


def test_a_unix_server(tmp_path, service):
    url = f"unix://{tmp_path}/socket"
    done = threading.Event()
    service.do(lambda: (service.rpc.listen(url), done.set()))
    done.wait(PATIENCE)
    with rpcasync.connect(url, codec="json") as rpc:
        assert rpc.add_numbers(n1=2, n2=3) == ("sum", 5)


def test_an_error_of_the_server(rpc):
    with pytest.raises(RemoteError, match="boom"):
        rpc.boom()
    assert rpc.add_numbers(n1=1, n2=1)


def test_a_method_that_is_misspelt(rpc):
    with pytest.raises(RemoteError, match=r"BlockingClient itself has close\(\)"):
        rpc.clos()


def test_what_cannot_be_sent(rpc):
    with pytest.raises(EncodeError, match="set"):
        rpc.add_numbers(n1={1}, n2=3)
    with pytest.raises(TypeError, match="procedure is 7, must be a str"):
        rpc.call(7)
    assert rpc.add_numbers(n1=1, n2=1)


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        ("unix:///no/such", FileNotFoundError, "unix:///no/such: No such file"),
        ("python:///no/such.py", FileNotFoundError, "/no/such.py"),
        ("127.0.0.1:7007", URLError, "127.0.0.1:7007"),
        ("udp://127.0.0.1:7007", URLError, "udp://127.0.0.1:7007"),
    ],
)
def test_no_server(url, kind, text):
    with pytest.raises(kind, match=text):
        rpcasync.connect(url)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    text = (
        rf"cannot connect to tcp://127.0.0.1:{port}: Connection refused: is the server running\?$"
    )
    with pytest.raises(ConnectionRefusedError, match=text) as caught:
        rpcasync.connect(f"tcp://127.0.0.1:{port}")
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_host_that_is_not_known(monkeypatch):
    def unknown(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror, match=r"connect to tcp://nowhere\.invalid:1: Name or"):
        rpcasync.connect("tcp://nowhere.invalid:1")


def test_a_server_that_does_not_accept():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # more than wait to be accepted
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        with pytest.raises(TimeoutError, match="no answer within 0.01 seconds"):
            rpcasync.connect("tcp://{}:{}".format(*address), timeout=0.01)


@pytest.mark.parametrize("options", [{"timeout": -1}, {"codec": "x"}, {"max_packet": 1}])
def test_wrong_options(options):
    before = open_descriptors()
    with pytest.raises(ValueError, match="must|codec|max_packet"):
        rpcasync.connect("tcp://127.0.0.1:1", **options)
    assert open_descriptors() <= before


def test_a_late_answer_is_ignored(by_hand):
    rpc, peer = by_hand(timeout=0.01)
    with pytest.raises(CallTimeout, match=r"^slow: no answer within 0\.01 seconds$"):
        rpc.slow()
    peer.send(0, "late", 1)
    peer.send(1, "sum", 5)
    assert rpc.add_numbers() == ("sum", 5)


def test_without_a_timeout(by_hand):
    rpc, peer = by_hand(timeout=None)
    timer = threading.Timer(0.01, lambda: peer.send(0, "sum", 5))
    timer.start()
    assert rpc.add_numbers() == ("sum", 5)
    timer.join()


def test_a_server_that_floods(by_hand):
    """It sends without end what nobody waits for: the call ends on time."""
    rpc, peer = by_hand(timeout=0.02)
    peer.sock.setblocking(True)
    packets = peer.packet(999, "x", 1) * 1000

    def flood():
        with contextlib.suppress(OSError):
            while True:
                peer.sock.sendall(packets)

    thread = threading.Thread(target=flood)
    thread.start()
    with pytest.raises(CallTimeout):
        rpc.add_numbers()
    rpc.close()
    thread.join(PATIENCE)


def test_names_that_are_no_procedures(rpc):
    for name in ("_private", "__len__", "__iter__"):
        with pytest.raises(AttributeError, match=f"'BlockingClient' object has no .* '{name}'"):
            getattr(rpc, name)
    assert {"call", "close", "closed"} <= set(dir(rpc))


def test_it_shows_where_it_is_connected_to(service):
    rpc = rpcasync.connect(service.url)
    assert repr(rpc) == f"<BlockingClient of {service.url}>"
    rpc.close()
    assert repr(rpc) == f"<BlockingClient of {service.url}, closed>"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(rpc, make):
    with pytest.raises(TypeError, match=r"cannot copy or pickle <Bl.*>: call connect\(\) where it"):
        make(rpc)


# Callbacks


def test_a_callback_runs_where_a_call_waits(rpc):
    seen = []
    rpc.count(upto=3, progress=lambda n, /: seen.append((int(n), threading.get_ident())))
    assert seen == [(n, threading.get_ident()) for n in range(3)]


def test_the_last_argument_is_a_callback_like_others(rpc):
    seen = []
    rpc.call("count", "upto", 2, "progress", seen.append)
    assert list(map(int, seen)) == [0, 1]


def test_what_a_callback_raises_comes_out_of_the_call(rpc):
    seen = []
    with pytest.raises(ZeroDivisionError):
        rpc.count(upto=3, progress=lambda n, /: (seen.append(int(n)), 1 // 0))
    assert seen == [0]
    assert int(rpc.add_numbers(n1=1, n2=1)["sum"]) == 2


def test_a_callback_that_does_not_fit(rpc):
    text = "^values of the server, to argument progress of count: .*write lambda"
    with pytest.raises(ArgumentError, match=text):
        rpc.count(upto=3, progress=lambda a, b: None)
    assert rpc.add_numbers(n1=1, n2=1)


def test_a_callback_that_calls(rpc):
    seen = []
    rpc.count(upto=3, progress=lambda n, /: seen.append(int(rpc.add_numbers(n1=n, n2=1)["sum"])))
    assert sorted(seen) == [1, 2, 3]


def test_a_callback_that_calls_for_ever(by_hand):
    rpc, peer = by_hand()
    peer.sock.setblocking(True)
    for number in range(40):
        peer.send(2 * number, "call", number)

    def ask(number, /):
        rpc.keep(ask)

    with pytest.raises(RuntimeError, match="32 functions that the server calls wait"):
        rpc.keep(ask)
    peer.sock.setblocking(False)


def test_a_callback_that_closes(by_hand):
    rpc, peer = by_hand()
    peer.send(0, "call", 1)
    with pytest.raises(Disconnected, match="^count: .*: disconnected"):
        rpc.count(lambda n, /: rpc.close())
    with pytest.raises(Disconnected, match="^count: .*: closed"):
        rpc.count(print)
    peer.read()
    assert peer.ended
    rpc.close()


def test_a_callback_behind_the_end_of_its_call(rpc, service, caplog):
    seen = []
    rpc.keep(function=lambda n, /: seen.append(1 // int(n)))
    service.do(lambda: [service.kept[0](n) for n in (1, 0)])
    rpc.add_numbers(n1=1, n2=1)
    assert seen == [1]
    assert [record.getMessage() for record in caplog.records] == ["callback of keep failed"]
    service.do(service.kept.clear)
    rpc.add_numbers(n1=1, n2=1)


# The end of a connection


def test_the_server_ends_it_between_calls(rpc, service):
    assert not rpc.closed
    service.drop_clients()
    end = time.monotonic() + PATIENCE
    while not rpc.closed:
        assert time.monotonic() < end
    for _ in range(2):
        with pytest.raises(Disconnected, match=r"^add_numbers: tcp://.*: the server closed"):
            rpc.add_numbers(n1=1, n2=1)
    assert rpc.closed


def test_the_server_ends_it_while_calls_wait(rpc, service, threads):
    for number in range(4):
        threads.start(number, rpc.park)
    service.wait_for(4)
    service.drop_clients()
    results = threads.join()
    assert all(isinstance(result, Disconnected) for result in results.values()), results


def test_what_is_no_answer_ends_it(by_hand):
    rpc, peer = by_hand()
    peer.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for _ in range(2):
        with pytest.raises(Disconnected):
            rpc.add_numbers()
    assert rpc.closed


def test_close_is_for_good(service):
    with rpcasync.connect(service.url) as rpc:
        rpc.close()
        rpc.close()
        assert rpc.closed
        with pytest.raises(Disconnected, match=r"^add_numbers: tcp://.*: closed$"):
            rpc.add_numbers(n1=1, n2=1)


def test_close_while_calls_wait(rpc, service, threads):
    for number in range(4):
        threads.start(number, rpc.park)
    service.wait_for(4)
    threads.start("closer", rpc.close)
    rpc.close()
    results = threads.join()
    assert results.pop("closer") is None
    assert all(isinstance(result, Disconnected) for result in results.values()), results
    assert rpc.closed
    assert rpc._lead.leader is None
    assert not rpc._lead.waiting


def test_nothing_is_left_open():
    before = open_descriptors()
    ours, theirs = socket.socketpair()
    with theirs, BlockingClient(ours) as rpc:
        Peer(theirs).send(0, "sum", 5)
        rpc.add_numbers()
    assert open_descriptors() <= before


def test_one_that_is_dropped_warns_and_closes(by_hand):
    ours, theirs = socket.socketpair()
    with theirs:
        rpc = BlockingClient(ours)
        del ours
        with pytest.warns(ResourceWarning, match=r"unclosed <BlockingClient of .*>"):
            del rpc
        gc.collect()
        assert theirs.recv(1) == b""


def test_one_that_could_not_connect_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileNotFoundError):
            rpcasync.connect("unix:///no/such")
        gc.collect()


# What is left in memory


class Big(str):
    """An argument that takes much memory, as far as that matters here."""


def one_that_is_answered(rpc, peer, argument):
    peer.send(0, "sum", 5)
    rpc.work(argument)


def one_that_times_out(rpc, peer, argument):
    with pytest.raises(CallTimeout):
        rpc.work(argument)


def one_that_is_answered_with_an_error(rpc, peer, argument):
    peer.send(0, "error", "boom")
    with pytest.raises(RemoteError):
        rpc.work(argument)


def one_that_is_lost(rpc, peer, argument):
    peer.sock.close()
    with pytest.raises(Disconnected):
        rpc.work(argument)


def one_that_cannot_be_sent(rpc, peer, argument):
    with pytest.raises(EncodeError):
        rpc.work(argument, {1})


def one_whose_callback_raises(rpc, peer, argument):
    peer.send(0, "call", 1)
    with pytest.raises(ZeroDivisionError):
        rpc.work(argument, lambda n, /: 1 // 0)


def one_that_follows(rpc, peer, argument):
    def answer():
        while not peer.read():
            time.sleep(0)
        peer.send(1, "n", 1)
        while rpc._lead.waiting:
            time.sleep(0)
        peer.send(0, "n", 0)

    rpc._timeout = PATIENCE
    threads = Threads()
    threads.start("leads", rpc.park)
    while not peer.read():
        time.sleep(0)
    threads.start("answers", answer)
    rpc.work(argument)
    threads.join()


def one_that_follows_and_times_out(rpc, peer, argument):
    rpc._timeout = PATIENCE
    threads = Threads()
    threads.start("leads", rpc.park)
    while not peer.read():
        time.sleep(0)
    rpc._timeout = 0.01
    with pytest.raises(CallTimeout):
        rpc.work(argument)
    peer.send(0, "n", 0)
    threads.join()


@pytest.fixture
def no_garbage():
    """Nothing is collected that waits for the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "act",
    [
        one_that_is_answered,
        one_that_times_out,
        one_that_is_answered_with_an_error,
        one_that_is_lost,
        one_that_cannot_be_sent,
        one_whose_callback_raises,
        one_that_follows,
        one_that_follows_and_times_out,
    ],
)
def test_a_call_that_has_ended_leaves_nothing(act, no_garbage):
    """Neither what was passed, nor the client stays in memory until garbage is collected."""
    ours, theirs = socket.socketpair()
    with theirs:
        rpc = BlockingClient(ours, timeout=0.01)
        argument = Big("x")
        known = weakref.ref(argument), weakref.ref(rpc)
        act(rpc, Peer(theirs), argument)
        del argument
        assert known[0]() is None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del rpc
        assert known[1]() is None


# Many threads


def work(rpc, number, count):
    for each in range(count):
        assert int(rpc.add_numbers(n1=1000 * number, n2=each)["sum"]) == 1000 * number + each
    return "done"


@pytest.mark.parametrize(
    ("count", "calls"), [(8, 10), pytest.param(50, 200, marks=pytest.mark.slow)]
)
def test_many_threads(rpc, threads, count, calls):
    for number in range(count):
        threads.start(number, work, rpc, number, calls)
    assert threads.join() == dict.fromkeys(range(count), "done")
    assert rpc._lead.leader is None
    assert not rpc._lead.waiting


def test_answers_in_another_order(rpc, service, threads):
    for number in range(4):
        threads.start(number, rpc.park)
        service.wait_for(number + 1)
    for number in (3, 1, 1, 0):  # of those that are left
        service.answer(number, n=number)
    assert {name: int(reply["n"]) for name, reply in threads.join().items()} == {
        3: 3,
        1: 1,
        2: 1,
        0: 0,
    }


def test_others_go_on_while_one_waits(rpc, service, threads):
    threads.start("parked", rpc.park)
    service.wait_for(1)
    work(rpc, 1, 5)
    service.answer(n=7)
    assert int(threads.join()["parked"]["n"]) == 7


def test_one_times_out_while_others_go_on(rpc, service, threads):
    rpc._timeout = 0.05
    threads.start("leads", rpc.park)
    service.wait_for(1)
    threads.start("follows", rpc.park)
    service.wait_for(2)
    rpc._timeout = PATIENCE
    while len(threads.results) < 2:
        rpc.add_numbers(n1=1, n2=1)
    assert {type(each) for each in threads.join().values()} == {CallTimeout}
    service.answer(0, late=1)
    service.answer(0, late=1)
    work(rpc, 1, 3)


def test_what_cannot_be_sent_by_one_that_follows(rpc, service, threads):
    threads.start("parked", rpc.park)
    service.wait_for(1)
    with pytest.raises(EncodeError, match="set"):
        rpc.add_numbers(n1={1}, n2=3)
    service.answer(n=1)
    threads.join()


def test_a_callback_fails_in_the_call_that_it_was_passed_with(rpc, service, threads):
    threads.start("parked", rpc.park)
    service.wait_for(1)
    where = []

    def fail(n, /):
        where.append(threading.get_ident())
        raise ZeroDivisionError

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            rpc.count(upto=50, progress=fail)
    service.answer(n=1)
    assert int(threads.join()["parked"]["n"]) == 1
    assert len(where) == 10
    assert threading.get_ident() not in where


def test_a_callback_calls_while_others_wait(rpc, service, threads):
    threads.start("parked", rpc.park)
    service.wait_for(1)
    seen = []
    rpc.count(upto=3, progress=lambda n, /: seen.append(rpc.add_numbers(n1=n, n2=1)))
    assert len(seen) == 3
    service.answer(n=1)
    threads.join()


# Ctrl-C


def test_ctrl_c_in_the_thread_that_leads(rpc, service, threads):
    def interrupt():
        service.wait_for(1)
        threads.start("follows", rpc.park)
        service.wait_for(2)
        os.kill(os.getpid(), signal.SIGINT)

    threads.start("interrupter", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rpc.park()
    service.answer(1, n=2)
    assert int(threads.join()["follows"]["n"]) == 2
    work(rpc, 1, 3)


def test_ctrl_c_in_a_thread_that_follows(rpc, service, threads):
    def interrupt():
        service.wait_for(2)
        os.kill(os.getpid(), signal.SIGINT)

    threads.start("leads", rpc.park)
    service.wait_for(1)
    threads.start("interrupter", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rpc.park()
    work(rpc, 1, 3)
    service.answer(0, n=2)
    assert int(threads.join()["leads"]["n"]) == 2


def test_a_signal_while_another_thread_leads(rpc, service, threads):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        threads.start("leads", rpc.park)
        service.wait_for(1)
        os.kill(os.getpid(), signal.SIGUSR1)
        work(rpc, 1, 3)
        assert seen == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    service.answer(n=1)
    threads.join()


class LineInterrupter(Interrupter):
    """Leaves out the end of a `with` block, which is a line to `settrace()`.

    No handler runs there: Python looks for signals when a call has returned, or a jump back was
    made, and the lock is released by the next call.
    """

    def counts(self, frame):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return super().counts(frame) and not line.strip().startswith(
            ("with self.mutex", "with lead.mutex")
        )


def interrupted_at_each_line(act, check, step=1):
    """Interrupt `act()` at one line after the other, and see what is left."""
    at = 1
    while True:
        interrupter = LineInterrupter(at)
        state = forgetting(act, interrupter)
        check(state, interrupter.place)
        if not interrupter.has_fired:
            return
        at += step


@pytest.mark.slow
def test_ctrl_c_at_any_line_of_a_call(service):
    """The next call goes through, and nobody is left to lead."""

    def act(interrupter):
        rpc = rpcasync.connect(service.url)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            rpc.add_numbers(n1=1, n2=1)
        return rpc

    def check(rpc, place):
        assert rpc._lead.leader is None, place
        assert int(rpc.add_numbers(n1=2, n2=2)["sum"]) == 4, place
        rpc.close()

    interrupted_at_each_line(act, check)


@pytest.mark.slow
def test_ctrl_c_at_any_line_of_the_thread_that_leads(service):
    """A call of another thread is answered, or says that it was interrupted."""

    def act(interrupter):
        rpc = rpcasync.connect(service.url, timeout=PATIENCE)
        threads = Threads()
        service.parked.clear()

        def ask(n, /):
            # The server calls this in the thread that leads, behind what the other has sent.
            threads.start("follows", rpc.add_numbers, n1=3, n2=4)
            follows(rpc)

        with contextlib.suppress(KeyboardInterrupt), interrupter:
            rpc.count(upto=1, progress=ask)
        return rpc, threads

    def check(state, place):
        rpc, threads = state
        print(place)  # shown if that fails
        assert int(rpc.add_numbers(n1=2, n2=2)["sum"]) == 4
        results = threads.join()
        if results:
            result = results["follows"]
            assert isinstance(result, CallCancelled) or int(result["sum"]) == 7, (place, result)
        assert rpc._lead.leader is None, place
        rpc.close()

    interrupted_at_each_line(act, check, step=2)  # each takes a while: several threads


def test_ctrl_c_again_and_again_while_a_call_is_left(rpc, monkeypatch):
    leave, interrupts = BlockingClient._leave, iter(range(5))

    def interrupted(self, request):
        if next(interrupts, None) is not None:
            raise KeyboardInterrupt
        leave(self, request)

    monkeypatch.setattr(BlockingClient, "_leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rpc.add_numbers(n1=1, n2=2)
    assert rpc._lead.leader is None
    assert int(rpc.add_numbers(n1=2, n2=2)["sum"]) == 4


# A forked child


def in_a_child(function):
    """Run a function in a forked child; return what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        text = "nothing"
        try:
            text = function()
        except BaseException as error:  # noqa: BLE001  # it is told to the parent
            text = repr(error)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@needs_fork
def test_a_forked_child_connects_itself(rpc, service):
    def child():
        assert rpc.closed
        with pytest.raises(RuntimeError) as caught:
            rpc.add_numbers(n1=1, n2=1)
        rpc.close()
        with rpcasync.connect(service.url) as other:
            assert int(other.add_numbers(n1=1, n2=1)["sum"]) == 2
        return str(caught.value)

    text = f"add_numbers: <BlockingClient of {service.url}, a connection of the parent process>: "
    assert in_a_child(child) == f"{text}call connect() in this process"
    work(rpc, 1, 3)


@needs_fork
def test_a_child_that_is_forked_while_others_wait(rpc, service, threads):
    threads.start("leads", rpc.park)
    service.wait_for(1)
    threads.start("follows", rpc.park)
    service.wait_for(2)

    def child():
        with pytest.raises(RuntimeError):
            rpc.add_numbers(n1=1, n2=1)
        with pytest.raises(RuntimeError):
            rpc.park()
        rpc.close()
        return "fine"

    with rpc._lead.mutex:  # as another thread may have it
        assert in_a_child(child) == "fine"
    service.answer(0, n=1)
    service.answer(0, n=2)
    threads.join()
    work(rpc, 1, 3)


@needs_fork
def test_a_child_may_drop_what_it_has_inherited(service):
    def child():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            held.clear()
            gc.collect()
        return "fine"

    held = [rpcasync.connect(service.url)]
    assert in_a_child(child) == "fine"
    with held[0] as rpc:
        work(rpc, 1, 3)
