"""Scripts and web applications, as programs: with servers that end, processes that fork, Perl."""

import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program, run

import rpcasync
from rpcasync import Disconnected

ADDER = ROOT / "examples" / "add_server.py"
needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


@contextmanager
def serving(url, program=ADDER):
    """Serve at a URL; give what serves."""
    server = Program([sys.executable, "-m", "rpcasync", "listen", "-u", url, program])
    try:
        server.wait_for_log("listening on")
        yield server
    finally:
        server.stop()


def script(*lines, **options):
    """Run a script; return what it prints, on stdout and on stderr."""
    result = run(sys.executable, "-X", "dev", "-c", "\n".join(lines), **options)
    return result.stdout, result.stderr


# Servers that are started


def test_a_python_server():
    with rpcasync.connect(f"python://{PROGRAMS}/child_server.py", "-v") as rpc:
        report = rpc.report().pairs()
    assert report["argv"] == ["-v"]
    with pytest.raises(ProcessLookupError):
        os.kill(report["pid"], 0)


@pytest.mark.slow
@needs_perl
def test_a_perl_server(monkeypatch):
    monkeypatch.setenv("PERL5LIB", os.pathsep.join([str(PERL), str(PERL / "standin")]))
    with rpcasync.connect(f"perl://{PERL}/child_server.pl") as rpc:
        assert int(rpc.add_numbers(n1=2, n2=3)["sum"]) == 5
        pid = int(rpc.report()["pid"])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_dies(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text("raise SystemExit(7)")
    with rpcasync.connect(f"python://{path}") as rpc:
        with pytest.raises(Disconnected, match="its process has ended with status 7"):
            rpc.add_numbers(n1=2, n2=3)
        with pytest.raises(Disconnected, match="add_numbers: python://"):
            rpc.add_numbers(n1=2, n2=3)


# Scripts


@pytest.mark.slow
def test_a_script_that_ends_with_an_open_client():
    lines = [
        "import rpcasync, threading",
        f"rpc = rpcasync.connect('python://{ADDER}')",
        "print(rpc.add_numbers(n1=2, n2=3)['sum'])",
        "threading.Thread(target=rpc.call, args=['no_answer'], daemon=True).start()",
    ]
    assert script(*lines[:3]) == ("5\n", "")
    assert script(*lines)[0] == "5\n"


@pytest.mark.slow
def test_a_script_that_drops_a_client():
    shown = script(
        "import rpcasync",
        f"rpc = rpcasync.connect('python://{ADDER}')",
        "print(rpc.add_numbers(n1=2, n2=3)['sum'])",
        "rpc = None",
        "print('goes on')",
    )
    assert shown[0] == "5\ngoes on\n"
    assert "ResourceWarning: unclosed <BlockingClient of python://" in shown[1]


def test_a_script_that_is_interrupted():
    """Ctrl-C ends the wait, and nothing but that call is lost."""
    with Interrupted(
        "import rpcasync",
        f"rpc = rpcasync.connect('python://{PROGRAMS}/never_answers.py')",
        "try:",
        "    print('waits', flush=True)",
        "    rpc.anything()",
        "except KeyboardInterrupt:",
        "    print('interrupted', rpc.closed)",
        "rpc.close()",
    ) as shown:
        assert shown == "interrupted False\n"


@contextmanager
def Interrupted(*lines):  # noqa: N802
    """Run a script, interrupt it once it has printed a line; give what it prints then."""
    program = Program([sys.executable, "-c", "\n".join(lines)])
    try:
        assert program.process.stdout.readline() == "waits\n", program.log
        program.process.send_signal(signal.SIGINT)
        yield program.process.stdout.read()
    finally:
        program.stop()


# Connecting again


@pytest.mark.slow
def test_a_client_in_a_loop_that_connects_again(tmp_path):
    url = f"unix://{tmp_path}/socket"
    other = f"unix://{tmp_path}/other"
    client = Program([sys.executable, ROOT / "examples" / "reconnecting_client.py", url, other])
    try:
        lines = iter(client.process.stdout.readline, "")
        with serving(url):
            assert next(lines) == "0 + 1 = 1\n"
        with serving(other):
            assert next(lines) == "1 + 1 = 2\n"
    finally:
        client.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["script", "tasks"])
def test_a_client_that_waits_and_connects_again(tmp_path, name):
    url = f"unix://{tmp_path}/socket"
    client = Program([sys.executable, ROOT / "examples" / f"reconnecting_{name}.py", url])
    try:
        lines = iter(client.process.stdout.readline, "")
        with serving(url):
            assert next(lines) == "0 + 1 = 1\n"
        with serving(url):
            assert next(line for line in lines if line == "1 + 1 = 2\n")
    finally:
        client.stop()


# The web application


class Web:
    """The example, at a port that is free."""

    def __init__(self, url, *command):
        self.program = Program(
            ["env", f"CALC_URL={url}", sys.executable, *command, "0"], cwd=ROOT / "examples"
        )
        self.port = int(self.program.process.stdout.readline().split()[-1])

    def get(self, query):
        """Return the status and the text of a page."""
        url = f"http://127.0.0.1:{self.port}/?{query}"
        try:
            with urllib.request.urlopen(url, timeout=LIMIT) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.program.stop()


@pytest.mark.slow
def test_the_web_application(tmp_path):
    url = f"unix://{tmp_path}/socket"
    with Web(url, "web_calc.py") as web:
        assert web.get("n1=2&n2=3") == (503, "try again\n")
        with serving(url):
            assert web.get("n1=2&n2=3") == (200, "5\n")
            assert web.get("n1=2&n2=4") == (200, "6\n")
            assert web.get("n1=2") == (400, "'n2' is missing\n")
            assert web.get("n1=2&n2=x")[0] == 400
        assert web.get("n1=2&n2=3") == (503, "try again\n")
        with serving(url):  # the first request is answered: the application has looked before
            assert web.get("n1=2&n2=3") == (200, "5\n")


FORKING = """
import os, socketserver, sys, warnings
warnings.simplefilter("error")
import web_calc
from wsgiref.simple_server import WSGIServer, make_server
class Server(socketserver.ForkingMixIn, WSGIServer):
    pass
assert web_calc.calc().add_numbers(n1=1, n2=1)["sum"]  # the parent's
with make_server("127.0.0.1", 0, web_calc.application, Server) as server:
    print("listening on port", server.server_port, flush=True)
    server.serve_forever()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_the_web_application_in_a_server_that_forks(tmp_path):
    url = f"unix://{tmp_path}/socket"
    with serving(url), Web(url, "-c", FORKING) as web:
        assert web.get("n1=2&n2=3") == (200, "5\n")
        assert web.get("n1=2&n2=4") == (200, "6\n")
