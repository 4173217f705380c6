"""The documents tell the truth: their programs are the files, and their commands print that.

In README.md and its neighbours, and below docs/: a block of Python is an example file, word for
word, or a doctest. A block of Perl is an example file or a fragment, and compiles. A block of
console is run command by command, and what it prints is compared, where "..." stands for anything.
A command with " &" behind it runs beside the others; it prints one line when it is ready. Ports are
replaced by one that is free. The line that sets up and tests is left to .ci/run, which runs it; and
what is typed in docs/migrating.md, in a folder of its own, to test_migration.py.
Every link leads somewhere.
"""

import ast
import doctest
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import certificates
from support.documents import agree, blocks, commands, free_port
from support.programs import LIMIT, PERL, ROOT, Program, listening, run
from support.pump import PATIENCE
from support.quick import quick_first
from test_layering import FLOORS

import eventmux.buffers
import rpcasync.storable

EXAMPLES = {
    path.relative_to(ROOT): path.read_text() for path in (ROOT / "examples").rglob("*.p[yl]")
}
README = ROOT / "README.md"
MIGRATING = ROOT / "docs" / "migrating.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_python_is_an_example(path):
    for block in blocks(path, "python"):
        assert block in EXAMPLES.values()


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_doctests(path):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    text = "\n".join(blocks(path, "pycon"))
    runner.run(doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0))
    assert runner.failures == 0


# Each of these starts several programs: the README's are the ones that users meet first.
TYPED_HERE = sorted((path for path in DOCUMENTS if path != MIGRATING), key=README.__ne__)


@pytest.mark.parametrize("path", quick_first(TYPED_HERE), ids=str)
def test_commands_print_what_is_shown(path, monkeypatch, tmp_path):
    if path.name == "asyncio.md":
        pytest.importorskip("aiohttp")
    if path.name in ("asyncio.md", "record-and-replay.md", "skeletons-and-stubs.md"):
        monkeypatch.setenv("PERL5OPT", " ".join([*PERL_PATHS, "-MFuller"]))
    places = {"7007": free_port(), "7008": free_port(), "calls.jsonl": f"{tmp_path}/calls.jsonl"}
    if "server.pem" in path.read_text():
        places |= {"server.pem": certificates.pem_file("server"), "ca.pem": certificates.ca_file()}
    with ExitStack() as stack:
        for block in blocks(path, "console"):
            for name, place in places.items():
                block = re.sub(rf"(?<=[ :]){re.escape(name)}\b", place, block)
            for command, shown in commands(block):
                if command.startswith("python3 -m venv"):
                    continue
                if command.startswith(("rpcasync listen", "rpcasync record")):
                    server = Program(argv(command), cwd=ROOT)
                    stack.callback(server.stop)
                    for line in shown.splitlines():
                        assert server.wait_for_log(line) == line
                elif command.endswith(" &"):
                    server = Program(argv(command[:-2]), cwd=ROOT)
                    stack.callback(server.stop)
                    assert server.process.stdout.readline().strip() == shown
                else:
                    assert agree(output(command), shown), command


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path):
    for target, heading in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", path.read_text()):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert not heading or heading[1:] in headings(page), target + heading


def headings(page):
    """Return the names that the headings of a page have in links."""
    found = re.findall("^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found]


def argv(command):
    words = shlex.split(command)
    if words[0] == "rpcasync":
        return [sys.executable, "-m", *words]
    return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]


def output(command):
    """Return what a command prints, in the order in which a terminal shows it."""
    result = subprocess.run(
        argv(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        check=False,
    )
    return result.stdout.strip("\n")


@contextmanager
def example(name, *arguments, **options):
    """Run an example beside the test; give the program."""
    program = Program([sys.executable, "-u", ROOT / "examples" / name, *arguments], **options)
    try:
        yield program
    finally:
        program.stop()


def port_of(program):
    """Return the port that a program says it listens on."""
    return int(re.search(r", (\d+)\)", program.process.stdout.readline())[1])


def test_every_example_is_named_in_a_document_or_explains_itself():
    texts = "".join(path.read_text() for path in DOCUMENTS)
    for name, text in EXAMPLES.items():
        assert str(name) in texts or text.startswith('"""')


def test_the_echo_server():
    with example("echo_server.py", "tcp://127.0.0.1:0") as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            assert server.process.stdout.readline().startswith("hello ('127.0.0.1', ")
        assert server.process.stdout.readline() == "goodbye, reason: None\n"


def test_connections_that_are_handed_over():
    with example("hand_over.py", "0") as server:
        port = port_of(server)
        socks = [socket.create_connection(("127.0.0.1", port), timeout=LIMIT) for _ in range(3)]
        firsts = (b"blue\nand more", b"green\n", b"x" * 2000)
        for sock, first in zip(socks, firsts, strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(first[:2])  # a name may come in pieces
            sock.sendall(first[2:])
        for sock, first, name in zip(socks, firsts, ("blue", "other", "other"), strict=True):
            with sock, sock.makefile("rb") as file:
                sock.sendall(b"again")
                sock.shutdown(socket.SHUT_WR)
                assert file.read() == f"{name} worker: ".encode() + first + b"again"


class Person:
    """Somebody in the chat."""

    def __init__(self, port, name):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.lines = self.sock.makefile("r")
        assert self.lines.readline() == "What is your name?\n"
        self.write(name)
        assert self.lines.readline() == f"* {name} has come\n"

    def write(self, line):
        self.sock.sendall(line.encode() + b"\r\n")

    def leave(self):
        self.lines.close()
        self.sock.close()


def test_the_chat():
    with example("line_chat.py", "tcp://127.0.0.1:0") as server:
        port = port_of(server)
        ann = Person(port, "Ann")
        bob = Person(port, "Bob")
        assert ann.lines.readline() == "* Bob has come\n"
        bob.write("\x1b[2Jhel\0lo")
        assert ann.lines.readline() == "Bob: [2Jhello\n"
        bob.leave()
        assert ann.lines.readline() == "* Bob has left\n"
        eve = Person(port, "Eve")
        assert ann.lines.readline() == "* Eve has come\n"
        eve.write("x" * 1000)  # and the "\r" in front of the newline
        eve.sock.shutdown(socket.SHUT_WR)  # else she would be heard out for two seconds
        text = "* Eve has left: record of 1001 bytes, limit is 1000\n"
        assert ann.lines.readline() == text
        eve.leave()
        ann.leave()


def test_the_chat_drops_who_does_not_read():
    with example("line_chat.py", "tcp://127.0.0.1:0") as server:
        port = port_of(server)
        deaf = Person(port, "Deaf")
        ann = Person(port, "Ann")
        writer = threading.Thread(target=write_without_end, args=(ann.sock,))
        writer.start()
        said = iter(server.process.stdout.readline, "")
        left = next(line for line in said if line.startswith("* Deaf has left"))
        assert left.startswith("* Deaf has left: output queue of ")
        ann.sock.shutdown(socket.SHUT_RDWR)
        writer.join()
        for line in said:  # or the server could not go on
            if line.startswith("* Ann has left"):
                break
        deaf.leave()
        ann.leave()


def write_without_end(sock):
    try:
        while True:
            sock.sendall((b"y" * 999 + b"\n") * 100)
    except OSError:
        pass


ELSEWHERE = {"/secure": "https://x/", "/wrong": "http://[", "/port": "http://x:y/"}


class Pages(BaseHTTPRequestHandler):
    """Serves /page, /slow (never), and /N, which redirects to /N-1 and at last to /page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            self.server.stopped.wait(LIMIT)
            return
        number = self.path[1:]
        if number.isdigit():
            target = f"/{int(number) - 1}" if int(number) > 1 else "page"
            self.answer(302, b"elsewhere\n", location=target)
        elif self.path in ELSEWHERE:
            self.answer(302, b"elsewhere\n", location=ELSEWHERE[self.path])
        elif self.path == "/page?x=1" or self.path == "/page":
            self.answer(200, b"a page\n")
        else:
            self.answer(404, b"no such page\n")

    def answer(self, status, body, **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def pages():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.stopped = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


def http_get(*arguments):
    result = run(sys.executable, "examples/http_get.py", *arguments)
    return result.stdout, result.stderr, result.returncode


def test_http_get(pages):
    assert http_get(f"{pages}/page?x=1") == ("a page\n", "", 0)
    assert http_get(f"{pages}/5") == ("a page\n", "", 0)
    text = f"{pages}/1: more than 5 redirects\n"
    assert http_get(f"{pages}/6") == ("", text, 1)
    text = f"{pages}/none: HTTP/1.1 404 Not Found\n"
    assert http_get(f"{pages}/none") == ("no such page\n", text, 1)


def test_http_get_in_vain(pages):
    text = f"{pages}/slow: no answer within 0.1 seconds\n"
    assert http_get(f"{pages}/slow", "0.1") == ("", text, 1)
    url = f"http://127.0.0.1:{free_port()}/"
    assert http_get(url) == ("", f"{url}: Connection refused\n", 1)
    assert http_get("ftp://x/") == ("", "ftp://x/: is no http:// URL\n", 1)


@pytest.mark.parametrize(
    "url", quick_first(["http://[", "http://x:y/", "http://x:99999/", "http://a b/"])
)
def test_http_get_of_a_wrong_url(url):
    assert_one_line(http_get(url), url)


@pytest.mark.parametrize("seconds", quick_first(["x", "-1", "nan", "inf"]))
def test_http_get_within_wrong_seconds(seconds):
    assert_one_line(http_get("http://127.0.0.1:1/", seconds), "SECONDS")


@pytest.mark.parametrize("path", quick_first(ELSEWHERE))
def test_http_get_of_what_leads_nowhere(pages, path):
    assert_one_line(http_get(pages + path), f"{pages}{path} leads to '{ELSEWHERE[path]}'")


def assert_one_line(result, what):
    """Check that a program said what is wrong, and only that."""
    stdout, stderr, status = result
    assert re.fullmatch(re.escape(what) + ": [^\n]+\n", stderr), stderr
    assert (stdout, status) == ("", 1)


@pytest.mark.parametrize(
    ("name", "words"),
    quick_first(
        [
            ("echo_server.py", []),
            ("tcp_relay.py", ["tcp://127.0.0.1:1"]),
            ("line_chat.py", []),
            ("behind_a_proxy.py", []),
            ("resp_server.py", []),
            ("http_server.py", []),
            ("smtp_server.py", []),
        ]
    ),
)
def test_a_server_that_cannot_listen(name, words):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        for url in ("nonsense", f"tcp://127.0.0.1:{sock.getsockname()[1]}"):
            result = run(sys.executable, f"examples/{name}", url, *words)
            assert_one_line((result.stdout, result.stderr, result.returncode), "cannot listen")
            assert result.stderr.count(url) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["tcp_relay.py", "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"],
        ["certified_server.py", "tcp://127.0.0.1:0", "127.0.0.1"],
    ],
)
def test_ctrl_c_ends_a_server(words):
    server = Program([sys.executable, ROOT / "examples" / words[0], *words[1:]])
    try:
        assert server.stdout.readline().startswith("listening on")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT) == 0
    finally:
        server.stop()
    assert server.log == []


@pytest.mark.parametrize(
    "words",
    [
        ["tls_client.py"],
        ["tls_echo_server.py"],
        ["starttls_server.py", "tcp://127.0.0.1:0"],
        ["certified_server.py", "tcp://127.0.0.1:0"],
        ["token_server.py"],
        ["tcp_relay.py", "tcp://127.0.0.1:0"],
    ],
)
def test_arguments_that_are_missing(words):
    result = run(sys.executable, f"examples/{words[0]}", *words[1:])
    assert "usage: " in result.stderr
    assert "Traceback" not in result.stderr
    assert (result.stdout, result.returncode) == ("", 1)


@pytest.mark.parametrize(
    "words",
    ["localhost x", "localhost 99999", "localhost 7 x", "serve 127.0.0.1 x", "serve 192.0.2.1 7"],
)
def test_udp_ping_with_wrong_arguments(words):
    result = run(sys.executable, "examples/udp_ping.py", *words.split())
    assert_one_line((result.stdout, result.stderr, result.returncode), words)


@pytest.mark.parametrize("arguments", [["exec_wait.py", "true"], ["tail.py"]])
def test_without_stdin(arguments):
    command = shlex.join([sys.executable, f"examples/{arguments[0]}", *arguments[1:]])
    result = run("sh", "-c", f"exec {command} <&-")
    assert (result.stdout, result.stderr, result.returncode) == ("", "stdin is closed\n", 1)


@pytest.mark.parametrize("command", ["exec_wait.py sh -c yes </dev/null", "tail.py </dev/zero"])
def test_nobody_reads_the_output(command):
    result = run("sh", "-c", f"{shlex.quote(sys.executable)} examples/{command} | head -c 1")
    assert (len(result.stdout), result.stderr) == (1, "")


def test_exec_wait_is_interrupted():
    words = ["sh", "-c", "echo started; exec sleep 2"]
    with example("exec_wait.py", *words, stdin=subprocess.PIPE) as program, program.process.stdin:
        assert program.process.stdout.readline() == "out: started\n"
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(LIMIT) == 130


def test_udp_ping():
    with example("udp_ping.py", "serve", "127.0.0.1", "0") as server:
        port = str(port_of(server))
        result = run(sys.executable, "examples/udp_ping.py", "localhost", port, "2")
    one, two, total = result.stdout.splitlines()
    assert re.fullmatch(r"1: 127\.0\.0\.1 answered in \d+\.\d{3} ms", one)
    assert two.startswith("2: 127.0.0.1 answered")
    assert (total, result.stderr, result.returncode) == ("2 of 2 answered", "", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of refused packets")
def test_udp_ping_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    result = run(sys.executable, "examples/udp_ping.py", "127.0.0.1", port, "1")
    assert result.stdout == "1: Connection refused\n0 of 1 answered\n"
    assert (result.stderr, result.returncode) == ("", 1)


def exec_wait(command, stdin=b""):
    result = subprocess.run(
        [sys.executable, "examples/exec_wait.py", "sh", "-c", command],
        input=stdin,
        capture_output=True,
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.stderr == b""
    return result.stdout.decode().splitlines(), result.returncode


def test_exec_wait():
    lines, status = exec_wait("tr a-z A-Z; echo oops >&2; printf x; exit 3", b"one\ntwo\n")
    assert [line for line in lines if line.startswith("out")] == ["out: ONE", "out: TWO", "out: x"]
    assert "err: oops" in lines
    assert (lines[-1], status) == ("exit status 3", 3)


def test_exec_wait_passes_much_on():
    assert exec_wait("wc -c | tr -d ' '", bytes(3_000_000)) == (
        ["out: 3000000", "exit status 0"],
        0,
    )
    assert exec_wait("exec true", bytes(3_000_000)) == (["exit status 0"], 0)


def test_exec_wait_of_a_killed_command():
    assert exec_wait("kill -9 $$") == (["exit status -9"], 137)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_prefork():
    with example("prefork.py", "0") as server:
        port = port_of(server)
        first = serving(port)
        os.kill(first, signal.SIGKILL)
        assert server.process.stdout.readline() == f"process {first} ended: -9\n"
        second = serving(port)
        assert second not in (first, server.process.pid)
        server.process.send_signal(signal.SIGINT)
        ends = {server.process.stdout.readline() for _ in range(2)}
        assert f"process {second} ended: 0\n" in ends
        assert server.process.wait(LIMIT) == 0


def serving(port):
    """Return the number of the process that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(b"hello")
        answer = sock.recv(100)
    return int(re.fullmatch(rb"process (\d+): hello", answer)[1])


def test_tail_of_a_file(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\n")
    with example("tail.py", path) as tail:
        assert tail.process.stdout.readline() == "one\n"
        with path.open("a") as file:
            file.write("two\n")
        assert tail.process.stdout.readline() == "two\n"
        path.write_text("new\n")
        assert tail.process.stdout.readline() == "new\n"
        assert tail.wait_for_log("the file was cut")
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(LIMIT) == 0


def test_tail_of_what_cannot_be_read(tmp_path):
    for path, text in ((tmp_path, "Is a directory"), (tmp_path / "x", "No such file or directory")):
        result = run(sys.executable, "examples/tail.py", str(path))
        assert (result.stdout, result.stderr) == ("", f"{path}: {text}\n")
        assert result.returncode == 1


def test_tail_of_a_fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with example("tail.py", path) as tail:
        with path.open("w") as file:
            file.write("one\n")
        assert tail.process.stdout.read() == "one\n"
        assert tail.process.wait(LIMIT) == 0


def test_tail_of_stdin():
    with example("tail.py", stdin=subprocess.PIPE) as tail, tail.process.stdin:
        tail.process.stdin.write("one\n")
        tail.process.stdin.flush()
        assert tail.process.stdout.readline() == "one\n"
        tail.process.stdin.close()
        assert tail.process.wait(LIMIT) == 0


def test_the_client_by_hand():
    with listening(ROOT / "examples" / "add_server.py") as (address, _):
        host, _, port = address.removeprefix("tcp://").partition(":")
        result = run(sys.executable, "examples/json_client.py", host, port)
    assert (result.stdout, result.stderr) == ("[1, 'sum', 5]\n", "")


def test_the_client_by_hand_without_arguments():
    result = run(sys.executable, "examples/json_client.py")
    assert result.returncode == 1
    assert "usage: python json_client.py HOST PORT" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("library", quick_first(["rpcasync", "xmlrpc", "Pyro5", "rpyc"]))
def test_the_same_program_side_by_side(library):
    pytest.importorskip(library, reason=f"{library} is not installed: the extra dev has it")
    name = f"side_by_side/{library.lower()}"
    if library == "rpcasync":
        with listening(ROOT / "examples" / f"{name}_server.py") as (address, _):
            printed = side_by_side(name, address)
    else:
        with example(f"{name}_server.py") as server:
            printed = side_by_side(name, server.process.stdout.readline().strip())
    refused = "<class 'ValueError'>:" if library == "xmlrpc" else ""
    lines = ["the total is 1.5", "added: 1.5", f"refused: {refused}amount must not be negative"]
    assert sorted(printed) == sorted(lines)


def side_by_side(name, address):
    """Run the client of one of the four; return what it prints."""
    result = run(sys.executable, f"examples/{name}_client.py", address)
    assert (result.stderr, result.returncode) == ("", 0)
    return result.stdout.splitlines()


def test_the_gateway():
    with listening(ROOT / "examples" / "add_server.py") as (behind, adder):
        gateway = [sys.executable, "-m", "rpcasync", "listen", "-u", "tcp://127.0.0.1:0"]
        server = Program([*gateway, ROOT / "examples" / "gateway.py", behind])
        try:
            address = server.wait_for_log("listening on").rpartition(" ")[2]
            assert output(f"rpcasync call {address} double n=21") == "double=42"
            adder.process.kill()
            adder.process.wait()
            answer = output(f"rpcasync call {address} double n=21")
            assert answer.startswith("rpcasync: no answer from behind: add_numbers: tcp://")
        finally:
            server.stop()


needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
# The modules of CPAN are not needed for this: there are stand-ins.
PERL_PATHS = [f"-I{PERL}", f"-I{PERL / 'standin'}"]


@needs_perl
def test_the_perl_programs_compile():
    for path in PERL.glob("*.p[lm]"):
        compile_perl(path.read_text(), path.name)


@needs_perl
@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_perl_is_an_example_or_a_fragment(path):
    for block in blocks(path, "perl"):
        assert block in EXAMPLES.values() or not block.startswith("#")
        compile_perl(block, path.name)


def compile_perl(text, name):
    result = subprocess.run(
        ["perl", *PERL_PATHS, "-MFuller", "-c", "-"],
        input=text,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert result.returncode == 0, f"{name}: {result.stderr}"


@needs_perl
def test_the_server_that_was_carried_over_does_what_it_did(monkeypatch):
    monkeypatch.setenv("PERL5OPT", " ".join([*PERL_PATHS, "-MFuller"]))
    in_perl = use_the_notes("perl://examples/notes_server.pl")
    assert in_perl == use_the_notes("python://examples/notes_server.py")
    assert ("told", "Ann", "buy milk") in in_perl
    assert ("count", 3) in in_perl


@needs_perl
def test_the_typed_client_is_what_is_made_of_its_server(monkeypatch):
    monkeypatch.setenv("PERL5OPT", " ".join([*PERL_PATHS, "-MFuller"]))
    made = output("rpcasync stub --sync perl://examples/notes_server.pl")
    assert made + "\n" == (ROOT / "examples" / "notes_client.py").read_text()


def use_the_notes(url):
    """Do all that a client can do with one of the two servers; return what comes of it."""
    seen = []
    mux = eventmux.EventMux()
    codec = rpcasync.StorableCodec(typed=False)  # as a client in Perl
    url = url.replace("//", f"//{ROOT}/")
    with rpcasync.Client(mux, url, codec=codec, timeout=PATIENCE) as rpc:

        def see(call):
            try:
                seen.append(tuple(call.result()))
            except rpcasync.RemoteError as error:
                seen.append(str(error))

        see(rpc.follow(callback=lambda *values: seen.append(("told", *values))))
        parked = rpc.next()
        see(rpc.add(author="Ann", text="buy milk"))
        see(parked)
        see(rpc.call("import", "Bob", "printf", r"one\ntwo milk\nthree\n"))
        see(rpc.find("milk"))
        see(rpc.count("milk", "two"))
        for number, stars in ((0, 4), (0, "2.5"), (-1, "2"), (9, 1)):
            see(rpc.rate(number=number, stars=stars))
    for event in mux:
        rpc.io(event)
    return seen


def test_json_log():
    """Each line of the log is JSON, and says whose call it is about."""
    with listening(ROOT / "examples" / "json_log.py") as (address, server):
        with rpcasync.connect(address) as rpc:
            assert rpc.divide(a=1, b=4)["quotient"] == 0.25
            with pytest.raises(rpcasync.RemoteError):
                rpc.divide(a=1, b=0)
            with pytest.raises(rpcasync.RemoteError):
                rpc.call("x" * 100 + "\n")
        lines = [json.loads(server.process.stdout.readline()) for _ in range(4)]
    answered, failed, failure, refused = lines
    assert (answered["logger"], answered["message"]) == ("access", "divide answered")
    assert answered["peer"].startswith("127.0.0.1:")
    assert (answered["procedure"], answered["outcome"]) == ("divide", "answered")
    assert answered["ms"] >= 0
    assert min(answered["received"], answered["sent"]) > 0
    assert (failed["logger"], failed["level"]) == ("rpcasync", "ERROR")
    assert failed["traceback"].endswith("ZeroDivisionError: float division by zero")
    assert (failed["peer"], failed["procedure"]) == (answered["peer"], "divide")
    assert (failure["outcome"], failure["call"]) == ("exception", failed["call"])
    assert (refused["outcome"], refused["procedure"]) == ("refused", "x" * 60)


def test_every_log_message_is_in_the_documents():
    text = (ROOT / "docs" / "operating.md").read_text()
    for path in (ROOT / "rpcasync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if is_log_call(node):
                pieces = re.split(r"%[.\d]*[srd]", node.args[node.func.attr == "log"].value)
                pattern = "[^`]+".join(map(re.escape, pieces))
                assert re.search(f"`{pattern}`", text), f"{path.name}: {pieces}"


def is_log_call(node):
    """True for a call that writes to the package's log."""
    function = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "log"
        and function.attr in {"log", "debug", "info", "warning", "error", "exception"}
    )


def test_the_design_has_the_floors_of_the_packages():
    text = (ROOT / "docs" / "design.md").read_text()
    tables = re.findall(r"^\| floor .*\n(?:\|.*\n)+", text, re.MULTILINE)
    for table, floors in zip(tables, FLOORS.values(), strict=True):
        shown = {}
        for line in table.splitlines()[2:]:
            number, files, _ = line.strip("| ").split(" | ", 2)
            shown |= dict.fromkeys(re.findall(r"`(\w+)`", files), int(number))
        assert shown == {file: floor for floor, files in enumerate(floors) for file in files}
