"""TLS on the command line, with real certificates: who is let in, and what is said if not.

Perl has no TLS of its own in these programs. It goes through a tunnel, which socat is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest
from support import certificates
from support.programs import LIMIT, PERL, PROGRAMS, Program, perl_listening, run

CALC = PROGRAMS / "calc_server.py"
TLS = "tls://127.0.0.1:0"
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
socat = pytest.mark.skipif(shutil.which("socat") is None, reason="no socat command")


def rpcasync(*arguments, **options):
    return run(sys.executable, "-m", "rpcasync", *arguments, **options)


@contextlib.contextmanager
def listening(*options, url=TLS, kind="server", program=CALC):
    """Run a server with a certificate; give the URL that it listens on, and the program."""
    given = ["--cert", certificates.pem_file(kind)] if kind else []
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", url, *given, *options, program]
    server = Program(command)
    try:
        line = server.wait_for_log("listening on")
        yield line.rpartition(" ")[2], server
    finally:
        server.stop()


def ca():
    return ("--ca", certificates.ca_file())


def add(url, *options, **named):
    result = rpcasync("call", *options, url, "add_numbers", "n1=2", "n2=3", **named)
    return result.returncode, result.stdout, result.stderr


# What works


def test_call_with_the_authority():
    with listening() as (url, _):
        assert url.startswith("tls://127.0.0.1:")
        assert add(url, *ca()) == (0, "sum=5\n", "")


def test_no_client_of_ours_leaves_without_a_word():
    """As the server would say, at the level of INFO."""
    with listening("--log-level", "info") as (url, server):
        assert add(url, *ca())[0] == 0
        assert rpcasync("methods", *ca(), url).returncode == 0
        script = (
            "import asyncio, ssl, sys, rpcasync, rpcasync.aio\n"
            "options = {'tls': ssl.create_default_context(cafile=sys.argv[2])}\n"
            "with rpcasync.connect(sys.argv[1], **options) as calc:\n"
            "    calc.add_numbers(n1=1, n2=2)\n"
            "async def main():\n"
            "    async with rpcasync.aio.connect(sys.argv[1], **options) as calc:\n"
            "        await calc.add_numbers(n1=1, n2=2)\n"
            "asyncio.run(main())\n"
        )
        result = run(sys.executable, "-c", script, url, certificates.ca_file())
        assert (result.returncode, result.stderr) == (0, "")
        server.process.send_signal(signal.SIGINT)
        server.process.wait(LIMIT)
        assert not [line for line in server.log if "close_notify" in line]


def test_the_authorities_of_the_system():
    with listening() as (url, _):
        env = {"SSL_CERT_FILE": certificates.ca_file()}
        assert add(url, env=env) == (0, "sum=5\n", "")


def test_a_key_in_a_file_of_its_own(tmp_path):
    key, cert = split(tmp_path)
    with listening("--cert", cert, "--key", key, kind=None) as (url, _):
        assert add(url, *ca()) == (0, "sum=5\n", "")


def split(folder):
    """Return the paths of two files: the key of a server, and its certificate."""
    with open(certificates.pem_file("server")) as file:
        head, mark, rest = file.read().partition("-----BEGIN CERTIFICATE-----")
    (folder / "key.pem").write_text(head)
    (folder / "cert.pem").write_text(mark + rest)
    return str(folder / "key.pem"), str(folder / "cert.pem")


def test_a_name_that_is_not_the_host():
    with listening(kind="elsewhere") as (url, _):
        status, _, said = add(url, *ca())
        assert status == 1
        assert "IP address mismatch" in said
        assert add(url, *ca(), "--server-name", "elsewhere.example") == (0, "sum=5\n", "")


def test_who_is_trusted_blindly_is_told_each_time():
    with listening(kind="foreign") as (url, _):
        for _ in range(2):
            status, answer, said = add(url, "--insecure")
            assert (status, answer) == (0, "sum=5\n")
            assert said == (
                "rpcasync: --insecure: it may be anybody who answers,"
                " and whoever is on the way can read all\n"
            )


@pytest.mark.parametrize("command", ["methods", "skeleton", "stub", "describe"])
def test_other_commands(command):
    with listening() as (url, _):
        result = rpcasync(command, *ca(), url)
        assert (result.returncode, result.stderr) == (0, "")
        assert "add_numbers" in result.stdout


def test_the_shell():
    with listening() as (url, _):
        result = subprocess.run(
            [sys.executable, "-m", "rpcasync", "shell", *ca(), url],
            input="add_numbers n1=2 n2=3\n",
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (result.returncode, result.stdout) == (0, "sum=5\n"), result.stderr


@pytest.mark.parametrize("are_both", [False, True])
def test_record_and_replay(tmp_path, are_both):
    file = tmp_path / "calls.jsonl"
    with listening() as (url, _):
        ours = ["--cert", certificates.pem_file("server")] if are_both else []
        where = TLS if are_both else "tcp://127.0.0.1:0"
        command = ["record", "-u", where, *ours, "--to", url, *ca(), file]
        recorder = Program([sys.executable, "-m", "rpcasync", *command])
        try:
            address = recorder.wait_for_log("listening on").rpartition(" ")[2]
            recorder.wait_for_log("calls go to")
            assert add(address, *(ca() if are_both else ())) == (0, "sum=5\n", "")
            recorder.process.send_signal(signal.SIGINT)
            assert recorder.process.wait(LIMIT) == 0
        finally:
            recorder.stop()
        result = rpcasync("replay", "--compare", *ca(), file, url)
        assert (result.returncode, result.stderr) == (0, "")
        assert "1 answered" in result.stdout
        assert rpcasync("replay", file, url).returncode == 1  # it trusts nobody there


def test_plain_and_encrypted_beside_each_other(tmp_path):
    with listening("-u", f"unix://{tmp_path}/socket") as (url, server):
        plain = server.wait_for_log("listening on unix").rpartition(" ")[2]
        assert add(plain) == (0, "sum=5\n", "")
        assert add(url, *ca()) == (0, "sum=5\n", "")


# Certificates of clients


def test_a_client_that_shows_a_certificate():
    with listening("--client-ca", certificates.ca_file()) as (url, server):
        own = ("--cert", certificates.pem_file("client"))
        assert add(url, *ca(), *own) == (0, "sum=5\n", "")
        status, answer, said = add(url, *ca())
        assert (status, answer) == (1, "")
        assert "the peer requires a certificate, and none was shown" in said
        assert said.count("\n") == 1
        status, _, said = add(url, *ca(), "--cert", certificates.pem_file("foreign"))
        assert status == 1
        assert "the peer does not trust our certificate" in said
        assert "client refused: TLS handshake with " in server.wait_for_log("refused")


# What is wrong with the other end: status 1, and one line


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("foreign", "the certificate of the peer is not accepted: unable to get local issuer"),
        ("expired", "the certificate of the peer is not accepted: certificate has expired"),
        ("elsewhere", "the certificate of the peer is not accepted: IP address mismatch"),
    ],
)
def test_certificates_that_are_no_good(kind, text):
    with listening(kind=kind) as (url, _):
        status, answer, said = add(url, *ca())
        assert (status, answer) == (1, "")
        assert text in said
        assert url in said
        assert said.count("\n") == 1


def test_a_server_that_speaks_no_tls():
    with listening(url="tcp://127.0.0.1:0", kind=None) as (url, server):
        status, _, said = add(url.replace("tcp", "tls"), *ca(), "--timeout", "5")
        assert status == 1
        assert said.count("\n") == 1
        assert server.wait_for_log("disconnected: ")


# What is wrong with what was typed: status 2


@pytest.fixture
def files(tmp_path):
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "text.pem").write_text("nothing\n")
    key, cert = split(tmp_path)
    with open(certificates.pem_file("second")) as file:
        (tmp_path / "other.pem").write_text(file.read().partition("-----BEGIN CERT")[0])
    (tmp_path / "mixed.pem").write_text(
        (tmp_path / "other.pem").read_text() + (tmp_path / "cert.pem").read_text()
    )
    return {"folder": tmp_path, "key": key, "cert": cert}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ca", "{folder}/none.pem"], "{folder}/none.pem: No such file or directory"),
        (["--ca", "{folder}"], "{folder}: Is a directory"),
        (["--ca", "{folder}/empty.pem"], "{folder}/empty.pem has no certificates in PEM form"),
        (["--cert", "{folder}/none.pem"], "{folder}/none.pem: No such file or directory"),
        (["--cert", "{folder}/text.pem"], "{folder}/text.pem has no certificate in PEM form"),
        (
            ["--cert", "{cert}"],
            "{cert} has no private key in PEM form; --key FILE says where",
        ),
        (
            ["--cert", "{cert}", "--key", "{folder}/other.pem"],
            "{folder}/other.pem is not the key of the certificate in {cert}",
        ),
        (
            ["--cert", "{folder}/mixed.pem"],
            "the key in {folder}/mixed.pem is not that of its certificate",
        ),
        (["--cert", "{cert}", "--key", "{folder}/text.pem"], "text.pem has no private key in PEM"),
    ],
)
def test_files_that_are_wrong(files, words, text):
    words = [word.format(**files) for word in words]
    status, answer, said = add("tls://127.0.0.1:1", *words)
    assert (status, answer) == (2, "")
    assert text.format(**files) in said
    assert said.count("\n") == 1


def test_a_key_alone(files):
    """`call` knows it as `--value`, and nothing else does."""
    result = rpcasync("methods", "--key", files["key"], "tls://127.0.0.1:1")
    assert result.returncode == 2
    assert result.stderr == "rpcasync: --key goes with --cert FILE, and there is none\n"


def test_a_value_beside_the_key_of_a_certificate(files):
    with listening() as (url, _):
        own = ("--cert", files["cert"], "--key", files["key"])
        assert add(url, *ca(), *own, "--value", "sum") == (0, "5\n", "")
        assert add(url, *ca(), "--key", "sum") == (0, "5\n", "")


@openssl
def test_keys_that_are_encrypted(files):
    locked = str(files["folder"] / "locked.pem")
    command = ["openssl", "pkey", "-in", files["key"], "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", locked], check=True, timeout=LIMIT)
    for words in (
        ["call", "--cert", files["cert"], "--key", locked, "tls://127.0.0.1:1", "x"],
        ["listen", "-u", TLS, "--cert", files["cert"], "--key", locked, str(CALC)],
    ):
        result = rpcasync(*words)
        assert result.returncode == 2
        assert f"{locked} is encrypted: `openssl pkey -in {locked} -out FILE`" in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ca", "x.pem", "tcp://127.0.0.1:1"], "--ca is for tls://host:port, but the URL is tcp"),
        (["--insecure", "unix:///x"], "--insecure is for tls://host:port, but the URL is unix"),
        (["--cert", "x.pem", f"python://{CALC}"], "--cert is for tls://host:port"),
        (["--server-name", "x", "tcp://127.0.0.1:1"], "--server-name is for tls://"),
    ],
)
def test_options_for_other_urls(words, text):
    result = rpcasync("call", *words, "add_numbers")
    assert (result.returncode, result.stdout) == (2, "")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-u", TLS], f"{TLS} needs --cert FILE, and --key FILE unless the key is in it"),
        (["-u", TLS, "--key", "x"], f"{TLS} needs --cert FILE"),
        (["-u", "tcp://127.0.0.1:0", "--cert", "x"], "--cert is for tls://host:port"),
        (["-u", "tcp://127.0.0.1:0", "--client-ca", "x"], "--client-ca goes with --cert FILE"),
        (["-u", TLS, "--cert", "none.pem"], "none.pem: No such file or directory"),
        (["-u", "tcp://127.0.0.1:0", "--allow-uid", "0"], "--allow-uid is for unix://path"),
        (["-u", "unix:///x", "--allow-uid", "no-such-user"], "there is no user 'no-such-user'"),
        (["-u", "unix:///x", "--max-clients", "0"], "'0' is not a number of clients: 1 or more"),
        (["-u", "unix:///x", "--idle-timeout", "0"], "'0' is not a number of seconds above 0"),
        (["-u", "unix:///x", "--packet-timeout", "inf"], "'inf' is not a number of seconds above"),
        (["-u", "unix:///x", "--max-age", "-1"], "'-1' is not a number of seconds above 0"),
        (["-u", "unix:///x", "--proxy", "accept"], "invalid choice: 'accept'"),
        (["-u", "unix:///x", "--proxy", "require"], "--proxy needs --trusted"),
        (["-u", "unix:///x", "--trusted", "unix:"], "--trusted goes with --proxy require"),
        (["-u", "unix:///x", "--trusted", "10.0.0.1/8"], "'10.0.0.1/8' must be a network such as"),
        (["-u", "unix:///x", "--trusted", "uid:me"], "'uid:me' must be a network such as"),
        (
            ["-u", "unix:///x", "--proxy", "require", "--trusted", "::1"],
            "at unix:// nobody could connect: --trusted unix: for all",
        ),
        (
            ["-u", "tcp://127.0.0.1:0", "--proxy", "require", "--trusted", "uid:3"],
            "at tcp:// nobody could connect: --trusted a network such as",
        ),
        (["-u", "unix:///x", "--agent", "udp://127.0.0.1:1"], "--agent cannot listen on udp://"),
        (["-u", "unix:///x", "--agent", TLS], f"--agent {TLS}: HAProxy asks in plain text"),
    ],
)
def test_listening_that_cannot_be(words, text):
    result = rpcasync("listen", *words, CALC)
    assert result.returncode == 2
    assert text in result.stderr


# Limits and users, which `listen` hands over as well


def test_limits_reach_the_server(tmp_path):
    program = tmp_path / "limits.py"
    program.write_text(
        "from eventmux import EventMux\n"
        "from rpcasync import Server, init_clients\n"
        "rpc = Server(EventMux(), {})\n"
        "init_clients(rpc)\n"
        "print(rpc._arrivals.entrance.max_clients, rpc._peers.idling.limit,\n"
        "      rpc._peers.patience.limit, rpc._peers.budget.limit, rpc._peers.aging.limit)\n"
        "rpc.close_listeners()\n"
    )
    limits = ["--max-clients", "7", "--idle-timeout", "90", "--packet-timeout", "1.5"]
    more = ["--max-buffered", "1000000", "--max-age", "600"]
    result = rpcasync("listen", "-u", "tcp://127.0.0.1:0", *limits, *more, program)
    assert result.stdout == "7 90.0 1.5 1000000 600.0\n"


@pytest.mark.parametrize("is_allowed", [True, False])
def test_users_by_number_or_name(tmp_path, is_allowed):
    user = str(os.getuid()) if is_allowed else str(os.getuid() + 1)
    words = ["--allow-uid", user, "--allow-uid", "nobody"]
    with listening(*words, url=f"unix://{tmp_path}/socket", kind=None) as (url, server):
        status, answer, said = add(url)
        if is_allowed:
            assert (status, answer, said) == (0, "sum=5\n", "")
        else:
            assert (status, answer) == (1, "")
            line = server.wait_for_log("refused")
            assert f"user {os.getuid()} is not among those that are allowed" in line


def test_a_program_started_by_hand(tmp_path):
    """It has no certificate unless it brings one itself."""
    result = run(sys.executable, CALC, "-u", TLS)
    assert result.returncode == 2
    assert "start it with `rpcasync listen --cert FILE`" in result.stderr
    program = tmp_path / "server.py"
    program.write_text(
        "import ssl\n"
        "from eventmux import EventMux\n"
        "from rpcasync import Server, init_clients\n"
        "context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)\n"
        f"context.load_cert_chain({certificates.pem_file('server')!r})\n"
        "def rpc_add_numbers(caller, n1: int, n2: int):\n"
        "    rpc.return_(caller, sum=n1 + n2)\n"
        "rpc = Server(mux := EventMux())\n"
        "init_clients(rpc, tls=context)\n"
        "print(*(sock.getsockname()[1] for sock in rpc._arrivals.listeners), flush=True)\n"
        "while rpc.has_clients():\n"
        "    rpc.io(mux.mux())\n"
    )
    server = Program([sys.executable, program, "-u", TLS])
    try:
        port = server.stdout.readline().strip()
        assert add(f"tls://127.0.0.1:{port}", *ca()) == (0, "sum=5\n", "")
    finally:
        server.stop()


# Others who speak it


@openssl
def test_openssl_reaches_the_server():
    """What it shows of the server, and that TLS 1.1 is not spoken."""
    with listening() as (url, _):
        place = url.removeprefix("tls://")
        command = ["openssl", "s_client", "-connect", place, "-CAfile", certificates.ca_file()]
        shown = subprocess.run(
            command, input="", capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert "Verify return code: 0 (ok)" in shown.stdout
        old = subprocess.run(
            [*command, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"],
            input="",
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert "protocol version" in old.stderr + old.stdout


@contextlib.contextmanager
def tunnel(*ends):
    """Run socat between two ends, for any number of connections, until the end of the block."""
    program = Program(["socat", "-d", "-d", *ends])
    try:
        yield program.wait_for_log("listening on")
    finally:
        program.stop()


@socat
def test_a_perl_client_through_a_tunnel(tmp_path):
    with listening() as (url, _):
        there = f"OPENSSL:{url.removeprefix('tls://')},cafile={certificates.ca_file()}"
        path = tmp_path / "plain"
        with tunnel(f"UNIX-LISTEN:{path},fork", there):
            result = run("perl", PERL / "rpc_client.pl", f"unix://{path}")
    assert result.stdout.endswith("done\n"), result.stdout + result.stderr
    assert "not ok" not in result.stdout


@socat
def test_a_perl_server_behind_a_tunnel(tmp_path):
    path = tmp_path / "plain"
    with perl_listening(f"unix://{path}"):
        pem = certificates.pem_file("server")
        here = f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,cert={pem},verify=0"
        with tunnel(here, f"UNIX-CONNECT:{path}") as line:
            url = f"tls://127.0.0.1:{line.rpartition(':')[2]}"
            assert add(url, *ca()) == (0, "sum=5\n", "")
