"""The command line as a user meets it: real processes, what they print, how they end."""

import json
import re
import signal
import socket
import sys
import time

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, Program, listening, run
from support.quick import quick_first

import rpcasync as package
from eventmux import EventMux
from rpcasync import Client, Disconnected, RemoteError
from rpcasync.cli.definitions import definition_line

CALC = PROGRAMS / "calc_server.py"
CHILD = f"python://{CALC}"


def rpcasync(*arguments):
    return run(sys.executable, "-m", "rpcasync", *arguments)


def told(result):
    return result.returncode, result.stdout, result.stderr


def test_call_starts_a_server_and_prints_the_sum():
    result = rpcasync("call", "python://examples/add_server.py", "add_numbers", "n1=2", "n2=3")
    assert told(result) == (0, "sum=5\n", "")


@pytest.mark.parametrize("codec", quick_first(["storable", "json"]))
@pytest.mark.parametrize("url", quick_first(["tcp://127.0.0.1:0", "unix://{}/socket"]))
def test_call_a_listening_server(tmp_path, url, codec):
    with listening(url=url.format(tmp_path)) as (address, _):
        result = rpcasync("call", address, "add_numbers", "n1=-2", "n2=40", "--codec", codec)
        assert told(result) == (0, "sum=38\n", "")


def test_values_are_json_where_they_parse_and_text_where_not():
    pairs = ["a=1", "b=[1, null]", 'c={"d": "e"}', "f=plain text", 'g="quoted"', "h=x=y", "i="]
    result = rpcasync("call", CHILD, "echo", *pairs)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "a=1",
        "b=[1, null]",
        'c={"d": "e"}',
        "f=plain text",
        "g=quoted",
        "h=x=y",
        "i=",
    ]


@pytest.mark.slow
def test_an_answer_that_is_no_pairs_is_printed_line_by_line():
    assert told(rpcasync("call", CHILD, "sum")) == (0, "0\n", "")


def test_methods():
    result = rpcasync("methods", "python://examples/add_server.py")
    assert told(result) == (0, "add_numbers(n1: int, n2: int)\n", "")
    result = rpcasync("methods", "python://examples/add_server.py", "--names")
    assert told(result) == (0, "add_numbers\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    quick_first(
        [
            (["call", CHILD, "nothing"], 1, "rpcasync: No sub 'nothing' in package 'main'; `meth"),
            (["call", CHILD, "refuse", "why=because"], 1, "rpcasync: because\n"),
            (["call", CHILD, "add_numbers", "n1=1"], 1, "rpcasync: add_numbers: n2 is missing\n"),
            (["call", CHILD, "park", "--timeout", "0.01"], 1, "rpcasync: park: no answer"),
            (["call", CHILD, "explode"], 1, "rpcasync: explode: failed; see the server's log\n"),
            (["call", "unix:///no/such/socket", "x"], 1, "directory: is the server running?\n"),
            (["call", "python://no_such.py", "x"], 1, "no_such.py: No such file or directory\n"),
            (["call", "http://x", "y"], 2, "cannot parse 'http://x': expected tcp://, tls://"),
            (["call", "udp://127.0.0.1:9", "y"], 2, "it is no stream of bytes\n"),
            (["call", "open2://cat", "y"], 2, "it is no stream of bytes\n"),
            (["call", "tcp://localhost", "y"], 2, "expected tcp://host:port\n"),
            (["call", CHILD, "x", "=1"], 2, "'=1' has no name in front of the =\n"),
            (
                ["call", CHILD, "x", "--codec", "json", "=1"],
                2,
                "'=1' has no name in front of the =\n",
            ),
            (["call", CHILD, "x", "--nothing"], 2, "there is no option --nothing; a value with"),
            (["call", CHILD, "x", "--codec", "xml"], 2, "argument --codec: invalid choice: 'xml'"),
            (
                ["call", CHILD, "x", "--log-level", "loud"],
                2,
                "argument --log-level: 'loud' is none of debug, ",
            ),
            (["call", str(CALC), "x"], 2, f"; did you mean 'python://{CALC}'?\n"),
            (["call", str(PERL / "rpc_server.pl"), "x"], 2, "; did you mean 'perl:///"),
            (["call", "README.md", "x"], 2, "; to start a program: python://README.md\n"),
            (["call", "tests", "x"], 2, "or cfd://\n"),
            (["call", CHILD, "x", "--timeout", "-1"], 2, "'-1' is not a number of seconds\n"),
            (["call", CHILD, "x", "--timeout", "inf"], 2, "'inf' is not a number of seconds\n"),
            (["methods", CHILD, "--timeout", "x"], 2, "'x' is not a number of seconds\n"),
            (
                ["methods", CHILD, "x"],
                1,
                "rpcasync: the server has no procedure 'x'; `methods` lists what it has\n",
            ),
            (["methods", "unix:///no/such/socket"], 1, "directory: is the server running?\n"),
            (["methods", "nonsense"], 2, "rpcasync: cannot parse 'nonsense'"),
            (["listen", "-u", "http://x", str(CALC)], 2, "cannot listen on http://x: "),
            (["listen", "-u", "tcp://127.0.0.1:0", "no_such.py"], 2, "no such file: no_such.py\n"),
            (
                ["listen", "-u", "unix:///no/such/folder/x", str(CALC)],
                1,
                "cannot listen on unix://",
            ),
        ],
        3,
    ),
    ids=lambda value: " ".join(value[:3])[-40:] if isinstance(value, list) else None,
)
def test_what_goes_wrong(arguments, status, message):
    result = rpcasync(*arguments)
    assert result.returncode == status
    assert result.stdout == ""
    assert message in result.stderr
    if "explode" not in arguments:
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    quick_first(
        [
            ("--max-packet", "6", "'6' is not a number of bytes: 7 to 4294967295\n"),
            (
                "--max-packet",
                "4294967296",
                "'4294967296' is not a number of bytes: 7 to 4294967295\n",
            ),
            ("--max-packet", "1k", "'1k' is not a number of bytes"),
            ("--outstanding", "0", "'0' is not a number of calls: 1 or more\n"),
            ("--outstanding", "-1", "'-1' is not a number of calls"),
            ("--outstanding", "9" * 5000, "is not a number of calls"),
            ("--mode", "8", "'8' is no mode: three octal digits, as in 660\n"),
            ("--codec", "xml", "invalid choice: 'xml'"),
            ("--on-exception", "ignore", "invalid choice: 'ignore'"),
            ("--log-level", "loud", "argument --log-level: 'loud' is none of"),
        ]
    ),
)
def test_wrong_options_of_listen(tmp_path, option, value, message):
    path = tmp_path / "socket"
    result = rpcasync("listen", "-u", f"unix://{path}", option, value, CALC)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert not path.exists()


@pytest.mark.slow
def test_values_without_names():
    assert rpcasync("call", CHILD, "sum", "1", "2.5", "-3").stdout == "0.5\n"
    assert rpcasync("call", CHILD, "echo", '"x=y"', '{"a": "b=c"}').stdout == 'x=y={"a": "b=c"}\n'


@pytest.mark.slow
def test_values_behind_an_option():
    result = rpcasync(
        "call", CHILD, "echo", "a=1", "--codec", "json", "b=2", "--timeout", "9", "c=3"
    )
    assert told(result) == (0, "a=1\nb=2\nc=3\n", "")


def test_an_answer_as_json():
    pairs = ["a=1", "b=[null]", "c=\u263a"]
    result = rpcasync("call", "--json", CHILD, "echo", *pairs)
    assert told(result) == (0, '{"a": 1, "b": [null], "c": "\u263a"}\n', "")
    assert rpcasync("call", CHILD, "sum", "1", "--json").stdout == "[1]\n"


def test_definitions():
    result = rpcasync("methods", CHILD, "--defs")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "add_numbers(n1: integer32, n2: integer32)" in lines
    assert "sum(numbers: [float64])" in lines
    assert "park()" in lines
    assert lines == sorted(lines)


@pytest.mark.slow
def test_methods_as_json():
    result = rpcasync("methods", "python://examples/add_server.py", "--json")
    assert told(result) == (0, '{"add_numbers": {}}\n', "")
    result = rpcasync("methods", CHILD, "--defs", "--json")
    about = json.loads(result.stdout)["add_numbers"]
    assert about == {"in": {"n1": "integer32", "n2": "integer32"}, "out": {}}


def test_definitions_of_a_server_that_has_none(tmp_path):
    program = tmp_path / "plain.py"
    program.write_text(CALC.read_text().replace("rpc_parked(caller)", "rpc_methods(caller)"))
    result = rpcasync("methods", f"python://{program}", "--defs")
    text = "rpcasync: the server has no definitions: methods takes no values; got 2\n"
    assert told(result) == (1, "", text)


def test_the_output_of_a_server_with_pipes():
    url = CHILD.replace("python", "python2")
    assert told(rpcasync("call", url, "sum", "1")) == (0, "1\n", "")


def test_options_of_listen(tmp_path):
    options = ["--outstanding", "1", "--max-packet", "1000", "--codec", "json"]
    options += ["--on-exception", "answer", "--fallback", "python://examples/add_server.py"]
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", "tcp://127.0.0.1:0", *options]
    server = Program([*command, CALC])
    try:
        address = server.wait_for_log("listening on").rpartition(" ")[2]
        with EventMux() as mux:
            client = Client(mux, address, codec="json")
            with pytest.raises(RemoteError, match="^explode: failed; see the server's log$"):
                client.explode().result(LIMIT)  # and the client stays
            assert client.add_numbers(n1=2, n2=3).result(LIMIT) == ("sum", 5)  # of the fallback
            first, second = client.call("park"), client.call("sum")
            assert not client.wait(0, first, second)
            assert client.methods().result(LIMIT)  # is not counted, and so comes behind `sum`
            assert not second.done
            with pytest.raises(Disconnected):
                Client(mux, address, codec="json").echo(a="x" * 1000).result(LIMIT)
            server.wait_for_log("limit is 1000")
            with pytest.raises(Disconnected):
                Client(mux, address).call("sum").result(LIMIT)
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("level", quick_first(["debug", "DEBUG"]))
def test_the_log_level(level):
    quiet = rpcasync("call", CHILD, "sum")
    assert quiet.stderr == ""
    result = rpcasync("call", CHILD, "sum", "--log-level", level)
    assert (result.returncode, result.stdout) == (0, "0\n")
    assert re.search(r"^DEBUG rpcasync: .* > .*sum", result.stderr, re.MULTILINE)
    assert rpcasync("call", CHILD, "sum", "--log-level", "info").stderr == ""


@pytest.mark.slow
def test_the_log_level_of_a_server():
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", "tcp://127.0.0.1:0"]
    server = Program([*command, "--log-level", "error", CALC])
    try:
        address = server.wait_for_log("listening on").rpartition(" ")[2]
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(100) == b""
        assert rpcasync("call", address, "forget").returncode == 1
        server.wait_for_log("ERROR rpcasync: procedure forget dropped")
        assert len(server.log) == 2  # and not the warning
    finally:
        server.stop()


@pytest.mark.slow
def test_listen_on_several_urls_until_told_to_stop(tmp_path):
    path = f"unix://{tmp_path}/socket"
    with listening(CALC, "tcp://127.0.0.1:0", path) as (address, server):
        for url in (address, path):
            assert rpcasync("call", url, "sum").stdout == "0\n"
        assert rpcasync("call", path, "stop").stdout == "stopping=1\n"
        assert server.process.wait(LIMIT) == 0


@pytest.mark.slow
def test_listen_hands_the_arguments_on():
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", "tcp://127.0.0.1:0"]
    server = Program([*command, CALC, "one", "-u", "two"])
    try:
        address = server.wait_for_log("listening on").rpartition(" ")[2]
        answer = rpcasync("call", address, "whoami").stdout.splitlines()
        assert json.loads(answer[1].removeprefix("argv=")) == ["one", "-u", "two"]
    finally:
        server.stop()


def test_a_program_listens_by_itself(tmp_path):
    path = tmp_path / "socket"
    server = Program([sys.executable, CALC, "--other", "-u", f"unix://{path}"])
    try:
        with EventMux() as mux:
            assert connect_when_there(mux, path).call("sum").result(LIMIT) == (0,)
    finally:
        server.stop()


def connect_when_there(mux, path):
    """Connect to a server that is about to listen, as soon as it does."""
    while True:
        client = Client(mux, f"unix://{path}")
        try:
            client.methods().result(LIMIT)
        except Disconnected:
            client.disconnect()
        else:
            return client


@pytest.mark.parametrize(
    "arguments", quick_first([[], ["-u", "http://x"], ["-u", "unix:///no/such/dir/x"]])
)
def test_a_program_without_clients_says_how_to_start_it(arguments):
    result = run(sys.executable, CALC, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: calc_server.py -u URL")
    assert "Traceback" not in result.stderr


def test_a_program_that_forgets_its_clients(tmp_path):
    program = tmp_path / "forgetful.py"
    program.write_text("")
    result = rpcasync("listen", "-u", "tcp://127.0.0.1:0", program)
    assert result.returncode == 1
    problem = "ended and never called init_clients(rpc), by which a server gets its URLs"
    assert result.stderr.endswith(f"forgetful.py {problem}\n")


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), quick_first([("sys.exit(5)", 5), ("raise OSError", 1)]))
def test_a_program_with_a_status_of_its_own(tmp_path, end, status):
    program = tmp_path / "ends.py"
    program.write_text(f"import sys\n{end}\n")
    assert rpcasync("listen", "-u", "tcp://127.0.0.1:0", program).returncode == status


def test_ctrl_c_ends_listen_without_a_traceback():
    with listening() as (address, server):
        # Until it serves: Python itself dies of an interrupt in the middle of some imports.
        assert rpcasync("call", address, "parked").stdout == "count=0\n"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT) == 0
        server._reader.join()
        (line,) = server.log[1:]
        # The client may not have left yet.
        assert line.startswith(("rpcasync: interrupted", "rpcasync: SIGINT: waits for 1 "))


@pytest.mark.slow
def test_ctrl_c_ends_call_without_a_traceback():
    with listening() as (address, _):
        caller = Program([sys.executable, "-m", "rpcasync", "call", address, "park"])
        try:
            while rpcasync("call", address, "parked").stdout != "count=1\n":
                pass
            caller.process.send_signal(signal.SIGINT)
            assert caller.process.wait(LIMIT) == 1
            caller._reader.join()
            assert caller.log == ["rpcasync: interrupted"]
        finally:
            caller.stop()


@pytest.mark.slow
def test_the_log_of_a_server_has_one_line_for_a_bad_client():
    with listening() as (address, server):
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(100) == b""
        line = server.wait_for_log("disconnected")
        assert line.startswith("WARNING rpcasync: client 127.0.0.1:")
        assert "it sent an HTTP request" in line
        assert rpcasync("call", address, "sum").stdout == "0\n"


@pytest.mark.slow
def test_what_a_terminal_would_obey_is_printed_as_json():
    result = rpcasync("call", CHILD, "echo", 'a="\\u001b[31mred"', 'b="two\\nlines"')
    assert result.stdout == 'a="\\u001b[31mred"\nb=two\nlines\n'
    result = rpcasync("call", CHILD, "echo", '\x9bname=["\x9b"]')
    assert result.stdout == '"\\u009bname"=["\\u009b"]\n'
    result = rpcasync("call", CHILD, "refuse", "why=\x1b[31mred")
    assert told(result) == (1, "", "rpcasync: \\x1b[31mred\n")


def test_an_encoding_that_cannot_show_it():
    command = [sys.executable, "-m", "rpcasync", "call", CHILD, "echo", "a=\u263a"]
    result = run(*command, env={"PYTHONIOENCODING": "ascii"})
    assert told(result) == (0, "a=\\u263a\n", "")


def test_a_full_disk():
    shell = f"{sys.executable} -m rpcasync call {CHILD} sum > /dev/full"
    result = run("sh", "-c", shell)
    message = "rpcasync: cannot print the answer: [Errno 28] No space left on device\n"
    assert told(result) == (1, "", message)


@pytest.mark.parametrize(
    ("redirection", "expected"),
    quick_first(
        [
            (">&-", (1, "", "rpcasync: cannot print the answer: stdout is closed\n")),
            ("2>&-", (0, "0\n", "")),
            ("nothing 2>&-", (1, "", "")),
            ("nothing 2>/dev/full", (1, "", "")),
        ]
    ),
)
def test_streams_that_are_closed(redirection, expected):
    procedure = "" if redirection.startswith("nothing") else "sum"
    shell = f"exec {sys.executable} -m rpcasync call {CHILD} {procedure} {redirection}"
    assert told(run("sh", "-c", shell)) == expected


def test_methods_of_something_else(tmp_path):
    program = tmp_path / "odd.py"
    source = (PROGRAMS / "calc_server.py").read_text()
    program.write_text(source.replace("def rpc_whoami", "def rpc_methods"))
    result = rpcasync("methods", f"python://{program}")
    assert result.returncode == 1
    assert result.stderr.endswith("answered something else than its procedures\n")


def test_a_bad_url_stops_listen_before_it_listens(tmp_path):
    path = tmp_path / "socket"
    result = rpcasync("listen", "-u", f"unix://{path}", "-u", "foo://x", CALC)
    assert result.returncode == 2
    assert not path.exists()


@pytest.mark.slow
def test_a_program_that_sets_up_logging_itself(tmp_path):
    program = tmp_path / "logs.py"
    setup = "import logging\nlogging.basicConfig(format='mine: %(message)s')\n"
    program.write_text(setup + CALC.read_text())
    with listening(program) as (address, server):
        rpcasync("call", address, "forget")
        line = server.wait_for_log("dropped call")
        assert line.startswith("mine: procedure forget dropped call 0 without an answer")


SETUP = "import logging; logging.basicConfig(format='mine: %(message)s')\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CALC.read_text(), "ERROR rpcasync: procedure explode failed"),
        (SETUP + CALC.read_text(), "mine: procedure explode failed"),
        (
            CALC.read_text().replace("\nwhile ", f"\n{SETUP}while "),
            "mine: procedure explode failed",
        ),
    ],
    ids=["no logging", "logging before", "logging after"],
)
def test_what_fails_in_a_program_is_told_once(tmp_path, source, expected):
    program = tmp_path / "server.py"
    program.write_text(source)
    path = tmp_path / "socket"
    server = Program([sys.executable, program, "-u", f"unix://{path}"])
    try:
        with EventMux() as mux:
            client = connect_when_there(mux, path)
            with pytest.raises(RemoteError):
                client.explode().result(LIMIT)
        server.wait_for_log("RuntimeError: on purpose")
    finally:
        server.stop()
    assert server.log.count(expected) == 1
    assert server.log.count("RuntimeError: on purpose") == 1  # whatever the line above it


def test_words_that_only_python_reads_as_json():
    assert rpcasync("call", CHILD, "echo", "a=NaN", "--codec", "json").stdout == "a=NaN\n"


def test_the_version():
    assert told(rpcasync("--version")) == (0, f"rpcasync {package.__version__}\n", "")


def test_a_socket_without_a_scheme(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        result = rpcasync("call", path, "x")
    assert result.returncode == 2
    assert result.stderr.endswith(f"; to connect to a socket: unix://{path}\n")


# A server that hangs

HUNG = """
import signal, sys, time
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_hang(caller):
    time.sleep(1000)

def rpc_answer(caller):
    rpc.return_(caller, 1)

mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
print("started", file=sys.stderr, flush=True)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


@pytest.fixture
def hung(tmp_path):
    program = tmp_path / "hung.py"
    program.write_text(HUNG)
    return f"python2://{program}"


@pytest.mark.slow
def test_a_failure_is_told_before_the_end_of_the_server_is_waited_for(hung):
    start = time.monotonic()
    command = [sys.executable, "-m", "rpcasync", "call", hung, "hang", "--timeout", "1.5"]
    caller = Program(command)
    try:
        assert caller.wait_for_log("no answer") == "rpcasync: hang: no answer within 1.5 seconds"
        assert caller.process.poll() is None
        assert caller.process.wait(LIMIT) == 1
        assert time.monotonic() - start < 5
        assert caller.wait_for_log("SIGTERM").endswith("not ended within 1.0 seconds: SIGTERM")
        assert sum("no answer" in line for line in caller.log) == 1
    finally:
        caller.stop()


@pytest.mark.slow
def test_ctrl_c_while_a_server_hangs(hung):
    caller = Program([sys.executable, "-m", "rpcasync", "call", hung, "hang"])
    try:
        caller.wait_for_log("started")
        caller.process.send_signal(signal.SIGINT)
        caller.wait_for_log("rpcasync: interrupted")
        start = time.monotonic()
        assert caller.process.wait(LIMIT) == 1
        assert time.monotonic() - start < 4
        caller._reader.join()
        assert "Traceback" not in "\n".join(caller.log)
    finally:
        caller.stop()


@pytest.mark.slow
def test_a_server_that_has_answered_may_take_its_time(tmp_path):
    program = tmp_path / "slow.py"
    program.write_text(HUNG + "time.sleep(1.5)\n")
    caller = Program([sys.executable, "-m", "rpcasync", "call", f"python://{program}", "answer"])
    try:
        assert caller.process.stdout.readline() == "1\n"
        assert caller.process.poll() is None
        assert caller.process.wait(LIMIT) == 0
        caller._reader.join()
        assert caller.log == ["started"]  # and no SIGTERM
    finally:
        caller.stop()


# What a hostile server may send

HOSTILE = """
deep = "int"
for _ in range(900):
    deep = {KIND}

def rpc_evil(caller):
    raise Fault("two\\nlines\\n")

def rpc_methods(caller, defs=0):
    about = {{"in": {{"a\\nb": deep}}, "out": {{"x": "in\\nt"}}, "doc": "do\\nc"}}
    rpc.return_(caller, methods={{"na\\nme": about}})

def rpc_names(caller):
    rpc.return_(caller, "na\\nme", "val\\nue")

mux ="""


@pytest.mark.slow
@pytest.mark.parametrize("kind", quick_first(["[deep]", '{"a": deep}']))
def test_definitions_from_a_hostile_server(tmp_path, kind):
    program = tmp_path / "hostile.py"
    program.write_text(CALC.read_text().replace("mux =", HOSTILE.format(KIND=kind), 1))
    url = f"python://{program}"
    result = rpcasync("methods", "--defs", "--codec", "json", url)
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert line.startswith('"na\\nme"("a\\nb": ')
    assert "..." in line
    assert len(line) < 500
    assert line.endswith(' -> x: "in\\nt"  # "do\\nc"')
    assert rpcasync("methods", "--json", "--codec", "json", url).returncode == 0
    assert told(rpcasync("call", url, "evil")) == (1, "", "rpcasync: two\\nlines\n")
    assert rpcasync("call", url, "names").stdout == '"na\\nme"=val\nue\n'


def test_a_definition_of_usual_depth_is_shown_as_a_whole():
    kind = "int"
    for _ in range(20):
        kind = [kind]
    line = definition_line("f", {"in": {"a": kind}})
    assert line == f"f(a: {'[' * 20}int{']' * 20})"
    assert definition_line("f", {"in": {"a": [kind]}}) == f"f(a: {'[' * 20}...{']' * 20})"


# A program without a loop

NO_LOOP = HUNG.partition("while ")[0]


def ends(tmp_path, source):
    program = tmp_path / "server.py"
    program.write_text(source)
    return rpcasync("listen", "-u", "tcp://127.0.0.1:0", program)


def test_a_program_that_forgets_its_loop(tmp_path):
    result = ends(tmp_path, NO_LOOP)
    assert result.returncode == 0
    text = "server.py ended while it listened: `while rpc.has_clients():` goes on"
    assert result.stderr.splitlines()[-1].endswith(text)
    assert "Traceback" not in result.stderr


def test_a_program_that_has_had_its_time(tmp_path):
    loop = "rpc.close_listeners()\nwhile rpc.has_clients():\n    rpc.io(mux.mux())\n"
    result = ends(tmp_path, f"{NO_LOOP}\n{loop}")
    assert (result.returncode, result.stderr.splitlines()[1:]) == (0, ["started"])
