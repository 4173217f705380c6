"""Perl programs that start a server in Python: `perlheader://`, as docs/porting.md has it."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, run

from eventmux import EventMux
from rpcasync import Client, url_disconnect

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

EXAMPLE = ROOT / "examples" / "starts_python.pl"
HEADER = re.search(r"^my \$python = q\{\n(.*?)^\};$", EXAMPLE.read_text(), re.M | re.S)[1]


@pytest.fixture(autouse=True)
def perl(monkeypatch):
    """What the program finds: the modules of CPAN, or what stands for them, and our Python."""
    monkeypatch.setenv("PERL5LIB", str(PERL / "standin"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHON", sys.executable)


def test_the_example():
    result = run("perl", EXAMPLE)
    assert (result.stdout, result.stderr, result.returncode) == ("sum=5\n", "", 0)


def test_python_is_not_there(monkeypatch):
    monkeypatch.setenv("PYTHON", "/no/such/python")
    result = run("perl", EXAMPLE)
    assert "cannot run Python: No such file or directory" in result.stderr
    assert "the server has gone" in result.stderr  # `io` dies of it, as it always did
    assert (result.stdout, result.returncode > 0) == ("", True)


def test_a_server_that_dies_at_start():
    result = run("perl", EXAMPLE, PROGRAMS / "dies_at_start.py")
    assert "the server has gone" in result.stderr


@pytest.mark.parametrize("passed_on", [[], [HEADER]])
def test_what_the_server_gets(monkeypatch, passed_on):
    """Some releases pass the header on in front of the arguments, others do not; nor do we."""
    monkeypatch.chdir(ROOT)
    server = PROGRAMS / "child_server.py"
    url = f"perlheader://{server.relative_to(ROOT)}"
    with EventMux() as mux:
        client = Client(mux, url, HEADER, *passed_on, "one", "two words")
        found = client.report().result(LIMIT).pairs()
        assert found["pid"] == client.process.pid  # there is no process in between
        assert found["argv"] == ["one", "two words"]
        assert (found["name"], found["cwd"]) == (str(server), str(server.parent))
        assert found["variables"] == []
        assert found["cloexec"] == 1
        mux.kill(client.fh)
    assert url_disconnect(client.fh, LIMIT) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a parent has died")
def test_a_server_that_hangs_does_not_outlive_the_perl_program():
    command = ["perl", EXAMPLE, PROGRAMS / "hanging_server.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""  # at its end: the server had it, too
