"""Servers that are started as child processes, from Python and from Perl, and by systemd."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program
from support.quick import quick_first

from eventmux import EventMux
from rpcasync import CallTimeout, Client, Disconnected, url_connect, url_disconnect

PYTHON_SERVER = f"://{PROGRAMS / 'child_server.py'}"
PERL_SERVER = f"://{PERL / 'child_server.pl'}"
STANDIN = PERL / "standin"

has_perl = shutil.which("perl") is not None
needs_perl = pytest.mark.skipif(not has_perl, reason="there is no perl here")
both = pytest.mark.parametrize(
    ("language", "server"),
    [
        pytest.param("python", PYTHON_SERVER, id="python"),
        pytest.param("perl", PERL_SERVER, id="perl", marks=needs_perl),
    ],
)


@pytest.fixture(autouse=True)
def perl_modules(monkeypatch):
    """Where RPC::Async is not installed, let Perl find what stands for it."""
    if has_perl and not _has_modules():
        paths = [str(STANDIN), *filter(None, [os.environ.get("PERL5LIB")])]
        monkeypatch.setenv("PERL5LIB", os.pathsep.join(paths))


def _has_modules():
    check = ["perl", "-MRPC::Async::Server", "-MRPC::Async::Client", "-MIO::EventMux", "-e1"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def child(url, *args, status=0):
    """Start a server, give a client of it, and see that it ends with the client."""
    sock = url_connect(url, *args)
    try:
        with EventMux() as mux:
            yield Client(mux, sock)
    finally:
        ended = url_disconnect(sock, LIMIT)
    assert ended == status


def report(client):
    return client.report().result(LIMIT).pairs()


# What a server is started with


@both
def test_a_server_with_one_client(language, server, monkeypatch):
    monkeypatch.chdir(PROGRAMS)
    with child(language + server, "one", "two words") as client:
        found = report(client)
        assert found["pid"] == client.fh.process.pid
        assert found["argv"] == ["one", "two words"]
        assert found["name"] == server.removeprefix("://")
        assert found["cwd"] == str(PROGRAMS if language == "python" else PERL)
        assert found["variables"] == []


@needs_perl
@pytest.mark.parametrize("folder", [PERL, PERL.parent, Path("/")])
def test_ra_19_a_perl_server_is_loaded_from_its_folder(monkeypatch, folder):
    monkeypatch.delenv("PERL_USE_UNSAFE_INC", raising=False)
    monkeypatch.chdir(folder)
    file = os.path.relpath(PERL / "child_server.pl", folder)
    with child(f"perl://{file}") as client:
        assert client.add_numbers(n1=2, n2=3).result(LIMIT)["sum"] == 5
        found = report(client)
        assert found["cwd"] == str(PERL)
        assert found["neighbour"] == "neighbour"  # a module that lies beside the program


@both
def test_what_a_server_prints_comes_from_the_same_mux(language, server):
    sock = url_connect(f"{language}2{server}")
    with EventMux() as mux:
        client = Client(mux, sock)
        mux.add(sock.stdout)
        mux.add(sock.stderr)
        call = client.say(out="out\n", err="err\n")
        printed = {sock.stdout: b"", sock.stderr: b""}
        while not (call.done and all(printed.values())):
            event = client.io(mux.mux(LIMIT))
            if event is not None:
                assert event.type == "read"
                printed[event.fh] += event.data
        assert list(printed.values()) == [b"out\n", b"err\n"]
    assert url_disconnect(sock, LIMIT) == 0


# Descriptors


@both
def test_ra_16_a_child_inherits_its_own_socket_only(language, server):
    with socket.socket() as other:
        other.set_inheritable(True)
        with child(language + server) as first, child(language + server) as second:
            found = report(second)
            ours = [os.readlink(f"/proc/self/fd/{fh.fileno()}") for fh in (other, first.fh)]
    assert set(found["sockets"]).isdisjoint(ours)
    assert len(found["sockets"]) == (1 if language == "perl" else 5)  # Python muxes have four
    assert found["cloexec"] == 1  # nor do its own children inherit it


@both
def test_ra_16_each_child_sees_the_end_of_its_own_client(language, server):
    with child(language + server) as first, child(language + server) as second:
        report(first)
        report(second)
        first.fh.close()
        assert first.fh.process.wait(LIMIT) == 0
        assert report(second)["pid"] == second.fh.process.pid
        assert second.fh.process.poll() is None


def test_ra_16_a_child_of_a_child_ends_with_it():
    sock = url_connect(f"python2{PYTHON_SERVER}")
    with EventMux() as mux:
        client = Client(mux, sock)
        url = f"python{PYTHON_SERVER}"
        pid = client.start(url=url).result(LIMIT)["pid"]
    assert pid != sock.process.pid
    sock.process.kill()
    # Both print to the same pipe: it ends when the last of them has
    sock.process.communicate(timeout=LIMIT)
    url_disconnect(sock)


@needs_perl
def test_a_perl_client_of_a_python_server():
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RPCASYNC_FDS": str(ours.fileno())}
    server = [sys.executable, PROGRAMS / "calc_server.py"]
    client = ["perl", PERL / "child_client.pl", str(theirs.fileno())]
    with ours, theirs:
        running = subprocess.Popen(server, pass_fds=[ours.fileno()], env=environment)
        ours.close()
        told = subprocess.run(
            client, pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
        )
    assert (told.stdout, told.stderr, told.returncode) == ("sum=5\n", "", 0)
    assert running.wait(LIMIT) == 0


# Servers that are no good


def test_a_server_that_dies_at_start():
    url = f"python://{PROGRAMS / 'dies_at_start.py'}"
    with EventMux() as mux:
        client = Client(mux, url)
        with pytest.raises(Disconnected) as caught:
            client.anything().result(LIMIT)
        assert str(caught.value).startswith(f"anything: {url}: ")
        assert url_disconnect(client.fh, LIMIT) == 3


@needs_perl
def test_a_perl_server_that_does_not_compile(tmp_path, capfd):
    file = tmp_path / "server.pl"
    file.write_text("sub {")
    with EventMux() as mux:
        client = Client(mux, f"perl://{file}")
        with pytest.raises(Disconnected, match=f"anything: perl://{file}: "):
            client.anything().result(LIMIT)
        assert url_disconnect(client.fh, LIMIT) > 0
    assert f"{file} failed: Missing right curly" in capfd.readouterr().err


def test_a_server_that_prints_garbage_to_its_socket(caplog):
    url = f"python://{PROGRAMS / 'prints_garbage.py'}"
    with EventMux() as mux:
        client = Client(mux, url)
        with pytest.raises(Disconnected) as caught:
            client.anything().result(LIMIT)
        assert str(caught.value).startswith(f"anything: {url}: ")
        assert url_disconnect(client.fh, LIMIT) == 0  # it saw that we let go
    assert url in caplog.text


def test_a_server_that_never_answers():
    with EventMux() as mux:
        client = Client(mux, f"python://{PROGRAMS / 'never_answers.py'}")
        call = client.anything()
        with pytest.raises(CallTimeout):
            call.result(0.01)
        assert not call.done
        mux.kill(client.fh)
        assert url_disconnect(client.fh, LIMIT) == 0


def test_a_server_that_is_killed():
    url = f"python{PYTHON_SERVER}"
    with EventMux() as mux:
        client = Client(mux, url)
        report(client)
        client.fh.process.kill()
        with pytest.raises(Disconnected):
            client.report().result(LIMIT)
        assert url_disconnect(client.fh, LIMIT) == -9


def test_a_command_is_no_server():
    with EventMux() as mux, pytest.raises((TypeError, ValueError, OSError)):
        Client(mux, f"open2://{sys.executable}", "-c", "")


# Rights


@pytest.fixture
def nobody(monkeypatch, python_for_all):
    pwd = pytest.importorskip("pwd")
    monkeypatch.setattr(sys, "executable", python_for_all)
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("RPC_ASYNC_URL_USER", raising=False)
    return pwd.getpwnam("nobody")


@both
@pytest.mark.parametrize("variable", quick_first(["SUDO_USER", "RPC_ASYNC_URL_USER"]))
def test_root_gives_up_its_rights(monkeypatch, nobody, language, server, variable):
    monkeypatch.setenv(variable, "nobody")
    with child(language + server) as client:
        found = report(client)
    assert (found["uid"], found["gid"]) == (nobody.pw_uid, nobody.pw_gid)
    assert found["groups"] == sorted(os.getgrouplist("nobody", nobody.pw_gid))
    assert (found["HOME"], found["USER"]) == (nobody.pw_dir, "nobody")


@both
def test_root_keeps_its_rights_where_the_url_says_so(monkeypatch, nobody, language, server):
    monkeypatch.setenv("SUDO_USER", "nobody")
    with child(f"{language}root{server}") as client:
        assert report(client)["uid"] == 0


@both
def test_root_keeps_its_rights_where_nobody_is_named(nobody, caplog, language, server):
    with child(language + server) as client:
        assert report(client)["uid"] == 0
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "neither SUDO_USER nor RPC_ASYNC_URL_USER names a user" in record.getMessage()


@needs_perl
def test_a_program_that_its_user_must_not_read(monkeypatch, nobody, tmp_path):
    file = tmp_path / "server.pl"
    file.write_text("1;")
    file.chmod(0o600)
    monkeypatch.setenv("SUDO_USER", "nobody")
    sock = url_connect(f"perl2://{file}")
    _, err = sock.process.communicate(timeout=LIMIT)
    assert err.decode() == f"{file} cannot be read: Permission denied\n"
    assert url_disconnect(sock) == 13  # EACCES


def by_nobody(python, code, *args):
    """Run code as the user nobody, and return what it printed."""
    result = subprocess.run(
        [python, "-c", code, *args],
        user="nobody",
        group="nogroup" if _is_group("nogroup") else "nobody",
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), "SUDO_USER": "no such user"},
        check=False,
    )
    assert result.stderr == ""
    return result.stdout.split()


def _is_group(name):
    grp = pytest.importorskip("grp")
    return name in (entry.gr_name for entry in grp.getgrall())


def test_who_is_not_root_has_no_rights_to_give_up(python_for_all, nobody):
    code = (
        "import sys\n"
        "from eventmux import EventMux\n"
        "from rpcasync import Client, url_disconnect\n"
        "client = Client(EventMux(), sys.argv[1])\n"
        "print(client.report().result(60)['uid'], url_disconnect(client.fh, 60))\n"
    )
    assert by_nobody(python_for_all, code, f"python{PYTHON_SERVER}") == [str(nobody.pw_uid), "0"]


def test_ra_14_a_fork_that_fails_leaves_the_parent_what_it_is(python_for_all):
    code = (
        "import os, resource, sys\n"
        "from rpcasync import url_connect\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "before = os.getpid(), os.listdir('/proc/self/fd')\n"
        "try:\n"
        "    url_connect(sys.argv[1])\n"
        "except BlockingIOError:\n"
        "    print('refused', before == (os.getpid(), os.listdir('/proc/self/fd')))\n"
    )
    assert by_nobody(python_for_all, code, f"python{PYTHON_SERVER}") == ["refused", "True"]


# Systemd


@pytest.fixture
def activate():
    """Start programs with systemd's own tool; they end with the test."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("there is no systemd-socket-activate here")
    running = []

    def start(*command):
        running.append(Program(["systemd-socket-activate", "-E", "PYTHONPATH", *command]))
        return running[-1]

    yield start
    for program in running:
        program.stop()


def ask(url, procedure):
    with EventMux() as mux, Client(mux, url) as client:
        return client.call(procedure).result(LIMIT)


def test_a_listener_from_systemd(tmp_path, activate):
    path = f"{tmp_path}/socket"
    program = activate("-l", path, sys.executable, PROGRAMS / "calc_server.py", "one")
    program.wait_for_log("Listening on")
    assert ask(f"unix://{path}", "whoami")["argv"] == ["one"]
    assert ask(f"unix://{path}", "stop")["stopping"] == 1
    assert program.process.wait(LIMIT) == 0


def test_two_servers_find_their_listeners_by_name(tmp_path, activate):
    public, admin = f"{tmp_path}/public", f"{tmp_path}/admin"
    names = "--fdname=admin:public"
    command = [sys.executable, PROGRAMS / "two_servers.py"]
    program = activate("-l", admin, "-l", public, names, *command)
    program.wait_for_log(f"Listening on {public}")
    assert ask(f"unix://{public}", "name")["name"] == "public"
    assert ask(f"unix://{admin}", "name")["name"] == "admin"
    assert ask(f"unix://{admin}", "stop")["stopping"] == 1
    assert program.process.wait(LIMIT) == 0


def test_a_connection_from_systemd(tmp_path, activate):
    path = f"{tmp_path}/socket"
    program = activate("-l", path, "--accept", sys.executable, PROGRAMS / "calc_server.py")
    program.wait_for_log("Listening on")
    first = ask(f"unix://{path}", "whoami")["pid"]
    assert ask(f"unix://{path}", "whoami")["pid"] not in (first, program.process.pid)


def test_the_error_tells_what_became_of_the_process():
    with EventMux() as mux:
        client = Client(mux, f"python://{PROGRAMS / 'dies_at_start.py'}")
        why = r"dies_at_start.py: .*; its process has ended with status [1-9]"
        with pytest.raises(Disconnected, match=why):
            client.anything().result(LIMIT)


# Programs without stdin, stdout or stderr

HEADER = """
import runpy, sys
_, fd, path, *arguments = sys.argv
sys.argv = [path, *arguments]
runpy.run_path(path, run_name="__main__")
"""
SAYS = f"""
import os, sys
from eventmux import EventMux
from rpcasync import Client
result, url, *args = sys.argv[1:]
file = open(result, "w")
mux = EventMux()
rpc = Client(mux, url, *args)
rpc.say(out="out\\n", err="err\\n").result({LIMIT})
print(rpc.report().result({LIMIT}).pairs()["pid"] == rpc.process.pid, file=file)
rpc.disconnect()
for event in mux:
    rpc.io(event)
print(rpc.process.returncode, file=file)
"""
CLOSED = ["<&- >&- 2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&-", ">&-", "2>&-", ""]
NONE = CLOSED[0]
CHILDREN = [
    *(["python" + PYTHON_SERVER, closed] for closed in CLOSED),
    *(pytest.param("perl" + PERL_SERVER, closed, marks=needs_perl) for closed in CLOSED),
    ["python2" + PYTHON_SERVER, NONE],
    pytest.param("perl2" + PERL_SERVER, NONE, marks=needs_perl),
    ["pythonroot" + PYTHON_SERVER, NONE],
    ["pythonheader" + PYTHON_SERVER, NONE],
]


@pytest.mark.slow
@pytest.mark.parametrize(("url", "closed"), CHILDREN)
def test_what_a_child_prints_is_no_packet(tmp_path, url, closed):
    result = tmp_path / "result"
    program = [sys.executable, "-c", SAYS, result, url, *([HEADER] if "header" in url else [])]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *program]
    subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
    assert result.read_text() == "True\n0\n"


# Programs that leave their servers


LEAVES = f"""
import os, signal, sys, time
from eventmux import EventMux
from rpcasync import Client
from rpcasync.children import leftover
url, ends, *header = sys.argv[1:]
mux = EventMux()
rpc = Client(mux, url, *header)
print(rpc.report().result({LIMIT}).pairs()["pid"], flush=True)
exec(ends)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "ends",
    [
        "rpc.disconnect()",
        "rpc.report(lambda *_: None); rpc.disconnect()",
        "with rpc: pass",
        "with mux: pass",
        "del rpc",
        "sys.exit()",
        "",
    ],
)
@both
@pytest.mark.parametrize("pipes", ["", "2"])
def test_no_warning_of_a_child_that_is_left(language, server, pipes, ends):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LEAVES]
    told = subprocess.run(
        [*command, f"{language}{pipes}{server}", ends],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stderr, told.returncode) == ("", 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.stdout), 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a parent has died")
@pytest.mark.parametrize("how", ["KILL", "TERM"])
@pytest.mark.parametrize("options", [[], ["-d"]])
def test_a_child_that_hangs_does_not_outlive_its_parent(how, options):
    ends = f"rpc.hang(); mux.mux(0); time.sleep({LIMIT})"
    command = [
        sys.executable,
        "-c",
        LEAVES,
        f"python://{PROGRAMS}/hanging_server.py",
        ends,
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert int(process.stdout.readline())
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(getattr(signal, f"SIG{how}"))
        assert process.stdout.read() == ""  # at its end: the child had it, too


@pytest.mark.slow
def test_a_thread_of_the_parent_that_ends_is_no_death(tmp_path):
    socks = []
    thread = threading.Thread(
        target=lambda: socks.append(url_connect(f"python{PYTHON_SERVER}")), daemon=True
    )
    thread.start()
    thread.join()
    with EventMux() as mux:
        client = Client(mux, socks[0])
        assert report(client)["pid"] == socks[0].process.pid
    assert url_disconnect(socks[0], LIMIT) == 0


# Perl servers that stay

NO_LOOK = """
use strict;
use warnings;
use RPC::Async::Server;
use IO::EventMux;
$SIG{TERM} = 'IGNORE' if @ARGV;
my $mux = IO::EventMux->new;
my $rpc = RPC::Async::Server->new($mux);
init_clients($rpc);
while (1) {
    my $event = $mux->mux or select undef, undef, undef, 60;
    $rpc->io($event);
}
sub rpc_pid { my ($caller) = @_; $rpc->return($caller, pid => $$) }
sub rpc_hang { alarm 1; select undef, undef, undef, 60 }
1;
"""


@needs_perl
@pytest.mark.parametrize(("args", "signum"), [([], signal.SIGTERM), (["-s"], signal.SIGKILL)])
def test_a_perl_server_that_ignores_the_end_gets_signals(tmp_path, caplog, args, signum):
    file = tmp_path / "server.pl"
    file.write_text(NO_LOOK)
    with EventMux() as mux:
        client = Client(mux, f"perl://{file}", *args)
        assert client.pid().result(LIMIT)["pid"] == client.process.pid
        client.disconnect(grace=0.02)
        for event in mux:
            assert client.io(event) is None
    assert client.process.returncode == -signum
    assert f"{file} has not ended within 0.02 seconds: SIGTERM" in caplog.text


@needs_perl
@pytest.mark.slow
def test_a_perl_server_that_hangs_ends_by_its_own_alarm(tmp_path):
    file = tmp_path / "server.pl"
    file.write_text(NO_LOOK)
    with EventMux() as mux:
        client = Client(mux, f"perl://{file}")
        with pytest.raises(
            Disconnected, match=f"its process has ended with status -{signal.SIGALRM:d}"
        ):
            client.hang().result(LIMIT)
        assert url_disconnect(client.fh, LIMIT) == -signal.SIGALRM
