"""examples/resp_server.py, driven by the clients that come with Redis."""

import re
import shutil
import socket
import subprocess
import sys

import pytest
from support.programs import LIMIT, ROOT, Program, pushed_into, scarce

needs_cli = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here")
needs_benchmark = pytest.mark.skipif(
    shutil.which("redis-benchmark") is None, reason="no redis-benchmark here"
)


@pytest.fixture
def port():
    """Start the server; give its port."""
    program = Program([sys.executable, ROOT / "examples" / "resp_server.py", "tcp://127.0.0.1:0"])
    yield re.search(r", (\d+)\)", program.stdout.readline())[1]
    program.stop()
    assert program.log == []


def run(*argv, **options):
    done = subprocess.run(argv, capture_output=True, timeout=LIMIT, check=False, **options)
    return done.stdout.decode() + done.stderr.decode()


@needs_cli
def test_commands(port):
    def ask(*words, **options):
        return run("redis-cli", "--no-raw", "-p", port, *words, **options).strip()

    assert ask("PING") == "PONG"
    assert ask("ECHO", "a\r\nb") == r'"a\r\nb"'
    assert ask("GET", "a") == "(nil)"
    assert ask("SET", "a", "5") == "OK"
    assert ask("incr", "a") == "(integer) 6"
    assert ask("GET", "a") == '"6"'
    assert ask("EXISTS", "a", "b", "a") == "(integer) 2"
    assert ask("DEL", "a", "b") == "(integer) 1"
    assert ask("-x", "SET", "long", input=b"x" * 500_000) == "OK"
    assert len(ask("GET", "long")) == 500_002
    assert ask("SET", "a") == "(error) ERR wrong number of arguments for 'set' command"
    assert ask("INCR", "long").startswith("(error) ERR value is not an integer")
    assert ask("FLY\r\n+OK") == "(error) ERR unknown command 'FLY??+OK'"


@needs_cli
def test_many_commands_by_pipe(port):
    commands = b"".join(
        b"*3\r\n$3\r\nSET\r\n$%d\r\n%d\r\n$1\r\nx\r\n" % (len(str(n)), n) for n in range(5000)
    )
    shown = run("redis-cli", "-p", port, "--pipe", input=commands)
    assert "errors: 0, replies: 5000" in shown


@needs_benchmark
def test_a_load(port):
    shown = run("redis-benchmark", "-p", port, *["-t", "set,get", "-n", "2000", "-P", "16", "-q"])
    for name in ("SET", "GET"):
        assert re.search(rf"{name}: [0-9.]+ requests per second", shown), shown


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"PING\r\n", b"+PONG\r\n"),  # as somebody types it
        (b"SET a b\r\nGET a\r\n", b"+OK\r\n$1\r\nb\r\n"),
        (b"*1\r\n:5\r\n\r\nPING\r\n", b"-ERR Protocol error: a command is a list"),
        (b"*1\r\n$-1\r\nPING\r\n", b"-ERR Protocol error: a command is a list"),
        (b"*1\r\n$-7\r\nPING\r\n", b"-ERR Protocol error: a command is a list"),  # back to itself
        (b"*-1\r\n*0\r\n\r\nPING\r\n", b"+PONG\r\n"),
        (b"PING\r\n$x\r\n", b"+PONG\r\n-ERR Protocol error\r\n"),
        (b"PING\r\n*9999999\r\n", b"+PONG\r\n-ERR Protocol error\r\n"),
    ],
)
def test_what_no_client_of_redis_sends(port, sent, answer):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        shown = b"".join(iter(lambda: sock.recv(65536), b""))
    assert shown.startswith(answer)


def test_who_does_not_read_answers_is_not_read_from(port):
    """Else they would take memory, up to 64 MiB for each client."""
    command = b"*2\r\n$4\r\nECHO\r\n$100000\r\n%s\r\n" % bytes(100_000)
    most = 700 * len(command)
    with socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT) as sock:
        taken = pushed_into(sock, command, most)
        assert taken < most
        count = taken // len(command)
        answers = 0
        while answers < count * len(b"$100000\r\n\r\n" + bytes(100_000)):
            answers += len(sock.recv(1_000_000))


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted by Linux")
def test_a_lack_of_descriptors_ends_nothing():
    command = [*scarce(ROOT / "examples" / "resp_server.py", 40), "tcp://127.0.0.1:0"]
    program = Program(command)
    clients = []
    try:
        port = int(re.search(r", (\d+)\)", program.stdout.readline())[1])
        for _ in range(60):
            clients.append(socket.create_connection(("127.0.0.1", port), timeout=LIMIT))
        for client in clients[:30]:
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
            client.close()
        clients[-1].sendall(b"PING\r\n")
        assert clients[-1].recv(100) == b"+PONG\r\n"
    finally:
        program.stop()
        for client in clients:
            client.close()
    assert program.log == []
