import gc
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import warnings

import pytest
from support.processes import forked, open_descriptors
from support.programs import LIMIT, PERL, PROGRAMS

from eventmux import URLError
from rpcasync import ChildSocket, url_connect, url_disconnect
from rpcasync.children import leftover, programs
from rpcasync.children.environments import (
    FDS_VARIABLE,
    OPTIONS_VARIABLE,
    _import_path,
    perl_environment,
)
from rpcasync.children.programs import USER_VARIABLES, Program, _user_to_be, parse_program

NEVER_ANSWERS = PROGRAMS / "never_answers.py"

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


def program(tmp_path, text, name="program.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


def output(sock):
    """Return what a child printed until its end, and its status."""
    sock.close()
    out, err = sock.process.communicate(timeout=LIMIT)
    return out.decode(), err.decode(), sock.process.returncode


# The grammar


@pytest.mark.parametrize(
    ("scheme", "language", "root", "pipes", "header"),
    [
        ("python", "python", False, False, False),
        ("pythonroot", "python", True, False, False),
        ("python2", "python", False, True, False),
        ("pythonroot2", "python", True, True, False),
        ("python2root", "python", True, True, False),
        ("perl", "perl", False, False, False),
        ("perlroot", "perl", True, False, False),
        ("perl2", "perl", False, True, False),
        ("perlroot2", "perl", True, True, False),
        ("perlheader", "perl", False, False, True),
        ("perl2header", "perl", False, True, True),
        ("perlrootheader", "perl", True, False, True),
        ("perlroot2header", "perl", True, True, True),
        ("pythonheader2root", "python", True, True, True),
    ],
)
def test_schemes(scheme, language, root, pipes, header):
    url = f"{scheme}://a://b"
    assert parse_program(url) == Program(url, language, "a://b", root, pipes, header)


@pytest.mark.parametrize("url", ["tcp://a:1", "python", "ruby://x", "python3://x", "xperl://x"])
def test_other_schemes(url):
    assert parse_program(url) is None


@pytest.mark.parametrize("scheme", ["perlrootroot", "python22", "perlheader2header"])
def test_a_word_twice(scheme):
    with pytest.raises(URLError, match="any of root, 2 and header, each once"):
        parse_program(f"{scheme}://x")


@pytest.mark.parametrize("url", ["python://", "perl2root://"])
def test_no_file(url):
    with pytest.raises(URLError, match=f"expected {url}file"):
        url_connect(url)


@pytest.mark.parametrize("scheme", ["pythonheader", "perlheader2"])
def test_no_header(scheme):
    with pytest.raises(URLError, match="the first argument must be the header"):
        url_connect(f"{scheme}://{NEVER_ANSWERS}")


# Starting


def test_a_python_program(tmp_path, monkeypatch):
    file = program(
        tmp_path,
        "import os, socket, sys\n"
        "sock = socket.socket(fileno=int(os.environ['RPCASYNC_FDS']))\n"
        "sock.sendall(repr((sys.executable, sys.argv, os.getcwd())).encode())\n",
    )
    monkeypatch.chdir(tmp_path)
    with url_connect("python://program.py", "-u", "two words", "") as sock:
        expected = (sys.executable, ["program.py", "-u", "two words", ""], str(tmp_path))
        assert sock.recv(65536).decode() == repr(expected)
        assert sock.getblocking()
        assert not sock.get_inheritable()
    assert (sock.stdout, sock.stderr) == (None, None)
    assert url_disconnect(sock, LIMIT) == 0
    os.rename(file, "-c")
    with url_connect("python://-c") as sock:
        assert sock.recv(65536).decode() == repr((sys.executable, ["./-c"], str(tmp_path)))
    assert url_disconnect(sock, LIMIT) == 0


def test_stdout_and_stderr_are_pipes(tmp_path):
    file = program(
        tmp_path, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(4)\n"
    )
    sock = url_connect(f"python2://{file}")
    assert sock.stdout is sock.process.stdout
    assert sock.stderr is sock.process.stderr
    assert not hasattr(sock.stdout, "peek")  # nothing is buffered that a mux would not see
    assert output(sock) == ("out\n", "err\n", 4)


def test_the_header_of_a_python_program(tmp_path, monkeypatch):
    program(tmp_path, "import sys\nprint('program', sys.argv[1:], FLAG)\n")
    header = (
        "import runpy, socket, sys\n"
        "fd, file, *rest = sys.argv[1:]\n"
        "sock = socket.socket(fileno=int(fd))\n"
        "print('header', file, flush=True)\n"
        "sys.argv[1:] = rest\n"
        "runpy.run_path(file, {'FLAG': sock.getpeername()})\n"
    )
    monkeypatch.chdir(tmp_path)
    sock = url_connect("pythonheader2://program.py", header, "one", "two")
    out, err, status = output(sock)
    assert (err, status) == ("", 0)
    assert out == f"header {tmp_path}/program.py\nprogram ['one', 'two'] \n"


@needs_perl
def test_the_header_of_a_perl_program(tmp_path):
    file = program(tmp_path, "print qq(program @ARGV\\n); 1;\n", "program.pl")
    header = (
        "use Cwd; my ($fd, $file, @rest) = @ARGV; open my $sock, '+<&=', $fd or die $!;\n"
        "print -S $sock ? 'socket' : 'none', ' ', $file, ' ', getcwd(), qq(\\n);\n"
        "@ARGV = @rest; do $file or die;\n"
    )
    sock = url_connect(f"perl2header://{file}", header, "one", "two")
    out, err, status = output(sock)
    assert (err, status) == ("", 0)
    assert out == f"socket {file} {tmp_path}\nprogram one two\n"


@needs_perl
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sub {", "{file} failed: Missing right curly"),
        ("die qq(on purpose\\n);", "{file} failed: on purpose"),
        ("0;", "{file} did not return a true value: it must end with 1;"),
        ("undef;", "{file} did not return a true value"),
    ],
)
def test_ra_19_a_perl_program_that_does_not_load(tmp_path, text, message):
    file = program(tmp_path, text, "program.pl")
    out, err, status = output(url_connect(f"perl2://{file}"))
    assert out == ""
    assert err.startswith(message.format(file=file))
    assert 0 < status < 256


@needs_perl
def test_ra_19_a_perl_program_in_a_folder_with_an_odd_name(tmp_path):
    folder = tmp_path / "with space\nand line"
    folder.mkdir()
    file = program(folder, "print qq($0); 1;", "-e.pl")
    assert output(url_connect(f"perl2://{file}")) == (str(file), "", 0)


@needs_perl
def test_nothing_of_ours_is_in_the_environment_of_a_program(tmp_path, monkeypatch):
    monkeypatch.setenv(FDS_VARIABLE, "77")
    monkeypatch.setenv(OPTIONS_VARIABLE, "{}")
    monkeypatch.setenv("OTHER", "stays")
    shown = "print map { qq($_=$ENV{$_}\\n) } grep { /^(RPCASYNC|OTHER)/ } sort keys %ENV; 1;"
    file = program(tmp_path, shown, "program.pl")
    assert output(url_connect(f"perl2://{file}")) == ("OTHER=stays\n", "", 0)
    assert output(url_connect("open2://perl", file)) == ("OTHER=stays\n", "", 0)


def test_the_import_path_of_a_child(monkeypatch):
    root = str(PROGRAMS.parents[2])
    assert _import_path(None) == root
    assert _import_path("a") == f"a{os.pathsep}{root}"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: root)
    assert _import_path("a") is None


def test_an_installed_package_needs_no_import_path(tmp_path, monkeypatch):
    root = str(PROGRAMS.parents[2])
    monkeypatch.setattr(sysconfig, "get_path", lambda name: root)
    monkeypatch.setenv("PYTHONPATH", "unchanged")
    file = program(tmp_path, "import os\nprint(os.environ['PYTHONPATH'])\n")
    assert output(url_connect(f"python2://{file}"))[0] == "unchanged\n"


def module(folder, answer):
    """Write a Perl module whose function tells which of several it is."""
    folder.mkdir(parents=True)
    (folder / "Found.pm").write_text(f"package Found; sub where {{ '{answer}' }} 1;")


ASKS_FOUND = "use Found; print Found::where(); 1;"


@needs_perl
@pytest.mark.parametrize("variable", ["PERL5LIB", "PERLLIB"])
def test_perl_looks_for_modules_in_our_folder(tmp_path, monkeypatch, variable):
    monkeypatch.delenv("PERL5LIB", raising=False)
    monkeypatch.setenv(variable, "lib")
    monkeypatch.chdir(tmp_path)
    module(tmp_path / "lib", "here")
    (tmp_path / "server").mkdir()
    program(tmp_path / "server", ASKS_FOUND, "program.pl")
    assert output(url_connect("perl2://server/program.pl")) == ("here", "", 0)
    header = "shift; do shift or die $@"
    assert output(url_connect("perl2header://server/program.pl", header)) == ("here", "", 0)
    module(tmp_path / "server" / "lib", "beside the file")
    assert output(url_connect("perl2://server/program.pl")) == ("here", "", 0)


@needs_perl
def test_and_then_in_that_of_the_file_as_rpc_async(tmp_path, monkeypatch):
    monkeypatch.setenv("PERL5LIB", "lib")
    monkeypatch.chdir(tmp_path)
    module(tmp_path / "server" / "lib", "beside the file")
    program(tmp_path / "server", ASKS_FOUND, "program.pl")
    assert output(url_connect("perl2://server/program.pl")) == ("beside the file", "", 0)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (None, None),
        ("", ""),
        ("/a:/b", "/a:/b"),
        ("lib:/a", "{here}/lib:lib:/a"),
        (":.::/a:", "{here}:.:/a"),
        ("../x", "{above}/x:../x"),
    ],
)
def test_where_perl_looks(tmp_path, monkeypatch, paths, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERL5LIB", raising=False)
    if paths is not None:
        monkeypatch.setenv("PERL5LIB", paths)
    found = perl_environment().get("PERL5LIB")
    assert found == (expected and expected.format(here=tmp_path, above=tmp_path.parent))


# Commands


def test_open2():
    code = "import sys; print(sys.argv[1:]); sys.exit(sys.stdin.read() or 'no input')"
    sock = url_connect(f"open2://{sys.executable}", "-c", code, "one", "two words")
    assert isinstance(sock, ChildSocket)
    assert sock.fileno() == -1
    assert output(sock) == ("['one', 'two words']\n", "no input\n", 1)


def test_open2_leaves_our_stdin_alone():
    reader, writer = os.pipe()
    before = os.dup(0)
    os.dup2(reader, 0)
    try:
        os.write(writer, b"for us")
        sock = url_connect(f"open2://{sys.executable}", "-c", "print(repr(input()))")
        assert "EOFError" in output(sock)[1]
        assert os.read(0, 100) == b"for us"
    finally:
        os.dup2(before, 0)
        for number in (reader, writer, before):
            os.close(number)


def test_open2_looks_in_path_and_knows_no_shell(tmp_path, monkeypatch):
    command = program(tmp_path, f"#!{sys.executable}\nprint('found')\n", "a command; exit 9")
    command.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert output(url_connect("open2://a command; exit 9")) == ("found\n", "", 0)


@pytest.mark.slow
def test_open2_ends_like_a_server():
    sock = url_connect(f"open2://{sys.executable}", PROGRAMS / "floods.py")
    assert sock.stdout.read(1) == b"x"
    assert url_disconnect(sock, grace=1.0) == 1
    with pytest.raises(URLError, match="expected open2://command"):
        url_connect("open2://")


# What cannot be started leaves nothing behind


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("python://no_such.py", FileNotFoundError),
        (f"python://{PROGRAMS}", FileNotFoundError),  # a folder
        (f"python2://{NEVER_ANSWERS}", FileNotFoundError),  # the interpreter is missing
        (f"perl://{PERL}/child_server.pl", FileNotFoundError),  # perl is missing
        (f"open2://{NEVER_ANSWERS}", PermissionError),  # not executable
        ("open2://no_such_command", FileNotFoundError),
    ],
)
def test_ra_14_a_failed_start_raises_and_leaves_no_descriptor(monkeypatch, tmp_path, url, error):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/no_such_python")
    before, pid = open_descriptors(), os.getpid()
    with pytest.raises(error):
        url_connect(url)
    assert os.getpid() == pid
    assert open_descriptors() == before


def test_arguments_that_cannot_be_passed():
    before = open_descriptors()
    with pytest.raises(TypeError):
        url_connect(f"python://{NEVER_ANSWERS}", 5)
    with pytest.raises(ValueError, match="null"):
        url_connect(f"python://{NEVER_ANSWERS}", "a\0b")
    assert open_descriptors() == before


# Rights: whom a program runs as. tests/integration/test_child_servers.py does it for real.


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)
    for variable in USER_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def known_user():
    pwd = pytest.importorskip("pwd")
    return next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


@pytest.mark.parametrize("variable", USER_VARIABLES)
def test_the_user_of_a_variable(as_root, monkeypatch, variable):
    entry = known_user()
    monkeypatch.setenv(variable, entry.pw_name)
    user = _user_to_be("python://x")
    assert (user.uid, user.gid) == (entry.pw_uid, entry.pw_gid)
    assert entry.pw_gid in user.groups
    name = entry.pw_name
    assert user.environment == {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name}


def test_the_first_variable_wins_and_an_empty_one_is_none(as_root, monkeypatch):
    entry = known_user()
    monkeypatch.setenv("SUDO_USER", entry.pw_name)
    monkeypatch.setenv("RPC_ASYNC_URL_USER", "no such user")
    assert _user_to_be("python://x").uid == entry.pw_uid
    monkeypatch.setenv("RPC_ASYNC_URL_USER", entry.pw_name)
    monkeypatch.setenv("SUDO_USER", "")
    assert _user_to_be("python://x").uid == entry.pw_uid


@pytest.mark.parametrize("variable", USER_VARIABLES)
def test_an_unknown_user(as_root, monkeypatch, variable):
    monkeypatch.setenv(variable, "no such user")
    before = open_descriptors()
    with pytest.raises(OSError, match=f"{variable} is 'no such user'") as caught:
        url_connect(f"python://{NEVER_ANSWERS}")
    assert f"cannot start python://{NEVER_ANSWERS}" in str(caught.value)
    assert open_descriptors() == before


def test_no_user_is_named(as_root, caplog):
    with caplog.at_level(logging.WARNING, "rpcasync"):
        assert _user_to_be("python://x") is None
    (record,) = caplog.records
    text = "python://x keeps the rights of root: neither SUDO_USER nor RPC_ASYNC_URL_USER names"
    assert record.getMessage().startswith(text)


def test_nothing_to_give_up(as_root, monkeypatch, caplog):
    monkeypatch.setenv("SUDO_USER", "root")
    assert _user_to_be("python://x") is None  # root is who we are
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setenv("SUDO_USER", "no such user")
    assert _user_to_be("python://x") is None  # no root, no rights
    assert not caplog.records


def test_the_group_of_root_is_given_up_too(as_root, monkeypatch):
    entry = known_user()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("SUDO_USER", entry.pw_name)
    assert _user_to_be("python://x").gid == entry.pw_gid


def test_no_descriptor_but_one(tmp_path):
    shown = "import os\nfor fd in os.listdir('/proc/self/fd'): print(fd)\n"
    file = program(tmp_path, shown)
    with socket.socket() as other:
        other.set_inheritable(True)
        sock = url_connect(f"python2://{file}")
        found = {int(number) for number in output(sock)[0].split()}
        assert other.fileno() not in found
    assert len(found) == 5  # stdin, stdout, stderr, the socket, and the folder that it reads


def test_a_child_is_in_a_session_of_its_own(tmp_path):
    file = program(tmp_path, "import os\nprint(os.getsid(0) == os.getpid())\n")
    sock = url_connect(f"python2://{file}")
    assert isinstance(sock.process, subprocess.Popen)
    assert output(sock)[0] == "True\n"


# Descriptors that the program should not have as stdin, stdout or stderr


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_the_socket_is_above_stderr(closed):
    def child():
        for number in closed:
            os.close(number)
        with socket.socket():  # it has a number of those, and a child will not inherit it
            ours, theirs = programs._pair()
            return (
                min(ours.fileno(), theirs.fileno()) > 2,
                ours.get_inheritable(),
                [programs._standard(number) for number in range(3)],
            )

    standard = [subprocess.DEVNULL if number in closed else None for number in range(3)]
    assert eval(forked(child)) == (True, False, standard)


@pytest.mark.parametrize("timeout", [0.0, 0.5, None])
def test_no_default_timeout_counts(timeout):
    socket.setdefaulttimeout(timeout)
    try:
        ours, theirs = programs._pair()
        with theirs, programs._child_socket(ours) as sock, sock:
            assert sock.gettimeout() is None
            assert os.get_blocking(sock.fileno())
            assert os.get_blocking(theirs.fileno())
    finally:
        socket.setdefaulttimeout(None)


# What is still running when we end


@pytest.fixture
def leave(monkeypatch):
    """End what is left, as at the end of Python; return what was logged."""
    monkeypatch.setattr(leftover, "_running", [])
    monkeypatch.setattr(leftover, "_GRACE", 0.0)
    return leftover._end_all


def test_a_program_that_is_left_is_ended(leave, caplog):
    sock = url_connect("open2://sleep", "100")
    leave()
    assert sock.process.returncode == -signal.SIGTERM
    assert sock.stdout.closed
    assert caplog.messages[0] == "open2://sleep has not ended within 0.0 seconds: SIGTERM"


def test_a_program_that_is_left_and_ignores_sigterm(leave, caplog):
    sock = url_connect("open2://sh", "-c", "trap '' TERM; echo; while :; do sleep 100; done")
    sock.stdout.read(1)  # it is deaf now
    leave()
    assert sock.process.returncode == -signal.SIGKILL
    assert [message[-7:] for message in caplog.messages] == ["SIGTERM", "SIGKILL"]


def test_a_program_that_has_ended_is_only_waited_for(leave, caplog):
    sock = url_connect("open2://true")
    os.waitid(os.P_PID, sock.process.pid, os.WEXITED | os.WNOWAIT)
    leave()
    assert (sock.process.returncode, sock.stdout.closed, caplog.messages) == (0, True, [])


def test_what_has_ended_is_forgotten(leave):
    for _ in range(3):
        url_disconnect(url_connect("open2://true"))
    assert len(leftover._running) == 1


def test_what_was_dropped_is_waited_for_but_nothing_else(leave):
    kept, dropped = url_connect("open2://true"), url_connect("open2://true")
    pids = [sock.process.pid for sock in (kept, dropped)]
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    del dropped
    gc.collect()
    url_disconnect(url_connect("open2://true"))
    assert kept.process.returncode is None  # a mux may watch it by its number
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[1], os.WNOHANG)
    url_disconnect(kept)


def test_a_forked_child_ends_nothing(leave):
    sock = url_connect("open2://sleep", "100")
    assert forked(leave) == "None"
    assert sock.process.poll() is None
    leave()


def test_ctrl_c_while_we_wait_for_what_is_left(leave, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    sock = url_connect("open2://sleep", "100")
    monkeypatch.setattr(leftover, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        leave()
    assert sock.process.wait() == -signal.SIGKILL
    sock.stdout.close()
    sock.stderr.close()


def test_output_that_is_dropped_unread_is_no_mistake():
    sock = url_connect("open2://true")
    sock.process.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        leftover._running.clear()
        del sock
        gc.collect()
    assert caught == []
