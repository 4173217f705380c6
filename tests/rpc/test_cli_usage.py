"""Commands that are none: what is said about them, word by word. No server is asked."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.cli import main
from rpcasync.cli.lines import parse_line, parse_words

URL = "tcp://127.0.0.1:7007"
KNOWN = "expected tcp://, tls://, unix://, python://, perl:// or cfd://"
CALL = "for more: rpcasync call --help"
TOP = "for more: rpcasync --help"


def said(capfd, *words):
    """Run the command line; return its exit status and the lines on stderr."""
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    captured = capfd.readouterr()
    assert captured.out == ""
    return status, captured.err.splitlines()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["call"],
            [
                "rpcasync call: a URL and a procedure are required, for example:",
                f"  rpcasync call {URL} add_numbers n1=2 n2=3",
                "  rpcasync methods URL   lists the procedures of a server",
                CALL,
            ],
        ),
        (
            ["call", URL],
            [
                "rpcasync call: a procedure is required, for example:",
                f"  rpcasync call {URL} add_numbers n1=2 n2=3",
                f"  rpcasync methods {URL}   lists the procedures of a server",
                CALL,
            ],
        ),
        (
            ["call", "--json", URL],
            [
                "rpcasync call: a procedure is required, for example:",
                f"  rpcasync call {URL} add_numbers n1=2 n2=3",
                f"  rpcasync methods {URL}   lists the procedures of a server",
                CALL,
            ],
        ),
        (
            ["methods"],
            [
                "rpcasync methods: a URL is required, for example:",
                f"  rpcasync methods {URL}",
                "for more: rpcasync methods --help",
            ],
        ),
        (
            ["skeleton"],
            [
                "rpcasync skeleton: a URL is required, for example:",
                "  rpcasync skeleton perl://./old.pl > server.py",
                "for more: rpcasync skeleton --help",
            ],
        ),
        (
            ["describe", "--json"],
            [
                "rpcasync describe: a URL is required, for example:",
                f"  rpcasync describe {URL}",
                "for more: rpcasync describe --help",
            ],
        ),
        (
            ["shell", "--timeout", "1"],
            [
                "rpcasync shell: a URL is required, for example:",
                f"  rpcasync shell {URL}",
                "for more: rpcasync shell --help",
            ],
        ),
        (
            ["completion"],
            [
                "rpcasync completion: the name of a shell is required, for example:",
                "  rpcasync completion bash",
                "for more: rpcasync completion --help",
            ],
        ),
        (
            ["listen"],
            [
                "rpcasync listen: -u URL and a program are required, for example:",
                f"  rpcasync listen -u {URL} server.py",
                "for more: rpcasync listen --help",
            ],
        ),
        (
            ["listen", "-u", URL],
            [
                "rpcasync listen: a program is required, for example:",
                f"  rpcasync listen -u {URL} server.py",
                "for more: rpcasync listen --help",
            ],
        ),
        (
            ["listen", "my server.py", "1"],
            [
                "rpcasync listen: -u URL is required, for example:",
                f"  rpcasync listen -u {URL} 'my server.py' 1",
                "  or have systemd start it, with the sockets of a .socket unit",
                "for more: rpcasync listen --help",
            ],
        ),
        *(
            (
                ["listen", "server.py", "1", *option, "2"],
                [
                    (
                        "rpcasync listen: options go in front of the program, what stands behind"
                        " it is the program's own:"
                    ),
                    f"  rpcasync listen {' '.join(option)} server.py 1 2",
                    "for more: rpcasync listen --help",
                ],
            )
            for option in (["-u", URL], [f"-u{URL}"])
        ),
    ],
)
def test_what_is_required(capfd, words, lines):
    assert said(capfd, *words) == (2, lines)


@pytest.mark.parametrize(
    ("words", "line", "more"),
    [
        (["cal", URL], "rpcasync: there is no command 'cal'; did you mean 'call'?", TOP),
        (["nonsense"], "rpcasync: there is no command 'nonsense'", TOP),
        (["--verson"], "rpcasync: there is no option --verson; did you mean '--version'?", TOP),
        (
            ["--timeout", "3", "call", URL, "add"],
            "rpcasync: --timeout goes behind the command: rpcasync call --timeout ...",
            TOP,
        ),
        (
            ["call", "--timout", "3", URL, "add"],
            "rpcasync call: there is no option --timout; did you mean '--timeout'?",
            CALL,
        ),
        (
            ["call", URL, "add", "n1=2", "--jsn", "n2=3"],
            "rpcasync call: there is no option --jsn; did you mean '--json'?",
            CALL,
        ),
        (
            ["call", URL, "add", "--timout=3"],
            "rpcasync call: there is no option --timout; did you mean '--timeout'?",
            CALL,
        ),
        (
            ["call", URL, "add", "-x"],
            "rpcasync call: there is no option -x; a value that begins with - stands behind --",
            CALL,
        ),
        (
            ["call", URL, "add", "--x", "2"],
            "rpcasync call: there is no option --x; a value with a name is written x=VALUE",
            CALL,
        ),
        (
            ["listen", "--address", "x", "-u", URL, "server.py"],
            "rpcasync listen: there is no option --address",
            "for more: rpcasync listen --help",
        ),
        (
            ["listen", "--outstandign", "3", "-u", URL, "server.py"],
            "rpcasync listen: there is no option --outstandign; did you mean '--outstanding'?",
            "for more: rpcasync listen --help",
        ),
        (
            ["call", URL, "add", "--log-level", "foo"],
            (
                "rpcasync call: argument --log-level: 'foo' is none of debug, info, warning, error"
                " and critical"
            ),
            CALL,
        ),
        (
            ["call", URL, "add", "--log-level", "warn"],
            (
                "rpcasync call: argument --log-level: 'warn' is none of debug, info, warning, error"
                " and critical; did you mean 'warning'?"
            ),
            CALL,
        ),
        (
            ["completion", "bash", "zsh"],
            "rpcasync completion: 'zsh' is one word too many",
            "for more: rpcasync completion --help",
        ),
        (
            ["call", URL, "add", "a=1", "b=2", "a=2"],
            "rpcasync call: a is given twice; for a list, write a='[1, 2]'",
            CALL,
        ),
        (
            ["call", URL, "add", "a=it's", "a=2"],
            "rpcasync call: a is given twice",
            CALL,
        ),
        (
            ["call", URL, "add", "n1", "=2"],
            "rpcasync call: '=2' has no name in front of the =; write n1=2 without blanks",
            CALL,
        ),
        (
            ["call", URL, "add", "n1", "=", "2"],
            "rpcasync call: '=' has no name in front of the =; write n1=2 without blanks",
            CALL,
        ),
        (
            ["call", URL, "add", "n1=", "2"],
            (
                "rpcasync call: nothing stands behind n1= and '2' has no name; write n1=2 without"
                " blanks"
            ),
            CALL,
        ),
        (["call", URL, "add", "=2"], "rpcasync call: '=2' has no name in front of the =", CALL),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_one_mistake(capfd, words, line, more):
    assert said(capfd, *words) == (2, [line, more])


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            [URL],
            [
                f"rpcasync: there is no command '{URL}', write:",
                f"  rpcasync methods {URL}",
                TOP,
            ],
        ),
        (
            [URL, "say", "text=two words"],
            [
                f"rpcasync: there is no command '{URL}', write:",
                f"  rpcasync call {URL} say 'text=two words'",
                TOP,
            ],
        ),
        (
            ["server.py", "1"],
            [
                "rpcasync: there is no command 'server.py', write:",
                f"  rpcasync listen -u {URL} server.py 1",
                TOP,
            ],
        ),
        (
            ["call", "add_numbers", URL, "n1=2"],
            [
                "rpcasync call: 'add_numbers' stands where the URL is expected, write:",
                f"  rpcasync call {URL} add_numbers n1=2",
                CALL,
            ],
        ),
    ],
)
def test_what_to_write(capfd, words, lines):
    assert said(capfd, *words) == (2, lines)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("127.0.0.1:7007", f"{KNOWN}; did you mean 'tcp://127.0.0.1:7007'?"),
        ("localhost:7007", f"{KNOWN}; did you mean 'tcp://localhost:7007'?"),
        ("/run/x.sock", f"{KNOWN}; did you mean 'unix:///run/x.sock'?"),
        ("tpc://127.0.0.1:7007", f"{KNOWN}; did you mean 'tcp://127.0.0.1:7007'?"),
        ("no_such.py", f"{KNOWN}; did you mean 'python://no_such.py'?"),
        ("add_numbers", KNOWN),
        ("tcp://127.0.0.1", "the port is missing; expected tcp://host:port"),
        ("tcp://127.0.0.1:x", "the port is 'x', must be 0 to 65535; expected tcp://host:port"),
        ("tcp://127.0.0.1:70000", "the port is 70000, must be at most 65535"),
    ],
)
@pytest.mark.parametrize("command", [["call", "add"], ["methods"]])
def test_a_url_that_is_none(capfd, command, url, line):
    command, *rest = command
    assert said(capfd, command, url, *rest) == (2, [f"rpcasync: cannot parse {url!r}: {line}"])


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("127.0.0.1:0", "expected tcp://, tls:// or unix://; did you mean 'tcp://127.0.0.1:0'?"),
        ("tcp://127.0.0.1", "the port is missing; expected tcp://host:port"),
    ],
)
def test_where_nobody_can_listen(capfd, url, line):
    problem = f"rpcasync: cannot listen on {url}: cannot parse {url!r}: {line}"
    assert said(capfd, "listen", "-u", url, __file__) == (2, [problem])


def test_a_program_that_is_missing(capfd):
    line = "rpcasync: no such file: no_such.py"
    assert said(capfd, "listen", "-u", URL, "no_such.py") == (2, [line])


def test_a_url_in_the_place_of_the_program(capfd):
    assert said(capfd, "listen", "-u", "server.py", URL) == (
        2,
        [
            f"rpcasync listen: {URL!r} stands where the program is expected, for example:",
            f"  rpcasync listen -u {URL} server.py",
            "for more: rpcasync listen --help",
        ],
    )


def test_a_program_in_perl(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.pl").touch()
    assert said(capfd, "listen", "-u", URL, "old.pl") == (
        2,
        [
            "rpcasync listen: old.pl is in Perl; a program in Python passes calls on to it:",
            f"  rpcasync listen -u {URL} --fallback perl://./old.pl NEW.py",
            "for more: rpcasync listen --help",
        ],
    )


@pytest.mark.parametrize("flag", ["--fallback", "--shadow", "--answer=old", "--shadow-report=x"])
def test_options_that_are_the_programs_now(capfd, tmp_path, monkeypatch, flag):
    """It may have such an option itself: it is told, and the program runs."""
    monkeypatch.setattr("sys.argv", ["rpcasync"])
    monkeypatch.setattr("sys.path", ["", *sys.path])
    for name in ("RPCASYNC_FDS", "RPCASYNC_OPTIONS"):
        monkeypatch.setenv(name, "")
    program = tmp_path / "server.py"
    program.touch()
    _, (first, *_) = said(capfd, "listen", "-u", "tcp://127.0.0.1:0", str(program), flag, "--mode")
    name = flag.partition("=")[0]
    text = f"{name} stands behind {program}, and is its own: options go in front of it"
    assert first == f"rpcasync: {text}"


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["perl://./new.pl", "calls.jsonl"], "calls.jsonl perl://./new.pl"),
        ([URL, URL], f"FILE {URL}"),
    ],
)
def test_a_url_in_the_place_of_the_recording(capfd, words, mend):
    assert said(capfd, "replay", "--compare", *words) == (
        2,
        [
            f"rpcasync replay: {words[0]!r} stands where the file is expected, write:",
            f"  rpcasync replay {mend}",
            "for more: rpcasync replay --help",
        ],
    )


@pytest.mark.parametrize(
    "words",
    [
        ["listen", "-u", URL, "--shadow", URL, "--shadow-except", "set_a,set_b", "server.py"],
        ["record", "-u", URL, "--to", URL, "--redact", "set_a,set_b", "calls.jsonl"],
        ["record", "-u", URL, "--to", URL, "--redact-procedure", "set_a,set_b", "calls.jsonl"],
        ["replay", "calls.jsonl", URL, "--procedure", "set_a,set_b"],
        ["replay", "calls.jsonl", URL, "--except", "set_a,set_b"],
    ],
)
def test_names_in_one_word(capfd, words):
    status, (line, _) = said(capfd, *words)
    assert status == 2
    assert line.endswith(": 'set_a,set_b' is no name: repeat the option for each")


@pytest.mark.parametrize(
    "words",
    [
        ["record", "-u", URL, "--to", URL, "--redact-procedure", "log*", "calls.jsonl"],
        ["record", "-u", URL, "--to", URL, "--redact", "pass*", "calls.jsonl"],
        ["replay", "calls.jsonl", URL, "--procedure", "log?n"],
        ["replay", "calls.jsonl", URL, "--except", "*"],
    ],
)
def test_patterns_where_names_are_taken(capfd, words):
    status, (line, _) = said(capfd, *words)
    assert status == 2
    assert line.endswith("is a pattern: names stand here as they are")


def test_a_server_program_that_is_missing(capfd):
    line = "rpcasync: no_such.pl: No such file or directory"
    assert said(capfd, "describe", "perl://no_such.pl") == (1, [line])


def test_nothing_at_all(capfd):
    status, lines = said(capfd)
    assert status == 2
    assert lines[0] == "usage: rpcasync COMMAND ..."
    assert "call call a procedure and print the answer" in [
        " ".join(each.split()) for each in lines
    ]
    assert f"  rpcasync call {URL} add_numbers n1=2 n2=3" in lines
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help(capsys, words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert "\nexamples:\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["call", "--help"], ["help", "call"]])
def test_help_on_a_command(capsys, words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: rpcasync call [OPTION ...] URL PROCEDURE [NAME=VALUE")
    assert printed.endswith(f"\nexample:\n  rpcasync call {URL} add_numbers n1=2 n2=3\n")


def test_help_on_what_there_is_not(capfd):
    assert said(capfd, "help", "cal")[1][0].endswith("no command 'cal'; did you mean 'call'?")


def test_a_terminal_obeys_nothing_of_a_mistake(capfd):
    status, lines = said(capfd, "\x1b[31mcal\n")
    assert (status, lines[0]) == (2, r"rpcasync: there is no command '\x1b[31mcal\n'")


# Words and lines


@pytest.mark.parametrize(
    "words",
    [["a=1", "b=1"], ["a", 1, "a", 2], ["n1=", "n2=2"], ["n1", "2"], ['"a="', "2"], ["n1=''", "2"]],
)
def test_what_is_no_mistake(words):
    assert len(parse_words(list(map(str, words)))) == len(words)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add a=1 a=2", "a is given twice; for a list, write a='[1, 2]'"),
        ("add a=[1, 2] a=2", "a is given twice; for a list, write a='[[1, 2], 2]'"),
        ("add n1 =2", "'=2' has no name in front of the =; write n1=2 without blanks"),
        ("add n1 = 2", "'=' has no name in front of the =; write n1=2 without blanks"),
        ("add n1= 2", "nothing stands behind n1= and '2' has no name; write n1=2 without blanks"),
        ("add =2", "'=2' has no name in front of the ="),
    ],
)
def test_a_line_of_the_shell(line, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_line(line)


def test_a_quoted_nothing_is_a_value():
    line = parse_line("add n1='' 2")
    assert line is not None
    assert line.values == ["n1", "", 2]


@given(st.lists(st.from_regex("[ab]?=?[12]?", fullmatch=True) | st.text()))
def test_names_are_given_once_or_refused(words):
    try:
        parsed = parse_words(words)
    except ValueError:
        return
    names = [word[0] for word in parsed if len(word) == 2]
    assert len(set(names)) == len(names)
    assert len(parsed) == len(words)


@pytest.mark.parametrize(
    ("line", "is_built_in", "topic"),
    [
        ("help", True, None),
        ("help add", True, "add"),
        ("methods add", True, "add"),
        ("methods defs=1", False, None),
        ("help 5", False, None),
        ("help a b", False, None),
        ("'help' add", False, "add"),
        ("quit now", False, "now"),
    ],
)
def test_what_the_shell_obeys(line, is_built_in, topic):
    parsed = parse_line(line)
    assert parsed is not None
    assert (parsed.is_built_in, parsed.topic) == (is_built_in, topic)
