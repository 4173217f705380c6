"""The documents tell the truth: their programs are the files, and their commands print that.

In README.md and docs/: a block of Python is an example file, word for word, or a doctest; a block
of console is run command by command, and what it prints is compared. Ports are replaced by one
that is free. The line that sets up and tests is left to .ci/run, which runs it.
"""

import doctest
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from support.programs import LIMIT, PERL, ROOT, Program, listening, run

import eventmux.buffers
import rpcasync.storable

EXAMPLES = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "examples").glob("*.py")}
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_print_what_is_shown(path):
    port = free_port()
    with ExitStack() as stack:
        for block in blocks(path, "console"):
            for command, shown in commands(block.replace("7007", port)):
                if command.startswith("python3 -m venv"):
                    continue
                if command.startswith("rpcasync listen"):
                    server = Program(argv(command), cwd=ROOT)
                    stack.callback(server.stop)
                    assert server.wait_for_log("listening on") == shown
                else:
                    assert output(command) == shown, command


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return str(sock.getsockname()[1])


def commands(block):
    """Give each command of a console block with the output shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.strip("\n")


def argv(command):
    words = shlex.split(command)
    if words[0] == "rpcasync":
        return [sys.executable, "-m", *words]
    return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]


def output(command):
    result = run(*argv(command))
    return (result.stdout + result.stderr).strip("\n")


def test_every_example_is_named_in_a_document_or_explains_itself():
    texts = "".join(path.read_text() for path in DOCUMENTS)
    for name, text in EXAMPLES.items():
        assert str(name) in texts or text.startswith('"""')


def test_the_echo_server():
    server = Program([sys.executable, ROOT / "examples" / "echo_server.py", "tcp://127.0.0.1:0"])
    try:
        port = int(re.search(r", (\d+)\)", server.process.stdout.readline())[1])
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            assert server.process.stdout.readline().startswith("hello ('127.0.0.1', ")
        assert server.process.stdout.readline() == "goodbye, reason: None\n"
    finally:
        server.stop()


def test_the_client_by_hand():
    with listening(ROOT / "examples" / "add_server.py") as (address, _):
        host, _, port = address.removeprefix("tcp://").partition(":")
        result = run(sys.executable, "examples/json_client.py", host, port)
    assert (result.stdout, result.stderr) == ("[1, 'sum', 5]\n", "")


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


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_the_perl_programs_compile():
    for path in PERL.glob("*.p[lm]"):
        subprocess.run(
            ["perl", f"-I{PERL}", "-c", str(path)], check=True, capture_output=True, timeout=LIMIT
        )


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "reference.md").read_text()
    for module in (eventmux, eventmux.buffers, rpcasync, rpcasync.storable):
        for name in module.__all__:
            assert re.search(rf"`{name}\b", text), name
    for kind in (eventmux.EventMux, rpcasync.Server, rpcasync.Client, rpcasync.Call):
        for name in vars(kind):
            assert name.startswith("_") or re.search(rf"`{name}\b", text), name
