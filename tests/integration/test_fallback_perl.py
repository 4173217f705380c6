"""An old server in Perl behind one in Python: clients see what they saw before."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import sys

import pytest
from support.peers import Peer
from support.programs import PERL, PROGRAMS, listening, perl_listening, run
from support.quick import quick_first

from eventmux import EventMux
from rpcasync import Client, Disconnected, RemoteError, RPCError, Server
from rpcasync._log import repeats
from rpcasync.forwarding import fallback as fallback_room
from rpcasync.storable import Blessed, ScalarRef

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

WAIT = 20.0  # seconds without anything happening
OLD = PERL / "old_server.pl"
STARTED = f"perl://{OLD}"
GONE = "the server behind has gone; see the server's log"


@pytest.fixture
def old(tmp_path):
    """An old server that listens."""
    with perl_listening(f"unix://{tmp_path}/old", OLD) as url:
        yield url


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(fallback_room, "_PATIENCE", 0.0)


# ---- clients in Perl ---------------------------------------------------------------------


def check_lines(result, count):
    lines = result.stdout.splitlines()
    assert result.stderr == ""
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert len(lines) == count


@pytest.mark.parametrize("kind", ["listens", "started"])
def test_a_perl_client_sees_no_difference(old, kind):
    """It asks the old server, and the new one: values, errors, callbacks, to the last flag."""
    fallback = old if kind == "listens" else STARTED
    with listening(PROGRAMS / "half_ported_server.py", fallback=fallback) as (url, server):
        result = run("perl", PERL / "fallback_client.pl", old, url)
    check_lines(result, 78)
    assert [line for line in server.log if "keeps the rights of root" not in line][1:] == []


@pytest.mark.parametrize("kind", quick_first(["listens", "started"]))
def test_callbacks_of_perl_clients_until_none_is_left(tmp_path, kind):
    program = PERL / "callbacks_server.pl"
    with perl_listening(f"unix://{tmp_path}/old", program) as old:
        fallback, how = (old, ()) if kind == "listens" else (f"perl://{program}", ("gateway",))
        with listening(PROGRAMS / "half_ported_server.py", fallback=fallback) as (url, _):
            result = run("perl", PERL / "callbacks_client.pl", url, "200", *how)
    check_lines(result, 23)


# ---- a server in this process ------------------------------------------------------------


class Middle:
    """A server with a fallback, and clients of it, on one mux."""

    def __init__(self, mux, path, fallback, **options):
        self.mux = mux
        procedures = {"rpc_ported": self._ported, "rpc_park": self._park}
        self.rpc = Server(mux, procedures, fallback=fallback, slow=None, **options)
        self.parked = []
        self.url = f"unix://{path}/middle"
        self.rpc.listen(self.url)
        self._takers = [self.rpc]

    def _ported(self, caller, *values):
        self.rpc.return_(caller, "ported", *values)

    def _park(self, caller):
        self.parked.append(caller)

    def client(self, url="", **options):
        client = Client(self.mux, url or self.url, **options)
        self._takers.append(client)
        return client

    def until(self, is_so):
        while not is_so():
            event = self.mux.mux(WAIT)
            assert event is not None, "nothing is left to wait for"
            assert event.type != "timeout", "nothing happens any more"
            for taker in self._takers:
                event = taker.io(event)

    def ask(self, client, *call):
        """Return the answer; a function at the end is an argument, too."""
        answers = []

        def done(*values, error=None):
            answers.append(error or values)

        client.call(*call, done)
        self.until(lambda: answers)
        if isinstance(answers[0], RPCError):
            raise answers[0]
        return answers[0]


@pytest.fixture
def middles(tmp_path):
    with EventMux() as mux:
        made = []

        def make(fallback, **options):
            made.append(Middle(mux, tmp_path, fallback, **options))
            return made[-1]

        yield make
        for middle in made:
            middle.rpc.fallback = None
            gc.collect()


@pytest.fixture(params=["listens", "started"])
def middle(request, middles):
    fallback = request.getfixturevalue("old") if request.param == "listens" else STARTED
    middle = middles(fallback)
    middle.has_own = request.param == "listens"  # connections, for its clients
    return middle


def loud(caplog):
    """What was logged, but for what every program that root starts is told."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "keeps the rights" not in record.getMessage()
    ]


VALUES = [
    *(None, True, False, 0, -1, 2**31, 2**63, 10**30, 0.1, 3.0, -0.0, 1e300, float("inf")),
    *("", "text", "caf\xe9", "\u263a", b"\xff\0", "x" * 300, "\u263a" * 300),
    *([], {}, [1, [None]], {"a": {"\u263a": [0.5]}}, ScalarRef("x"), ScalarRef([1])),
]


@pytest.mark.parametrize("codec", ["storable", "json"])
def test_a_python_client_gets_what_the_old_server_gives(old, middles, codec):
    middle = middles(old)
    direct, client = middle.client(old), middle.client(codec=codec)
    can_be_sent = [v for v in VALUES if codec != "json" or not isinstance(v, (bytes, ScalarRef))]
    can_be_sent = [v for v in can_be_sent if codec != "json" or v != float("inf")]
    for value in can_be_sent:
        wanted = middle.ask(direct, "echo", "value", value)
        got = middle.ask(client, "echo", "value", value)
        assert repr(got) == repr(wanted)
    assert middle.ask(client, "frozen", *can_be_sent)[0][:6] == "050b02"
    assert middle.ask(client, "ported", 1) == ("ported", 1)


def test_numbers_and_text_of_a_python_client_are_so_for_perl(old, middles):
    middle = middles(old)
    client = middle.client()
    image = bytes.fromhex(middle.ask(client, "frozen", 1, "1", b"\xe9", "\xe9", "\u263a")[0])
    octets_and_text = b"\x0a\x01\xe9\x17\x02\xc3\xa9\x17\x03\xe2\x98\xba"
    assert image == b"\x05\x0b\x02\0\0\0\5\x08\x81\x0a\x011" + octets_and_text


def test_what_json_cannot_say_is_an_error(middle, caplog):
    client = middle.client(codec="json")
    with pytest.raises(RemoteError, match=r"^evaluate: a value cannot be sent$"):
        middle.ask(client, "evaluate", "bless {}, 'A'")
    assert middle.ask(client, "evaluate", "[1, undef, 'x']") == ([1, None, "x"],)
    told = []
    middle.ask(client, "tell", "bless({}, 'A')", lambda *values: told.append(values))
    middle.ask(client, "tell", "('x', 2.5)", lambda *values: told.append(values))
    assert told == [("x", "2.5")]
    assert len(loud(caplog)) == 2  # the answer, and the first call of the function
    middle.until(lambda: not client.has_coderefs())


def test_objects_come_back_to_a_python_client(middle):
    client = middle.client()
    got = middle.ask(client, "evaluate", "my $o = bless {x => 1}, 'A'; [$o, $o]")[0]
    assert got[0] is got[1]
    assert got[0] == Blessed("A", {"x": 1})
    told = []
    middle.ask(client, "tell", "bless([], 'A'), \\'x'", lambda *values: told.append(values))
    assert told == [(Blessed("A", []), ScalarRef("x"))]


def test_errors_are_the_old_servers(middle):
    client = middle.client()
    with pytest.raises(RemoteError, match="^No sub 'nope' in package 'main'$"):
        middle.ask(client, "nope")
    with pytest.raises(RemoteError, match="^caf\xe9$"):
        middle.ask(client, "refuse", "caf\xe9")
    with pytest.raises(RemoteError, match="^one; two$"):
        middle.ask(client, "refuses", "one", "two")
    assert middle.ask(client, "echo", "error", "x", "code", 3) == ("error", "x", "code", 3)


def test_calls_that_wait_go_on_as_they_came(old, middles):
    """Only one may run: the others are passed on later, with the flags that they came with."""
    middle = middles(old)
    middle.rpc.set_limits(outstanding=1)
    ours, theirs = socket.socketpair()
    with theirs:
        middle.rpc.add_client(ours)
        peer = Peer(theirs)
        peer.send(0, "park")
        flagged = b"\x17\x03caf\x04\x11\x01A\x02\0\0\0\0"
        peer.sock.sendall(
            peer.framing.frame(b"\x05\x0b\x02\0\0\0\4\x08\x81\x0a\x06frozen" + flagged)
        )
        middle.until(middle.rpc.has_queued)
        middle.rpc.return_(middle.parked.pop())
        middle.ask(middle.client(), "ported")  # which waits behind it
        answers = peer.read()
    assert answers == [[0], [1, (b"\x05\x0b\x02\0\0\0\2" + flagged).hex()]]


def test_a_thousand_calls_of_which_few_may_run(middles):
    middle = middles(STARTED)
    middle.rpc.set_limits(outstanding=3)
    client = middle.client()
    calls = [client.call("add_numbers", "n1", number, "n2", 1) for number in range(1000)]
    middle.until(lambda: all(call.done for call in calls))
    assert [int(call.result()["sum"]) for call in calls] == list(range(1, 1001))
    assert middle.rpc.has_queued() == 0


# ---- ends, and bad servers ---------------------------------------------------------------


def test_a_program_that_is_missing(tmp_path):
    program = PROGRAMS / "half_ported_server.py"
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", f"unix://{tmp_path}/new"]
    result = run(*command, "--fallback", f"perl://{tmp_path}/missing.pl", program)
    assert result.returncode == 1
    assert "cannot pass calls on to" in result.stderr
    assert "missing.pl" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_program_that_does_not_start(middles, tmp_path, capfd, caplog):
    (tmp_path / "broken.pl").write_text("die 'at once'; 1;")
    middle = middles(f"perl://{tmp_path}/broken.pl")
    client = middle.client()
    assert middle.ask(client, "ported") == ("ported",)
    with pytest.raises(RemoteError, match=f"^echo: {GONE}$"):
        middle.ask(client, "echo")
    assert "echo cannot be passed on to perl://" in caplog.text
    assert "at once" in capfd.readouterr().err


@pytest.mark.parametrize("how", ["explode", "garbage", "end"])
def test_a_call_that_ends_the_old_server(middle, how):
    bad, other = middle.client(), middle.client()
    middle.ask(other, "echo")
    with pytest.raises(RemoteError, match=f"^{how}: {GONE}$"):
        middle.ask(bad, how)
    with pytest.raises(Disconnected):  # as the old server would have done
        middle.ask(bad, "ported")
    assert middle.ask(other, "ported") == ("ported",)
    if how != "end" or not middle.has_own:  # else nobody starts it again
        assert middle.ask(other, "echo", 1) == (1,)


def test_an_old_server_that_is_killed_with_calls_and_functions_under_way(middle):
    waiting, idle = middle.client(), middle.client()
    (pid,) = middle.ask(idle, "keep", lambda: None, {"deep": [print]})
    assert idle.has_coderefs() == 2
    held = [waiting.call("hold", number) for number in range(10)]
    told = middle.ask(waiting, "keep", lambda: None)
    assert told == (pid,)
    os.kill(pid, signal.SIGKILL)
    middle.until(lambda: all(call.done for call in held))
    for call in held:
        with pytest.raises(RemoteError, match=f"^hold: {GONE}$"):
            call.result()
    middle.until(lambda: not idle.has_coderefs())  # nobody can call them any more
    assert middle.ask(idle, "ported") == ("ported",)


def test_a_client_that_goes_with_functions_under_way(middle, old, caplog):
    going, other = middle.client(), middle.client()
    middle.ask(going, "keep", lambda *_: None, lambda *_: None)
    middle.ask(other, "keep", lambda *_: None)
    assert middle.ask(other, "alive") == (3,)
    going.disconnect()
    if middle.has_own:  # then the old server sees that it has gone
        direct = middle.client(old)
        while middle.ask(direct, "alive") != (1,):
            pass
    else:
        middle.ask(other, "fire", 1)  # which calls all of them
    assert middle.ask(other, "echo", 1) == (1,)
    assert not loud(caplog)


def test_a_client_that_goes_before_its_answer(middle, caplog):
    going, other = middle.client(), middle.client()
    for _ in range(3):
        going.call("hold")
    middle.ask(going, "ported")
    going.disconnect()
    middle.until(lambda: len(middle.rpc.clients) == 1)
    assert middle.ask(other, "release") == ("all",)  # at one that is started, of all clients
    assert middle.ask(other, "echo", 1) == (1,)
    assert not loud(caplog)


def test_calls_of_clients_that_have_gone_are_let_go_of(old, middles, caplog):
    """On a connection that all share, an old server that never answers would keep them for ever."""
    middle = middles(None)
    passing_on = Client(middle.mux, old)
    middle.rpc.fallback = passing_on
    going, other = middle.client(), middle.client()
    other_answer = other.call("hold")
    for _ in range(10):
        going.call("hold")
    middle.until(lambda: len(passing_on.dump_requests()) == 11)
    going.disconnect()
    middle.until(lambda: len(passing_on.dump_requests()) == 1)
    middle.ask(other, "release")  # answers all of them
    middle.until(lambda: other_answer.done)
    assert middle.ask(other, "echo", 1) == (1,)
    assert not passing_on.has_requests()
    assert not loud(caplog)


def test_a_server_that_never_answers_holds_up_nobody(middle):
    client, other = middle.client(), middle.client()
    held = [client.call("hold") for _ in range(100)]
    assert middle.ask(client, "ported", 1) == ("ported", 1)
    assert middle.ask(client, "echo", 2) == (2,)
    assert middle.ask(other, "echo", 3) == (3,)
    assert not any(call.done for call in held)
    middle.ask(client, "release")
    middle.until(lambda: all(call.done for call in held))


def test_an_answer_to_nobody_does_no_harm(middle, caplog):
    client = middle.client()
    assert middle.ask(client, "other_id") == ()
    assert middle.ask(client, "echo", 1) == (1,)
    assert "reply to a call that is not pending, id 4711" in caplog.text


def test_a_server_that_does_not_read(middles, old, caplog):
    """It is stopped: what is queued for it stays under the limit, and clients are told."""
    middle = middles(None)
    passing_on = Client(middle.mux, old, max_outbuffer=2**20)
    middle.rpc.fallback = passing_on
    client, other = middle.client(), middle.client()
    (pid,) = middle.ask(client, "keep")
    os.kill(pid, signal.SIGSTOP)
    try:
        calls = [client.call("echo", "x" * 2**18) for _ in range(40)]
        middle.until(lambda: sum(call.done for call in calls) >= 20)
        assert middle.ask(other, "ported") == ("ported",)
    finally:
        os.kill(pid, signal.SIGCONT)
    middle.until(lambda: all(call.done for call in calls))
    refused = 0
    for call in calls:
        try:
            assert call.result() == ("x" * 2**18,)
        except RemoteError as error:
            assert "echo: was not answered by the server behind; see the server's log" in str(error)
            refused += 1
    assert 20 <= refused < 40
    repeats.flush()  # else the log tells of the others after all tests
    assert "echo cannot be passed on to" in caplog.text
    assert middle.ask(client, "echo", 1) == (1,)


# ---- what every server has ---------------------------------------------------------------

PERL_SERVER = f"""
use lib '{PERL}';
use RPCServer qw(serve answer);
serve(shift, stats => sub {{ answer(shift, bonuses => 3) }}, METHODS);
"""
WITH_METHODS = "methods => sub { answer(shift, methods => { stats => {}, methods => {} }) }"


@pytest.mark.parametrize("methods", [WITH_METHODS, ""])
def test_an_old_server_with_a_procedure_named_stats(middles, tmp_path, methods):
    """Its clients still call that; and of health, which it has not, the new server answers."""
    program = tmp_path / "old.pl"
    program.write_text(PERL_SERVER.replace("METHODS", methods))
    with perl_listening(f"unix://{tmp_path}/old", program) as url:
        middle = middles(url)
        client = middle.client()
        assert middle.ask(client, "stats") == ("bonuses", 3)
        assert middle.ask(client, "health") == ("status", "ok")


def test_an_old_server_has_none_of_these(middle):
    """So the new one answers for itself, and whoever probes it notices that it is to leave."""
    client = middle.client()
    middle.rpc.drain(deadline=600)
    assert middle.ask(client, "health") == ("status", "draining")
