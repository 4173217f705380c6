"""TAB in the shells themselves: a line is typed, completed, and run."""

import shutil
import sys

import pytest
from support.programs import ROOT, listening
from support.quick import quick_first
from support.terminals import Terminal

SHELLS = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
LOAD = {
    "bash": 'eval "$(rpcasync completion bash)"',
    "zsh": "source <(rpcasync completion zsh)",
    "fish": "rpcasync completion fish | source",
}


@pytest.fixture(scope="module")
def address():
    with listening() as (address, _):
        yield address


def sit_at(shell, tmp_path, monkeypatch):
    """Start a shell that has the command, and the script for TAB."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = tmp_path / "bin" / "rpcasync"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rpcasync "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.delenv("BASH_ENV", raising=False)
    term = "dumb" if shell == "bash" else "xterm"
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    look = {"TERM": term, "NO_COLOR": "1", "PS1": "> "}
    terminal = Terminal(*SHELLS[shell], program=shell, cwd=tmp_path, **home, **look)
    terminal.type(f"{LOAD[shell]}; echo lo''aded\n")
    terminal.expect("loaded")
    return terminal


@pytest.mark.parametrize("shell", quick_first(SHELLS))
def test_tab_completes_a_call(shell, tmp_path, monkeypatch, address):
    with sit_at(shell, tmp_path, monkeypatch) as terminal:
        terminal.type(f"rpcasync call {address} add_n\tn1=2 n2\t40\n")
        terminal.expect("sum=42")


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_commands_options_and_urls(shell, tmp_path, monkeypatch, address):
    rest = address.removeprefix("tcp://")
    with sit_at(shell, tmp_path, monkeypatch) as terminal:
        terminal.type(f"rpcasync ca\t--cod\tj\ttc\t{rest} add_n\tn1=2 n2\t40\n")
        terminal.expect("sum=42")


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_the_path_of_a_program(shell, tmp_path, monkeypatch):
    folder = tmp_path / "two words"
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "add_server.py", folder / "it's $(exit).py")
    with sit_at(shell, tmp_path, monkeypatch) as terminal:
        terminal.type("rpcasync call pythonroot\t://two\tit\tadd\tn1\t2 n2\t40 --js\t\n")
        terminal.expect('{"sum": 42}')


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_starts_nothing(shell, tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(
        "open('started', 'w')\ndef rpc_add(caller, first, second): ...\n"
    )
    with sit_at(shell, tmp_path, monkeypatch) as terminal:
        terminal.type("rpcasync call python://server.py \tf\t1 \t\t\x15")  # and erase the line
        terminal.type("rpcasync methods python://se\tad\t--he\t\n")
        terminal.expect("usage: rpcasync methods")
    assert not (tmp_path / "started").exists()
