"""What docs/porting-values.md has for lists, answers and errors, run with Perl at the other end."""

import asyncio
import re
import shutil

import pytest
from support.pages import code_in, rows
from support.programs import LIMIT, PERL, ROOT, Program, listening, perl_listening, run

import rpcasync.aio
from eventmux import EventMux
from rpcasync import ArgumentError, Client, RemoteError, RPCError
from rpcasync.arguments.signatures import Signature

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


# How lists meet functions


def pairs_of(heading, left, right):
    """Return the code in two columns of a table of the values' page, row by row."""
    table = rows("porting-values.md", heading)
    return [(code_in(cells[left]), code_in(cells[right])) for cells in table]


SENT = {
    "$cb->call(7)": [7],
    "$cb->call($done, $all)": [3, 7],
    "$cb->call(@lines)": ["a", "b", "c"],
    "$cb->call(done => 3, all => 7)": ["done", 3, "all", 7],
    "$cb->call('log', size => 3)": ["log", "size", 3],
    "$rpc->return($caller, sum => 5)": ["sum", 5],
    "$rpc->return($caller, 'red', 'blue')": ["red", "blue"],
}
CALLS = [code for [code], _ in pairs_of("In order, or by name", 0, 2)]


def functions(codes):
    """Return a function for each of what the page writes: `def f(x, /):` and `lambda x, /: ...`."""
    made, got = [], []
    for code in codes:
        if code.startswith("lambda"):
            code = code.replace("...", "got.append(locals())")
            made.append(eval(code, {"got": got}))
        else:
            names = {"got": got}
            exec(f"{code} got.append(locals())", names)
            made.append(names[re.match(r"def (\w+)", code)[1]])
    return made, got


def test_each_call_has_a_row():
    assert [*SENT] == CALLS


@needs_perl
@pytest.mark.parametrize("call", CALLS)
def test_a_list_from_perl_meets_what_the_page_has_for_it(call):
    """A Perl server answers what it gets, and calls back with it."""
    [codes] = [codes for [code], codes in pairs_of("In order, or by name", 0, 2) if code == call]
    made, got = functions(codes)
    assert made
    if call.startswith("$rpc->return"):
        with perl_listening() as address, EventMux() as mux, Client(mux, address) as rpc:
            for function in made:
                wait(mux, rpc, rpc.echo(*SENT[call], function))
    else:
        server = Program(["perl", PERL / "callbacks_server.pl", "tcp://127.0.0.1:0"])
        try:
            with EventMux() as mux, Client(mux, server.stdout.readline().strip()) as rpc:
                wait(mux, rpc, rpc.keep(*made, lambda count: None))
                wait(mux, rpc, rpc.fire(*SENT[call], lambda fired: None))
        finally:
            server.stop()
    assert len(got) == len(made)
    for each in got:
        each.pop("got", None)
        flat = [[*value] if type(value) is tuple else value for value in each.values()]
        assert all(str(value) in str(flat) for value in SENT[call][1::2])


def wait(mux, rpc, call):
    while not call.done:
        event = mux.mux(LIMIT)
        assert event.type != "timeout"
        rpc.io(event)


@needs_perl
def test_what_a_callback_without_the_slash_is_told():
    def progress(x):
        pass

    end = "takes names and values, got an odd number of them: 1; got 7: write def progress(x, /):"
    assert end in (ROOT / "docs" / "porting-values.md").read_text()
    server = Program(["perl", PERL / "callbacks_server.pl", "tcp://127.0.0.1:0"])
    try:
        with EventMux() as mux, Client(mux, server.stdout.readline().strip()) as rpc:
            wait(mux, rpc, rpc.keep(progress, lambda count: None))
            call = rpc.fire(7)
            with pytest.raises(ArgumentError, match=f"{re.escape(end)}$"):
                wait(mux, rpc, call)
    finally:
        server.stop()


TAKEN = {
    "my ($caller, %args) = @_;": (["n1", 2, "n2", 3], {"n1": 2, "n2": 3}),
    "my ($caller, @parts) = @_;": (["n1", 2, None], ("n1", 2, None)),
    "my ($caller, $x, $y) = @_;": (["n1", 2], ("n1", 2)),
    "my ($caller, $level, %fields) = @_;": ([1, "n2", 3], (1, {"n2": 3})),
    "my ($caller, $dev, $proc, @args) = @_;": ([1, 2, "n2", 3], (1, 2, "n2", 3)),
}


def test_arguments_as_a_perl_procedure_takes_them():
    table = pairs_of("Argument lists", 0, 1)
    assert {perl[0] for perl, _ in table} == {*TAKEN}
    for [perl, *_], [code] in table:
        names = {}
        exec(f"{code} return locals()", names)
        function = names[re.match(r"def (\w+)", code)[1]]
        values, expected = TAKEN[perl]
        args, named = Signature(function, leading=1).bind(values)
        got = function("the caller", *args, **named)
        assert got.pop("caller") == "the caller"
        assert [*flattened(got.values())] == [*flattened([expected])]


def flattened(values):
    """Give values in order, with those in tuples and dicts in place of these."""
    for value in values:
        if isinstance(value, dict):
            yield from flattened(value.values())
        elif isinstance(value, tuple):
            yield from flattened(value)
        else:
            yield value


# Errors, and answers with `error` in them


ANSWERS = {
    "error => 'disk full'": ["error", "disk full"],
    "errors => ['a', 'b']": ["errors", ["a", "b"]],
    "error => 'disk full', code => 28": ["error", "disk full", "code", 28],
    "error => undef": ["error", None],
    "error => { ... }": ["error", {"a": 1}],
}
FAILED = ["error => 'disk full'", "errors => ['a', 'b']"]


def test_each_answer_has_a_row():
    table = rows("porting-values.md", "error, and other names beside it")
    assert [code for cells in table for code in code_in(cells[0])] == [*ANSWERS]
    for cells in table:
        assert ("RemoteError" in cells[2]) == (code_in(cells[0])[0] in FAILED)


@needs_perl
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_each_client_makes_of_an_answer_of_perl(answer):
    values = ANSWERS[answer]
    got = []
    with perl_listening() as address:
        with EventMux() as mux, Client(mux, address) as rpc:

            def reply(*values, error=None):
                got.append((values, type(error)))

            wait(mux, rpc, rpc.echo(*values, reply))
            told = outcome(lambda: rpc.echo(*values).result(LIMIT))
        with rpcasync.connect(address) as rpc:
            assert outcome(lambda: rpc.echo(*values)) == told

        async def ask():
            async with await rpcasync.aio.connect(address) as rpc:
                return await rpc.echo(*values)

        assert outcome(lambda: asyncio.run(ask())) == told
    if answer in FAILED:
        assert got == [((), RemoteError)]
        assert told == (RemoteError, "a; b" if "errors" in answer else "disk full")
    else:
        assert got == [(tuple(values), type(None))]
        assert told == (rpcasync.Reply, tuple(values))


def outcome(ask):
    """Return what a call gives, or what it raises, and its kind."""
    try:
        reply = ask()
    except RPCError as error:
        return type(error), str(error)
    return type(reply), tuple(reply)


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_perl_client_gets_of_an_answer_of_ours(answer, tmp_path):
    """It gets the list, as it always did."""
    file = tmp_path / "server.py"
    file.write_text(ANSWERING.format(values=ANSWERS[answer]))
    with listening(file) as (address, _):
        result = run("perl", "-I", PERL, "-MRPCClient", "-MData::Dumper", "-e", ASKING, address)
    shown = result.stdout.replace("undef", "None").replace(" => ", ": ")
    assert (eval(shown), result.stderr) == (ANSWERS[answer], "")


ANSWERING = """
from eventmux import EventMux
from rpcasync import Server, init_clients
def rpc_x(caller):
    rpc.return_(caller, *{values!r})
mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""
ASKING = """
($Data::Dumper::Indent, $Data::Dumper::Terse) = (0, 1);
print Dumper([RPCClient->new(shift)->ask('x')]);
"""
