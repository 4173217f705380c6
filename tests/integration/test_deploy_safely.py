"""The four ways of docs/howto/deploy-safely.md, as they stand there, and more strangers.

The commands of a section are typed one after the other, with certificates that the commands of the
page have made, and ports that are free. What a block of text shows has to come in the log of the
server that was started last.
"""

import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import certificates
from support.documents import blocks, commands
from support.programs import LIMIT, ROOT, Program
from support.programs import run as run_program
from support.proxies import needs_haproxy, running

import rpcasync

PAGE = ROOT / "docs" / "howto" / "deploy-safely.md"
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None
    or not run_program("openssl", "version").stdout.startswith("OpenSSL 3"),
    reason="no openssl command of version 3",
)
# Who is refused without a word learns it by what he does at that moment.
GONE = re.compile(
    "Broken pipe|Connection reset by peer|the server closed the connection"
    "|the connection ended without close_notify: what came may be cut off"
)
CHANGING = re.compile(r"\bfd \d+|\bprocess \d+|(?<=, )\d+(?=\))|(?<=127\.0\.0\.1:)\d+")


def same(text):
    """Return text without what differs from one run to the next."""
    return CHANGING.sub("N", GONE.sub("gone", text))


def parts(heading):
    """Yield what is to be typed and to be logged in a section, in order, by kind."""
    section = PAGE.read_text().split(f"\n## {heading}\n", 1)[1].partition("\n## ")[0]
    for kind, block in re.findall(
        r"^```(shell-session|text)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL
    ):
        if kind == "text":
            yield from (("log", line, "") for line in block.splitlines())
        else:
            yield from (("command", *pair) for pair in commands(block))


class Terminal:
    """Types commands of the page in a folder, each place in them replaced by one that is free."""

    def __init__(self, stack, folder, python=sys.executable):
        self.stack = stack
        self.folder = folder
        self.python = python
        self.places = {"examples/": f"{ROOT}/examples/", "/run/totals": str(folder)}
        self.server = None

    def follow(self, steps):
        """Do all that a section says."""
        for kind, text, shown in steps:
            if kind == "log":
                assert self.has_logged(text), f"no {text!r} in {self.server.log}"
            else:
                self.type(text, shown)

    def type(self, command, shown):
        is_server = " listen " in command or command.startswith("python3 examples/")
        if is_server:
            self.start(command, shown)
        else:
            assert same(self.run(command)) == same(self.placed(shown)), command

    def start(self, command, shown):
        """Run a server at a port that is free, and learn which."""
        command = self.placed(command).replace(":7007", ":0")
        if self.server is not None:
            self.server.stop()
        self.server = Program(self.words(command), cwd=self.folder)
        self.stack.callback(self.server.stop)
        if " listen " in command:
            line = self.server.wait_for_log("listening on")
        else:
            line = self.server.stdout.readline().strip()
        found = re.search(r"127\.0\.0\.1(?::|', )(\d+)", line)
        if found:
            self.places[" 127.0.0.1:7007"] = f" 127.0.0.1:{found[1]}"
            self.places["//127.0.0.1:7007"] = f"//127.0.0.1:{found[1]}"
            shown = shown.replace("7007", found[1])
        assert line == self.placed(shown)

    def run(self, command, user=None):
        """Return what a command prints."""
        command = self.placed(command)
        as_somebody = re.match(r"sudo -u ([\w-]+) ", command)
        options = {}
        if as_somebody or user:
            options = identity(user or as_somebody[1])
            command = command.removeprefix(as_somebody[0] if as_somebody else "")
        result = subprocess.run(
            ["sh", "-c", command.replace("python3", shlex.quote(self.python))],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            cwd="/" if options else self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            **options,
        )
        return (result.stdout + result.stderr).strip("\n")

    def placed(self, text):
        for name, place in self.places.items():
            text = text.replace(name, place)
        return text

    def words(self, command):
        words = shlex.split(command)
        assert words[0] == "python3"
        return [sys.executable, *words[1:]]

    def has_logged(self, text):
        """Wait for a line of the server's log that is as it is shown."""
        wanted = same(self.placed(text))
        return self.server.wait_for_line(lambda line: same(line) == wanted)


def identity(name):
    """Return what runs a program as a user, and with no group but his own."""
    pwd = pytest.importorskip("pwd")
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name} here")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_folder():
    """A folder that all users can get to, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the commands of the page make, and certificates of strangers."""
    folder = tmp_path_factory.mktemp("certificates")
    (made,) = blocks(PAGE, "bash")
    subprocess.run(["sh", "-ec", made], cwd=folder, check=True, capture_output=True)
    other = made.splitlines()[2].replace("client.", "other.")
    subprocess.run(["sh", "-ec", other], cwd=folder, check=True, capture_output=True)
    key, cert = (folder / "other.key").read_text(), (folder / "other.crt").read_text()
    (folder / "other.pem").write_text(key + cert)
    shutil.copy(certificates.pem_file("foreign"), folder / "foreign.pem")
    return folder


# A UNIX socket


def test_the_page_about_unix_sockets(stack, open_folder, python_for_all):
    terminal = Terminal(stack, open_folder, python_for_all)
    terminal.follow(parts("A UNIX socket, and user ids"))
    # Root is a user like any other, and it is not named.
    url = f"unix://{open_folder}/socket"
    said = terminal.run(f"python3 -m rpcasync call {url} add_numbers n1=2 n2=3")
    assert same(said) == f"rpcasync: add_numbers: {url}: gone"
    terminal.server.wait_for_log("user 0 is not among those that are allowed")


def test_who_is_not_of_the_group(stack, open_folder, python_for_all):
    terminal = Terminal(stack, open_folder, python_for_all)
    url = f"unix://{open_folder}/socket"
    shown = f"rpcasync: listening on {url}"
    server = f"python3 -m rpcasync listen -u {url} --mode 660 examples/add_server.py"
    terminal.start(server, shown)
    call = f"python3 -m rpcasync call {url} add_numbers n1=2 n2=3"
    assert terminal.run(call, "nobody") == f"rpcasync: add_numbers: {url}: Permission denied"
    assert terminal.run(call) == "sum=5"
    assert terminal.server.log == [shown]


def test_a_user_who_is_not_named(stack, tmp_path):
    """The same for who is not root: the stranger is ourselves."""
    terminal = Terminal(stack, tmp_path)
    url = f"unix://{tmp_path}/socket"
    options = f"-u {url} --mode 666 --allow-uid {os.getuid() + 1}"
    server = f"python3 -m rpcasync listen {options} examples/add_server.py"
    terminal.start(server, f"rpcasync: listening on {url}")
    said = terminal.run(f"python3 -m rpcasync call {url} add_numbers n1=2 n2=3")
    assert same(said) == f"rpcasync: add_numbers: {url}: gone"
    terminal.server.wait_for_log(f"user {os.getuid()} is not among those that are allowed")


# TLS with certificates of clients


@needs_openssl
def test_the_page_about_certificates(stack, files):
    terminal = Terminal(stack, files)
    terminal.follow(parts("TLS with certificates of clients"))
    # And somebody who speaks no TLS at all
    said = terminal.run("python3 -m rpcasync call tcp://127.0.0.1:7007 who_am_i")
    assert same(said).endswith(": gone")
    assert "the peer does not speak TLS" in terminal.server.wait_for_log("not speak TLS")


@needs_openssl
def test_the_certificates_of_the_page_are_good_for_what_they_are(files):
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        for other in ("sslserver", "sslclient"):
            verify = ["openssl", "verify", "-x509_strict", "-purpose", other, "-CAfile", "ca.pem"]
            result = run_program(*verify, f"{name}.crt", cwd=files)
            assert (result.returncode == 0) is (other == purpose), result.stderr
    # That of a client makes no others.
    text = run_program("openssl", "x509", "-in", "client.crt", "-noout", "-text", cwd=files).stdout
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text


@needs_openssl
def test_a_server_without_tls_lets_in_nobody(stack, files):
    """The program was made for TLS, and is started without."""
    terminal = Terminal(stack, files)
    server = "python3 -m rpcasync listen -u tcp://127.0.0.1:7007 examples/certified_server.py"
    terminal.start(server, "rpcasync: listening on tcp://127.0.0.1:7007")
    said = terminal.run("python3 -m rpcasync call tcp://127.0.0.1:7007 who_am_i")
    assert same(said).endswith(": gone")
    terminal.server.wait_for_log("authorize() returned False")


# TLS at HAProxy


@contextmanager
def in_front(terminal, more=""):
    """Run HAProxy as the page has it; its port is the 7070 of the page."""
    (text,) = blocks(PAGE, "haproxy")
    text = re.sub(r"\b(server|ca)\.pem", lambda file: str(terminal.folder / file[0]), text)
    text = terminal.placed(text).replace("crc32c\n", f"crc32c {more}\n")
    with socket.create_server(("127.0.0.1", 0)) as front:
        path = terminal.folder / "haproxy.cfg"
        path.write_text(text.replace("bind :7070", f"bind fd@{front.fileno()}"))
        terminal.places["127.0.0.1:7070"] = f"127.0.0.1:{front.getsockname()[1]}"
        with running(["haproxy", "-db", "-f", path], front):
            yield


HAPROXY = "TLS that ends at HAProxy"
UNTRUSTED = "is not trusted to say"


@pytest.fixture
def proxied(stack, files):
    """The program behind HAProxy."""
    terminal = Terminal(stack, files)
    _, server, shown = next(parts(HAPROXY))
    terminal.start(server, shown)
    stack.enter_context(in_front(terminal))
    return terminal


@needs_openssl
@needs_haproxy
def test_the_page_about_haproxy(proxied):
    """All but what runs already, and what another server logs, which trusts somebody else."""
    _, (_, typed, _), *steps, (_, line, _) = parts(HAPROXY)
    assert typed.startswith("haproxy ")
    assert UNTRUSTED in line
    proxied.follow(steps)


def test_the_configuration_is_that_of_the_other_page():
    """It is the example with the two lines about TLS in the place of its own."""
    bind, server = re.findall("    .*\n", blocks(PAGE.parent / "behind-a-proxy.md", "haproxy")[1])
    text = (ROOT / "examples" / "haproxy.cfg").read_text()
    text = re.sub(r"(?m)^ +bind .*\n", lambda _: bind.replace("clients.pem", "ca.pem"), text)
    text = re.sub(r"(?m)^ +server .*\n", lambda _: server, text)
    assert blocks(PAGE, "haproxy") == [text]


@needs_openssl
@needs_haproxy
def test_checks_of_haproxy_are_refused_and_well(stack, files):
    terminal = Terminal(stack, files)
    _, server, shown = next(parts(HAPROXY))
    terminal.start(server, shown)
    with in_front(terminal, "check inter 50ms"):
        server = terminal.server
        for count in range(1, 4):
            server.wait_for_lines(count)
        assert all("refused: authorize() returned False" in line for line in server.log)
        call = "call --ca ca.pem --cert client.pem tls://127.0.0.1:7070 who_am_i"
        answer = terminal.run(f"python3 -m rpcasync {call}")
        assert answer == "name=client.example\nhost=127.0.0.1"


def forged(name, problem):
    """Return a PROXY header of a client with a certificate, and the number of what is wrong."""
    ssl = bytes([0x07]) + struct.pack("!L", problem) + tlv(0x22, name)
    body = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 1, 2) + tlv(0x20, ssl)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(body)) + body


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def packet(call):
    """Return a call in JSON as it is sent."""
    return struct.pack("!L", 4 + len(call)) + call


def answer_to(address, data):
    with socket.create_connection(address, timeout=LIMIT) as sock:
        try:
            sock.sendall(data)
            return sock.recv(1000)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("trusted", "name", "problem", "is_let_in"),
    [
        ("127.0.0.1", b"client.example", 0, True),  # as the page says: who is trusted can do that
        ("127.0.0.1", b"client.example", 20, False),  # the proxy does not know its authority
        ("127.0.0.1", b"other.example", 0, False),
        ("192.0.2.1", b"client.example", 0, False),
    ],
)
def test_a_header_that_was_made_up(stack, tmp_path, trusted, name, problem, is_let_in):
    terminal = Terminal(stack, tmp_path)
    _, server, shown = next(parts(HAPROXY))
    terminal.start(server.replace("127.0.0.1", trusted).replace(trusted, "127.0.0.1", 1), shown)
    port = int(terminal.places["//127.0.0.1:7007"].rpartition(":")[2])
    answer = answer_to(("127.0.0.1", port), forged(name, problem) + packet(b'[1, "who_am_i"]'))
    assert (b'"client.example"' in answer) is is_let_in
    if trusted == "192.0.2.1":
        *_, (_, line, _) = parts(HAPROXY)
        assert UNTRUSTED in line
        assert terminal.has_logged(line), terminal.server.log
    elif not is_let_in:
        terminal.server.wait_for_log("client 1.2.3.4:1 (by proxy 127.0.0.1:")


# A token


@pytest.fixture
def guarded(stack, tmp_path):
    """The server with a token, at a UNIX socket."""
    terminal = Terminal(stack, tmp_path)
    _, make, _ = next(parts("A token"))
    terminal.run(make)
    url = f"unix://{tmp_path}/socket"
    server = f"python3 -m rpcasync listen -u {url} --mode 600 examples/token_server.py token"
    terminal.start(server, f"rpcasync: listening on {url}")
    terminal.url = url
    terminal.token = (tmp_path / "token").read_text().strip()
    return terminal


@needs_openssl
def test_the_page_about_tokens(stack, files, tmp_path):
    terminal = Terminal(stack, tmp_path)
    for name in ("server.pem", "ca.pem"):
        shutil.copy(files / name, tmp_path)
    terminal.follow(parts("A token"))
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_is_of_one_connection(guarded):
    with rpcasync.connect(guarded.url) as known, rpcasync.connect(guarded.url) as other:
        known.login(token=guarded.token)
        assert known.add_numbers(n1=2, n2=3)["sum"] == 5
        with pytest.raises(rpcasync.RemoteError, match=r"^call login\(token=\.\.\.\) first$"):
            other.add_numbers(n1=2, n2=3)
    with (
        rpcasync.connect(guarded.url) as again,
        pytest.raises(rpcasync.RemoteError, match=r"^call login\(token=\.\.\.\) first$"),
    ):
        again.add_numbers(n1=2, n2=3)
    assert len(guarded.server.log) == 1


WRONG = ["", "guess", "\N{SNOWMAN}", 0, b"guess"]


@pytest.mark.parametrize("token", WRONG)
def test_a_wrong_token(guarded, token):
    with rpcasync.connect(guarded.url) as rpc:
        with pytest.raises(rpcasync.RemoteError, match="^that is not the token$"):
            rpc.login(token=token)
        with pytest.raises(rpcasync.RemoteError, match=r"^call login\(token=\.\.\.\) first$"):
            rpc.add_numbers(n1=2, n2=3)
        # Each connection has one guess, be the next one right.
        with pytest.raises(rpcasync.RemoteError, match="^a token was shown before; connect again"):
            rpc.login(token=guarded.token)
        with pytest.raises(rpcasync.RemoteError, match=r"^call login\(token=\.\.\.\) first$"):
            rpc.add_numbers(n1=2, n2=3)
    line = guarded.server.wait_for_log("wrong token from Credentials(pid=")
    assert f"uid={os.getuid()}" in line
    assert guarded.token not in "".join(guarded.server.log)


def test_a_part_of_the_token_is_not_the_token(guarded):
    for token in (guarded.token[:-1], guarded.token + "x", guarded.token.swapcase()):
        with (
            rpcasync.connect(guarded.url) as rpc,
            pytest.raises(rpcasync.RemoteError, match="^that is not the token$"),
        ):
            rpc.login(token=token)


def test_half_of_a_character_is_a_wrong_token(guarded):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(guarded.url.removeprefix("unix://"))
        sock.sendall(packet(rb'[1, "login", "token", "\ud800"]'))
        assert b"that is not the token" in sock.recv(1000)


def test_what_is_told_without_a_token(guarded):
    with rpcasync.connect(guarded.url) as rpc:
        assert set(rpc.methods()["methods"]) == {"login", "add_numbers"}
        with pytest.raises(rpcasync.RemoteError, match="^add_numbers: n2 is missing$"):
            rpc.add_numbers(n1=2)


def test_a_fallback_is_not_behind_the_token(stack, guarded):
    url = guarded.url + "-with-fallback"
    behind = "--fallback python://examples/conformance_server.py"
    server = f"python3 -m rpcasync listen -u {url} {behind} examples/token_server.py token"
    guarded.start(server, f"rpcasync: listening on {url}")
    with rpcasync.connect(url) as rpc:
        assert rpc.get_id()["uid"] == os.getuid()
        with pytest.raises(rpcasync.RemoteError, match=r"^call login\(token=\.\.\.\) first$"):
            rpc.add_numbers(n1=2, n2=3)


def test_a_token_that_is_too_short(tmp_path):
    (tmp_path / "token").write_text("x" * 31 + "\n")
    example = ROOT / "examples" / "token_server.py"
    result = run_program(sys.executable, str(example), str(tmp_path / "token"), "-u", "unix:///x")
    text = f"{tmp_path}/token has a token of 31 bytes, must be 32 or more\n"
    assert (result.returncode, result.stderr) == (1, text)
