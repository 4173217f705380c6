"""`rpcasync skeleton`, `stub` and `describe` of Perl servers: what they print runs, and is true."""

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from support.programs import LIMIT, PERL, ROOT, Program, listening
from support.quick import quick_first
from support.telling import NASTY

import rpcasync
import rpcasync.aio
from rpcasync.cli import main
from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.skeleton import skeleton
from rpcasync.describing.stub import stub

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

SERVER = PERL / "definitions_server.pl"
COMMAND = (sys.executable, "-m", "rpcasync")


@pytest.fixture(scope="module")
def address():
    """The URL of the Perl server."""
    server = Program(["perl", SERVER, "tcp://"])
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stop()


def ran(*words):
    """Run the command in this process; return its exit status, and what it prints."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="ascii"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
        out.flush()
    return status, out.buffer.getvalue().decode(), err.getvalue()


def printed(*words):
    status, text, err = ran(*words)
    assert (err, status) == ("", 0)
    return text


def told(url):
    """Return what the server says of its procedures."""
    with rpcasync.connect(url, codec=rpcasync.StorableCodec(typed=False)) as rpc:
        return rpc.methods(defs=1)["methods"]


def test_the_skeleton_of_a_perl_server_tells_what_that_does(address, tmp_path):
    program = tmp_path / "server.py"
    program.write_text(printed("skeleton", address))
    before = told(address)
    with listening(program) as (ours, _):
        after = told(ours)
        with rpcasync.connect(ours) as rpc:
            for refused in (
                lambda: rpc.add_numbers(n1="2", n2=3),
                lambda: rpc.call("foo-bar"),
                lambda: rpc.call("class", **{"foo-bar": 1, "class": "x"}),
                lambda: rpc.people(least=1, name="a", only=0, never=1),
                lambda: rpc.numbers(1, "2"),
                lambda: rpc.notify(callback=print, text="x"),
                lambda: rpc.untold(1, "x"),
            ):
                with pytest.raises(rpcasync.RemoteError, match="^not ported$"):
                    refused()
            with pytest.raises(rpcasync.RemoteError, match="cannot convert str 'x' to int"):
                rpc.add_numbers(n1="x", n2=1)
    assert before["untold"] == {}
    assert after.pop("untold") == {"in": {"values": ["any"]}, "out": {}}
    del before["untold"]
    mistakes = {"utf8stringstring": "utf8string", "booleanean": "boolean"}  # of Perl's
    text = json.dumps(before)
    for wrong, right in mistakes.items():
        assert wrong in text
        text = text.replace(wrong, right)
    assert after == json.loads(text)


@pytest.fixture(scope="module")
def module(address, tmp_path_factory):
    """The typed clients of the Perl server."""
    path = tmp_path_factory.mktemp("stub") / "perl_client.py"
    path.write_text(printed("stub", address))
    spec = importlib.util.spec_from_file_location("perl_client", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["perl_client"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["perl_client"]


PYTHON = """
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_gr\xf6\xdfe(caller, l\xe4nge: float):
    \"\"\"Wie gro\xdf?\"\"\"

mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""
PERSON = {"height": 1.75, "tags": ["x", "5"]}
PEOPLE = {
    "more": False,
    "people": [{"name": "\u263a", **PERSON}, {"name": "J\xe9", **PERSON}],
}


def test_typed_calls_of_a_perl_server(address, module):
    heard = []
    with rpcasync.connect(address) as rpc:
        client = module.Client(rpc)
        assert client.add_numbers(n1=2, n2=3) == {"sum": 5}  # Perl sends "5"
        assert rpc.add_numbers(n1=2, n2=3)["sum"] == "5"
        assert client.get_id() == {"uid": 7, "euid": 8}
        assert client.people(least=1, name="\u263a", only=True, never=False) == PEOPLE
        assert client.numbers(1, 2) == [1, 2]
        assert client.class_(**{"foo-bar": 5}) == {"foo-bar": 5}
        assert client.foo_bar() == {"dash": True}
        assert client.untold(1, a="b") == (1, "a", "b")
        assert client.notify(callback=lambda text, /: heard.append(text), text="hello") == ()
    assert heard == ["hello"]


def test_typed_calls_in_asyncio(address, module):
    async def calls():
        async with rpcasync.aio.connect(address) as rpc:
            client = module.AsyncClient(rpc)
            return await asyncio.gather(client.get_id(), client.numbers(1, 2))

    assert asyncio.run(calls()) == [{"uid": 7, "euid": 8}, [1, 2]]


@pytest.mark.parametrize("command", quick_first(["stub", "skeleton", "describe"]))
def test_what_is_printed_is_the_same_each_time(monkeypatch, command):
    """Perl has hashes in another order each time."""
    texts = set()
    for seed in "12":
        monkeypatch.setenv("PERL_HASH_SEED", seed)
        texts.add(printed(command, f"perl://{SERVER}"))
    assert len(texts) == 1


def test_a_program_is_in_utf8_wherever_it_is_printed(tmp_path):
    source = tmp_path / "server.py"
    source.write_text(PYTHON)
    result = subprocess.run(
        [*COMMAND, "stub", f"python://{source}"],
        capture_output=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"},
        check=True,
    )
    assert "def gr\xf6\xdfe(self, *, l\xe4nge: float) -> rpcasync.Reply:" in result.stdout.decode()
    compile(result.stdout, "client.py", "exec")


def test_of_some_procedures(address):
    assert "def rpc_get_id(" in printed("skeleton", address, "get_id")
    assert "add_numbers" not in printed("skeleton", address, "get_id")
    assert list(json.loads(printed("describe", address, "--json", "get_id"))["procedures"]) == [
        "get_id"
    ]


def test_a_perl_servers_answers_are_what_is_described(address):
    jsonschema = pytest.importorskip("jsonschema", reason="the extra dev has it")
    document = json.loads(printed("describe", address))
    people = document["procedures"]["people"]
    given = {"least": 1, "name": "\xe9", "only": True, "never": False}
    jsonschema.Draft202012Validator(people["in"]).validate(given)
    found = jsonschema.Draft202012Validator(people["out"])
    found.validate({"more": False, "people": [{"name": "J\xe9", **PERSON}]})
    assert not found.is_valid(PEOPLE)  # Latin-1 has no smile
    assert document == json.loads(printed("describe", "--json", address))


RIGHT = """\
import rpcasync
import rpcasync.aio

from client import AsyncClient, Client

with rpcasync.connect("tcp://127.0.0.1:7007") as rpc:
    client = Client(rpc)
    total: int = client.add_numbers(n1=2, n2=3)["sum"]
    for person in client.people(least=1, name="x", only=True, never=False)["people"]:
        height: float = person["height"]
    numbers: list[int] = client.numbers(1, 2)
    client.notify(callback=print, text="x")


async def main() -> int:
    async with rpcasync.aio.connect("tcp://127.0.0.1:7007") as rpc:
        return (await AsyncClient(rpc).get_id())["uid"]
"""
WRONG = [
    'client.add_numbers(n1="x", n2=3)',
    "client.add_numbers(n1=2)",
    "client.add_numbers(2, 3)",
    "client.add_number(n1=2, n2=3)",
    'client.add_numbers(n1=2, n2=3)["total"]',
    'client.add_numbers(n1=2, n2=3)["sum"].upper()',
]


def nasty_server():
    """Return procedures with all names that programs could stumble over, in each place."""
    names = [name for name in NASTY if name]  # pyright has no field without a name
    everything = dict.fromkeys(names, "int")
    about = {
        "in": {"x": ["int", "str"], "f": ["sub"], "list": ["str"], "object": "any"},
        "defaults": {"x": "5", "f": "...", "list": "[]"},
        "positional": ["x"],
    }
    found = {name: {**about, "out": [{name: "int", "b": {"c": "str"}}]} for name in names}
    return {**found, "all": {"in": everything, "out": everything}}


@pytest.mark.slow
def test_type_checkers_and_linters_of_what_is_printed(address, tmp_path):
    for tool in ("mypy", "pyright", "ruff"):
        pytest.importorskip(tool, reason=f"{tool} is not installed: the extra dev has it")
    (tmp_path / "server.py").write_text(printed("skeleton", address))
    (tmp_path / "client.py").write_text(printed("stub", address))
    (tmp_path / "undef.py").write_text(printed("stub", "--undef", address))
    nasty = read_procedures(nasty_server())
    (tmp_path / "nasty_server.py").write_text(skeleton(nasty))
    (tmp_path / "nasty_client.py").write_text(stub(nasty, has_undef=True))
    (tmp_path / "right.py").write_text(RIGHT)
    lines = "".join(f"{line}\n" for line in WRONG)
    head = "import rpcasync\nfrom client import Client\n\nclient = Client(rpcasync.connect(''))\n"
    (tmp_path / "wrong.py").write_text(head + lines)
    config = {"extraPaths": [str(ROOT)], "pythonVersion": "3.10"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    good = ["server.py", "client.py", "undef.py", "right.py"]
    all_good = [*good, "nasty_server.py", "nasty_client.py"]
    assert check(tmp_path, "ruff", "check", "--isolated", *all_good) == (0, [])
    assert check(tmp_path, "ruff", "format", "--isolated", "--check", *good) == (0, [])
    sorting = ("--select", "I,E,F,W,UP", "--target-version", "py310")
    assert check(tmp_path, "ruff", "check", "--isolated", *sorting, *good) == (0, [])
    options = ("--strict", "--python-version", "3.10", "--config-file=")
    for command in (["mypy", *options], ["pyright"]):
        assert check(tmp_path, *command, *all_good) == (0, [])
        status, wrong = check(tmp_path, *command, "wrong.py")
        assert status == 1
        assert set(wrong) == set(range(5, 5 + len(WRONG)))


def check(folder, tool, *words):
    """Run a tool; return its exit status, and the lines of wrong.py that it names."""
    result = subprocess.run(
        [sys.executable, "-m", tool, *words],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    named = re.findall(r"wrong\.py:(\d+):.*error", result.stdout)
    assert named or result.returncode == 0, result.stdout + result.stderr
    return result.returncode, [int(line) for line in named]


# Servers that do not tell


def failed(*words):
    status, text, err = ran(*words)
    assert (text, status) == ("", 1)
    return err


def test_a_server_without_methods():
    server = Program(["perl", PERL / "rpc_server.pl", "tcp://"])
    try:
        url = server.stdout.readline().strip()
        for command in ("skeleton", "stub", "describe"):
            assert failed(command, url) == (
                "rpcasync: the server does not tell of its procedures: "
                "No sub 'methods' in package 'main'\n"
            )
    finally:
        server.stop()


ODD = """
use RPC::Async::Server;
use IO::EventMux;
my $mux = IO::EventMux->new;
my $rpc = RPC::Async::Server->new($mux);
init_clients($rpc);
while ($rpc->has_clients) { $rpc->io($mux->mux) }
sub rpc_methods { $rpc->return($_[0], ANSWER) }
1;
"""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "methods: the server answered something else than its procedures"),
        ("methods => [1]", "methods: the server answered something else than its procedures"),
        ("methods => {}", "the server has no procedures"),
        (
            "methods => do { my $x = 1; $x = [$x, $x] for 1..18; {f => {in => $x}} }",
            "the server tells more than 100000 names and types",
        ),
    ],
)
def test_a_server_that_answers_something_else(tmp_path, monkeypatch, answer, told):
    program = tmp_path / "odd.pl"
    program.write_text(ODD.replace("ANSWER", answer))
    monkeypatch.setenv("PERL5LIB", str(PERL / "standin"))
    assert failed("stub", f"perl://{program}") == f"rpcasync: {told}\n"


def test_nobody_is_there_and_no_such_procedure(address):
    assert failed("skeleton", address, "get_ids").endswith(
        "the server has no procedure 'get_ids'; did you mean 'get_id'?\n"
    )
    assert "unix:///nobody: " in failed("stub", "unix:///nobody")
