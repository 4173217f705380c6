"""What TAB is offered, without a shell and without a server of ours."""

import json
import shlex
import socket
import struct
import threading
from contextlib import contextmanager, suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rpcasync.cli import completion, main, tab
from rpcasync.cli.commands import overview

BREAKS = " \t\n\"'@><=;|&(:"  # what bash has in COMP_WORDBREAKS


@pytest.fixture
def offered(capfd):
    def offered(*words):
        """Return what is offered for the last word, without what is said of it."""
        assert main(["_complete", "fish", *words]) == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        return [line.partition("\t")[0] for line in captured.out.splitlines()]

    return offered


COMMANDS = [
    *("call", "completion", "describe", "health", "listen", "methods", "record", "replay"),
    *("shadow-report", "shell", "skeleton", "stats", "stub", "top"),
]


@pytest.fixture
def in_bash(capfd):
    def in_bash(line):
        """Return what takes the place of the last word in bash."""
        assert main(["_complete", "bash", line, BREAKS]) == 0
        return capfd.readouterr().out.split("\n")[:-1]

    return in_bash


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*COMMANDS]),
        (["sk"], ["skeleton"]),
        (["stub", "--sy"], ["--sync"]),
        (["describe", "--j"], ["--json"]),
        (["health", "u"], ["unix://"]),
        (["stats", "unix://x", "--p"], ["--prometheus"]),
        (["top", ""], ["tcp://", "unix://"]),
        (["top", "unix://x", "--in"], ["--insecure", "--interval"]),
        (["skeleton", "tcp://l"], ["tcp://localhost:"]),
        (["c"], ["call", "completion"]),
        (["--v"], ["--version"]),
        (["cal", ""], []),
        (["nonsense", "--"], []),
        (["help", "me"], ["methods"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["call", ""], ["perl://", "python://", "tcp://", "unix://"]),
        (["call", "--js"], ["--json"]),
        (["call", "--json", "--js"], []),
        (["call", "--codec", ""], ["json", "storable"]),
        (["call", "--codec=j"], ["--codec=json"]),
        (["call", "--codec", "json", "tc"], ["tcp://"]),
        (["call", "--codec=json", "tc"], ["tcp://"]),
        (["call", "--json", "tc"], ["tcp://"]),
        (["call", "--timeout", "tc"], []),
        (["call", "--", "--js"], []),
        (["call", "--log-level", "w"], ["warning"]),
        (["call", "tcp://l"], ["tcp://localhost:"]),
        (["call", "udp://"], []),
        (["call", "python://no/such/folder/"], []),
        (["call", "nonsense", ""], []),
        (["call", "udp://127.0.0.1:1", ""], []),
        (["methods", "u"], ["unix://"]),
        (["listen", "-u", ""], ["tcp://", "unix://"]),
        (["listen", "--shadow", ""], ["perl://", "python://", "tcp://", "unix://"]),
        (["listen", "--fallback", "p"], ["perl://", "python://"]),
        (["listen", "--answer", ""], ["new", "old"]),
        (["listen", "--shadow-except", "set_a", "--shadow-e"], ["--shadow-except"]),
        (["shadow-report", "no/such/folder/"], []),
        (["listen", "-u", "unix://x", "-"], ["--codec", "--help", "--log-level"]),
        (["listen", "-u", "tcp://127.0.0.1:1", "-u"], ["-u"]),
        (["record", "-u", "u"], ["unix://"]),
        (["record", "-u", "unix://x", "--to", "p"], ["perl://", "python://"]),
        (["record", "--redact", "x", "--redact"], ["--redact", "--redact-procedure"]),
        (["replay", "calls", "t"], ["tcp://"]),
        (["shell", "tcp://127.0.0.1:1", "no/such/folder/"], []),
    ],
)
def test_words(offered, words, expected):
    found = offered(*words)
    assert set(expected) <= set(found)
    if words[-1] != "-":
        assert found == expected


def test_what_is_said_of_a_command(capfd):
    main(["_complete", "zsh", "cal"])
    assert capfd.readouterr().out == "call\tcall a procedure and print the answer\n"


@pytest.mark.parametrize("words", [[], ["fish"], ["tcsh", ""], ["bash", "rpcasync "]])
def test_what_no_script_asks(capfd, words):
    assert main(["_complete", *words]) == 2
    assert capfd.readouterr() == ("", "")


WORDS = st.text() | st.sampled_from([*tab.SCRIPTS, "-u", "--codec", "x.py", "python://x"])


@given(
    st.sampled_from(["", *COMMANDS, "help", "x"]),
    st.lists(WORDS, max_size=4),
    st.sampled_from(["", "unix://", "python://", "perl2://", "tcp://", "-", "--codec="]),
    st.text(),
)
def test_any_words(command, words, start, text):
    before = [command, *words]
    assume(not any(word.startswith(("tcp:", "unix:")) for word in before))  # nobody is asked
    for each in completion.candidates(overview(), before, start + text):
        assert each.text.startswith(start + text)
        assert each.text.isprintable()
        assert each.about.isprintable()


# Files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("server.py", "server.pl", "Server.pm", "two words.py", "$(x).py", "a\x1bb.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub" / "other.py").write_text("")
    (tmp_path / "dead.py").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "x.sock"))
        yield tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["call", "python://s"], ["python://server.py", "python://sub/"]),
        (["call", "python2root://sub/"], ["python2root://sub/other.py"]),
        (["call", "perl://"], ["perl://Server.pm", "perl://server.pl", "perl://sub/"]),
        (["call", "unix://"], ["unix://sub/", "unix://x.sock"]),
        (["call", "python://.h"], ["python://.hidden/"]),
        (["listen", "s"], ["server.py", "sub/"]),
        (["listen", "server.py", "se"], ["server.pl", "server.py"]),
        (["listen", "-u", "python://"], []),
        (["record", "s"], ["server.pl", "server.py", "sub/"]),
        (["replay", "s"], ["server.pl", "server.py", "sub/"]),
        (["record", "--to", "unix://x"], ["unix://x.sock"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_files(offered, words, expected):
    assert offered(*words) == expected


def test_an_absolute_path(offered, folder):
    assert offered("call", f"python://{folder}/se") == [f"python://{folder}/server.py"]


@pytest.mark.usefixtures("folder")
def test_files_in_bash(in_bash):
    assert in_bash("rpcasync call python://tw") == [r"//two\ words.py "]
    assert in_bash(r"rpcasync call python://two\ w") == [r"//two\ words.py "]
    assert in_bash("rpcasync call 'python://tw") == ["python://two words.py"]
    assert in_bash("rpcasync call python://\\$") == [r"//\$\(x\).py "]
    assert in_bash('rpcasync call "python://\\$') == []  # nothing could be inserted as it is
    assert in_bash("rpcasync call 'python://$") == ["python://$(x).py"]
    assert in_bash("rpcasync call python://su") == ["//sub/"]


# Programs: read, and never run

SOURCE = """
os._exit(7)

def rpc_add(caller, n1: int, n2=2, *, n3=3): ...
def rpc_join(caller, *words): ...
def rpc_move(caller, x, y, /, how): ...
def other(caller, x): ...

class Procedures:
    def rpc_of_object(self, caller, name): ...
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "server.py"
    path.write_text(SOURCE)
    return f"python://{path}"


def test_the_procedures_of_a_program(offered, program):
    assert offered("call", program, "") == ["add", "join", "move", "of_object"]
    assert offered("call", program, "add", "") == ["n1=", "n2=", "n3="]
    assert offered("call", program, "add", "n2=5", "n") == ["n1=", "n3="]
    assert offered("call", program, "join", "") == []
    assert offered("call", program, "move", "") == ["how="]
    assert offered("call", program, "of_object", "") == ["name="]
    assert offered("methods", program, "add", "jo") == ["join"]


@pytest.mark.parametrize("source", [b"def rpc_", b"\0", b"\xff" * 100, b"(" * 10000, b"-" * 100000])
def test_a_program_that_cannot_be_read(offered, tmp_path, source):
    path = tmp_path / "server.py"
    path.write_bytes(source)
    assert offered("call", f"python://{path}", "") == []
    assert offered("call", f"python://{tmp_path}/none.py", "") == []


def test_the_procedures_of_a_perl_program(offered, tmp_path):
    path = tmp_path / "server.pl"
    path.write_text("sub rpc_add {\n}\n  sub  rpc_sum { 1 }\nsub other {}\n# sub rpc_no {}\n")
    assert offered("call", f"perl://{path}", "") == ["add", "sum"]


# Servers, which may be anybody


@contextmanager
def answering(*answers):
    """Serve one client with these answers, as they are; give the words that lead to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            sock, _ = listener.accept()
            with sock, suppress(ConnectionError):
                for answer in answers:
                    sock.recv(65536)
                    payload = json.dumps(answer).encode()
                    sock.sendall(struct.pack("!I", len(payload) + 4) + payload)
                sock.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ["call", "--codec", "json", f"tcp://127.0.0.1:{listener.getsockname()[1]}"]
        finally:
            thread.join()


HOSTILE = [
    *("$(touch x)", "`x`", "a;b", "a b", "a\nb", "a\tb", "\x1b[31m", "a\u202eb", "-rf", "~", "=x"),
    *("a'b", 'a"b', "a\\b", "a|b", "a>b", "a&b", "a*", "a{b,c}", "!x", "#x", "", "\ud800"),
]


def test_names_that_a_shell_could_obey_are_not_offered(offered, in_bash):
    takes = dict.fromkeys([*HOSTILE, "good"], "any")
    methods = {name: {"in": takes, "doc": "\x1b[31m\t\n"} for name in [*HOSTILE, "add"]}
    with answering([0, "methods", methods]) as words:
        assert offered(*words, "") == ["add"]
    with answering([0, "methods", methods]) as words:
        assert offered(*words, "add", "") == ["good="]
    with answering([0, "methods", methods]) as words:
        assert in_bash(f"rpcasync {shlex.join(words)} ") == ["add "]


def test_what_is_said_of_a_procedure_stays_on_its_line(capfd):
    about = {"in": {"1\x1b": "any", "2b": "any"}, "doc": "c\x1b[31m\nd\te" + "x" * 100}
    with answering([0, "methods", {"add": about}]) as words:
        main(["_complete", "zsh", *words, ""])
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("add\t , b: c [31m d exxx")
    assert line.endswith("x...")
    assert len(line) == len("add\t") + 80


def test_a_server_without_definitions(offered):
    with answering([0, "error", "x", "errors", "x"], [1, "methods", {"add": {}}]) as words:
        assert offered(*words, "") == ["add"]


@pytest.mark.parametrize("answer", [[0], [0, "methods", 5], [0, "x"], "x", [], [0, "methods", []]])
def test_a_server_that_answers_something_else(capfd, answer):
    with answering(answer) as words:
        main(["_complete", "fish", *words, ""])
    assert capfd.readouterr().out == ""


def test_a_server_with_too_many_procedures(capfd):
    names = {f"p{number}": {} for number in range(5000)}
    with answering([0, "methods", names]) as words:
        main(["_complete", "fish", *words, ""])
    assert len(capfd.readouterr().out.splitlines()) == 500


def test_a_server_with_too_long_an_answer(capfd):
    with answering([0, "methods", {"add": {"doc": "x" * 2**20}}]) as words:
        main(["_complete", "fish", *words, ""])
    assert capfd.readouterr().out == ""


def test_a_server_that_does_not_answer(capfd, monkeypatch):
    monkeypatch.setattr(completion, "_LIMIT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        main(["_complete", "fish", "call", f"tcp://127.0.0.1:{listener.getsockname()[1]}", ""])
    assert capfd.readouterr().out == ""


def test_nobody_is_there(offered):
    assert offered("call", "unix:///no/such/socket", "") == []
    assert offered("call", "tcp://127.0.0.1", "") == []


# Lines of bash


@pytest.mark.parametrize(
    ("line", "words", "text", "quote", "kept"),
    [
        ("rpcasync", [], "rpcasync", "", 0),
        ("rpcasync ", [], "", "", 0),
        ("X=1 Y='2 3' rpcasync call tcp://a", ["call"], "tcp://a", "", 4),
        ("rpcasync call tcp://a:7 add n1=", ["call", "tcp://a:7", "add"], "n1=", "", 3),
        (r"rpcasync a\ b c\:d", ["a b"], "c:d", "", 0),
        ("rpcasync 'a:b'c:d", [], "a:bc:d", "", 5),
        ("rpcasync 'tcp:", [], "tcp:", "'", 0),
        (r'rpcasync "a\"b', [], 'a"b', '"', 0),
        ("rpcasync a\\", [], "a", "", 0),
        ("rpcasync '' ", [""], "", "", 0),
    ],
)
def test_a_line_of_bash(line, words, text, quote, kept):
    typed = tab.split_line(line, BREAKS)
    assert (typed.words, typed.text, typed.quote) == (words, text, quote)
    assert typed.kept == kept


@given(st.lists(st.text(min_size=1)))
def test_words_as_sh_quotes_them(words):
    line = f"rpcasync {shlex.join(words)} "
    assert tab.split_line(line, BREAKS).words == words


@given(st.text(), st.text())
def test_any_line(line, breaks):
    typed = tab.split_line(line, breaks)
    assert 0 <= typed.kept <= len(typed.text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rpcasync ca", ["call "]),
        ("./rpcasync ca", ["call "]),
        ("rpcasync call tc", ["tcp://"]),
        ("rpcasync call tcp:", ["//"]),
        ("rpcasync call tcp://l", ["//localhost:"]),
        ("rpcasync call 'tcp://l", ["tcp://localhost:"]),
        ("rpcasync call tcp\\://l", ["tcp://localhost:"]),  # means the same
        ("rpcasync call --codec=j", ["json "]),
        ("rpcasync 'ca", ["call"]),
    ],
)
def test_what_bash_is_given(in_bash, line, expected):
    assert in_bash(line) == expected


# The scripts


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script(capfd, shell):
    assert main(["completion", shell]) == 0
    printed = capfd.readouterr().out
    assert printed == tab.SCRIPTS[shell]
    assert f"rpcasync _complete {shell} " in printed
    assert printed.isascii()
