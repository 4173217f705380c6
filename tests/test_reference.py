"""docs/reference.md is what the docstrings say, and the docstrings say what there is.

Programs in docstrings are run: those with prompts in reference.md, by test_examples.py, as in all
documents; the others here.
"""

import importlib
import importlib.util
import inspect
import re
import socket
import sys
import textwrap

import pytest
from support.programs import LIMIT, ROOT, Program, run

import eventmux.buffers
import rpcasync.storable


def load_generator():
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def test_the_reference_is_what_the_docstrings_say():
    made = generate.reference()
    assert generate.PAGE.read_text() == made, "run: python docs/generate.py"


def test_the_reference_has_every_public_name():
    shown = dict(generate.MODULES)
    for module in (eventmux, eventmux.buffers, rpcasync, rpcasync.storable):
        assert shown[module.__name__] is None
    text = generate.PAGE.read_text()
    for name in (name for name, names in shown.items() if names is None):
        for public in importlib.import_module(name).__all__:
            assert re.search(rf"^#+ {public}$|^ *- `{public}`", text, re.MULTILINE), public


def callables():
    """Yield each public function and class with the text that has to name its parameters."""
    for module in (eventmux, eventmux.buffers, rpcasync, rpcasync.storable):
        for name in module.__all__:
            value = getattr(module, name)
            is_given = name in generate.GIVEN or not inspect.isclass(value)
            is_made = not is_given and "__init__" in vars(value)
            is_called = is_made and value is not eventmux.buffers.Buffer
            if inspect.isfunction(value) or (is_called and not issubclass(value, Exception)):
                yield value, inspect.getdoc(value)
    yield eventmux.EventMux.add, inspect.getdoc(eventmux.EventMux.add)


def test_every_argument_is_explained():
    for value, text in callables():
        names = {each.name for each in generate.parameters_of(value)} - {"self", "fh"}
        for name in names:
            is_told = re.search(rf"^    {name}: |`{name}[`=]", text, re.MULTILINE)
            assert is_told or len(names) == 1, f"{value.__qualname__}: {name}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("One line.", "One line."),
        ("Two\nlines.", "Two lines."),
        ("- one\n  more\n- two", "- one more\n- two"),
        ("This file knows nothing.", ""),
        ("2 * 3 and `2 * 3`", "2 \\* 3 and `2 * 3`"),
        (
            "Args:\n    a: one\n        more\n    b: two",
            "Arguments:\n\n- `a`: one more\n- `b`: two",
        ),
        ("Raises:\n    io.E: why\n\nAfter.", "Raises:\n\n- `io.E`: why\n\nAfter."),
        ("Returns:\n    It,\n    always.", "Returns: It, always."),
        (
            "As in:\n\n    x = 1\n\n    y = 2\n\nEnd.",
            "As in:\n\n```py\nx = 1\n\ny = 2\n```\n\nEnd.",
        ),
        ("    >>> 1\n    1", "```pycon\n>>> 1\n1\n\n```"),
        ("    a  b and c", "```text\na  b and c\n```"),
    ],
)
def test_a_docstring_becomes_markdown(text, shown):
    assert "\n\n".join(generate._markdown(text)) == shown


def test_an_argument_without_a_name_is_refused():
    with pytest.raises(ValueError, match="begin with a name"):
        list(generate._markdown("Raises:\n    if it fails"))


def test_a_signature_is_as_it_is_written():
    def function(a: "int", /, b: "str" = "x", *, c: "bytes | None" = None, d: "object" = ...): ...

    shown = 'function(a: int, /, b: str = "x", *, c: bytes | None = None, d: object = ...)'
    assert generate._signature(function, "function").startswith(shown)


def test_a_long_signature_has_a_line_for_each_parameter():
    assert generate._call("f", ["a" * 60, "b" * 60], " -> int") == (
        f"f(\n    {'a' * 60},\n    {'b' * 60},\n) -> int"
    )


# The programs in docstrings

IMPORTS = "from eventmux import EventMux\nfrom rpcasync import Client, Coderef, Server\n"


def program_of(kind):
    """Return the program in the docstring of a class."""
    found = re.findall(r"\n\n((?:    .*\n|\n)+)", inspect.getdoc(kind) + "\n")
    return IMPORTS + textwrap.dedent(found[0]).strip("\n") + "\n"


def test_no_other_program_stands_in_the_reference():
    blocks = re.findall(r"^```py\n(.*?)^```$", generate.PAGE.read_text(), re.MULTILINE | re.DOTALL)
    kinds = (
        eventmux.EventMux,
        rpcasync.BlockingClient,
        rpcasync.Client,
        rpcasync.Coderef,
        rpcasync.Server,
    )
    assert {IMPORTS + block for block in blocks} == {program_of(kind) for kind in kinds}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "socket"


def adapted(text, path):
    """Return a program that uses a socket of ours, and says when it listens."""
    text = text.replace("tcp://127.0.0.1:7007", f"unix://{path}")
    return re.sub(r"(.*\.listen\(.*\)\n)", r"\1print('listening', flush=True)\n", text)


@pytest.fixture
def beside(path):
    """Run the program in the docstring of a class, which listens, until the test has ended."""
    programs = []

    def start(kind):
        programs.append(Program([sys.executable, "-c", adapted(program_of(kind), path)]))
        assert programs[0].process.stdout.readline() == "listening\n", programs[0].log

    yield start
    for program in programs:
        program.stop()


def test_the_program_of_the_mux_echoes(beside, path):
    beside(eventmux.EventMux)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(str(path))
        sock.sendall(b"hello")
        assert sock.recv(5, socket.MSG_WAITALL) == b"hello"


def test_the_programs_of_client_and_server_talk(beside, path):
    beside(rpcasync.Server)
    result = run(sys.executable, "-c", adapted(program_of(rpcasync.Client), path))
    assert (result.stdout, result.stderr) == ("5\n", "")


def test_the_program_of_the_blocking_client_calls(beside, path):
    beside(rpcasync.Server)
    result = run(sys.executable, "-c", adapted(program_of(rpcasync.BlockingClient), path))
    assert (result.stdout, result.stderr) == ("5\n", "")


def test_the_procedure_of_a_coderef_calls_it():
    program = {}
    exec(program_of(rpcasync.Coderef), program)
    ours, theirs = socket.socketpair()
    seen = []
    with eventmux.EventMux() as mux:
        server = program["rpc"] = rpcasync.Server(mux, program)
        server.add_client(theirs)
        client = rpcasync.Client(mux, ours)
        client.count(lambda: seen.append("done"), upto=3, progress=lambda n, /: seen.append(n))
        while client.has_requests():
            server.io(client.io(mux.mux(LIMIT)))
    assert seen == [0, 1, 2, "done"]
