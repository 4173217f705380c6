"""`help NAME` of the shell, and which name was meant by one that there is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import LIMIT, PROGRAMS, ROOT, listening, run
from support.terminals import PROMPT, Terminal

CHILD = f"python://{PROGRAMS / 'calc_server.py'}"
SHELL = [sys.executable, "-m", "rpcasync", "shell"]


@pytest.fixture(autouse=True)
def _no_history(monkeypatch):
    monkeypatch.setenv("RPCASYNC_HISTORY", "")


def shell(lines, url=CHILD, *options):
    """Run a shell with lines on its stdin; return its exit status, and the lines it prints."""
    result = subprocess.run(
        [*SHELL, *options, url],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return result.returncode, result.stdout.splitlines(), result.stderr.splitlines()


def other(tmp_path, methods):
    """Make a server whose `methods` does something else; return its URL."""
    program = tmp_path / "other.py"
    source = (PROGRAMS / "calc_server.py").read_text()
    old = "def rpc_whoami(caller):"
    assert old in source
    program.write_text(source.replace(old, f"{methods}\n\n\n{old}"))
    return f"python://{program}"


def test_lines_about_procedures():
    lines = ["help add_numbers", "methods sum", "add_nubmers n1=1", "qit", "help su", "help quit"]
    status, printed, problems = shell(lines)
    assert status == 1
    assert printed[0].startswith("procedure key=value")  # comes first: nobody is asked
    assert printed[-2:] == ["add_numbers(n1: int, n2: int)", "sum(*numbers: float)"]
    assert sorted(problems) == [
        "rpcasync: line 3: No sub 'add_nubmers' in package 'main'; did you mean 'add_numbers'?",
        "rpcasync: line 4: No sub 'qit' in package 'main'; did you mean 'quit'?",
        "rpcasync: line 5: there is no procedure 'su'; did you mean 'sum'?",
    ]


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("rpc.return_(caller, methods={'nos': {}})", "; did you mean 'nos'?"),
        ("raise Fault('no')", ""),
    ],
)
def test_a_server_is_asked_once_what_it_has(tmp_path, answer, meant):
    url = other(tmp_path, f"def rpc_methods(caller, **_):\n    print('asked')\n    {answer}")
    problem = f"No sub 'no' in package 'main'{meant}"
    problems = [f"rpcasync: line {number}: {problem}" for number in range(1, 10)]
    assert shell(["no"] * 9, url) == (1, ["asked"], problems)


@pytest.mark.slow
def test_a_server_that_does_not_say_what_it_has(tmp_path):
    url = other(tmp_path, "def rpc_methods(caller, **_):\n    raise Fault('no')")
    status, _, problems = shell(["add_nubmers", "help sum"], url)
    assert status == 1
    assert sorted(problems) == [
        "rpcasync: line 1: No sub 'add_nubmers' in package 'main'",
        "rpcasync: line 2: no",
    ]


@pytest.mark.slow
def test_a_server_that_does_not_answer_what_it_has(tmp_path):
    url = other(tmp_path, "def rpc_methods(caller, **_):\n    parked.append(caller)")
    with listening(Path(url.removeprefix("python://"))) as (address, _):
        _, _, problems = shell(["add_nubmers"], address, "--timeout", "1")
        assert problems == ["rpcasync: line 1: No sub 'add_nubmers' in package 'main'"]
        result = run(*SHELL[:-1], "call", address, "add_nubmers", "--timeout", "1")
        text = "rpcasync: No sub 'add_nubmers' in package 'main'\n"
        assert (result.returncode, result.stdout, result.stderr) == (1, "", text)


def test_a_call():
    result = run(*SHELL[:-1], "call", CHILD, "add_nubmers", "n1=1")
    text = "rpcasync: No sub 'add_nubmers' in package 'main'; did you mean 'add_numbers'?\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", text)


@pytest.mark.slow
def test_a_call_of_a_server_with_few_procedures():
    result = run(*SHELL[:-1], "call", "python://examples/add_server.py", "nothing")
    text = "rpcasync: No sub 'nothing' in package 'main'; it has add_numbers\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", text)


def test_at_a_terminal():
    with Terminal(*SHELL[1:], CHILD) as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("help add_numbers") == "add_numbers(n1: int, n2: int)\n"
        problem = "rpcasync: there is no procedure 'add_nubmers'; did you mean 'add_numbers'?\n"
        assert terminal.enter("help add_nubmers") == problem
        problem = "rpcasync: No sub 'qit' in package 'main'; did you mean 'quit'?\n"
        assert terminal.enter("qit") == problem
        terminal.type("help add_n\t")
        terminal.expect("add_numbers ")
        assert terminal.enter("") == "add_numbers(n1: int, n2: int)\n"
