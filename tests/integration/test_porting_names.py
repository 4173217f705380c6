"""The names of docs/porting.md: all code in its tables is run, and a new row needs a test here."""

import inspect
import re
import socket
import sys
import types

import pytest
from support.ends import making_ends
from support.pages import code_in, rows
from support.programs import LIMIT, ROOT, run

import rpcasync.arguments.reflection
from eventmux import EventMux, URLError
from rpcasync import (
    Client,
    Disconnected,
    EncodeError,
    Server,
    init_clients,
    url_disconnect,
    url_listen,
)
from rpcasync.arguments.signatures import Signature
from rpcasync.storable import ScalarRef

ADDS = f"python://{ROOT / 'examples' / 'add_server.py'}"


@pytest.fixture
def ends():
    with making_ends() as make:
        yield make


def code_of(heading):
    """Return the code in the right-hand cells of a table, each once."""
    return {
        code: None for cells in rows("porting.md", heading) for code in code_in(cells[1])
    }.keys()


def values_of(heading, names, not_code=()):
    """Run all the code of a table in turn, but for what is no code; return what comes of each."""
    found = code_of(heading)
    assert found >= {*not_code}
    return {code: eval(code, names) for code in found if code not in not_code}


def test_the_client():
    with EventMux() as mux:
        ours, theirs = socket.socketpair()
        server = Server(mux, {})
        server.add_client(theirs)
        rpc = Client(mux, ADDS.replace("://", "2://"))
        answers = []
        names = {
            **{name: getattr(rpc, name) for name in ("wait", "disconnect", "dump_requests")},
            **{name: getattr(rpc, name) for name in ("has_requests", "has_coderefs", "io")},
            **vars(rpcasync),
            "mux": mux,
            "url": ADDS,
            "sock": ours,
            "rpc": rpc,
            "name": "add_numbers",
            "args": (),
            "done": lambda sum: answers.append(sum),
            "pattern": re.compile("x"),
            "callback": lambda error: answers.append(str(error)),
            "seconds": LIMIT,
            "calls": (),
        }
        later = ["rpc.call(...).result()", "wait(seconds, *calls)", "disconnect(grace=5.0)"]
        found = values_of("The client", names, ["id", "error", "result()", "io()", *later])
        clients = [value for value in found.values() if isinstance(value, Client)]
        calls = [value for value in found.values() if isinstance(value, rpcasync.Call)]
        assert (len(clients), len(calls)) == (3, 3)
        assert [*found["dump_requests()"].values()] == calls  # as long as they wait
        assert eval(later[0].replace("...", "name, n1=1, n2=1"), names)["sum"] == 2
        assert eval(later[1], {**names, "calls": calls}) is True
        assert answers == [5, 5, "add_numbers: n1, n2 are missing"]
        assert found["has_requests()"] is True
        assert type(found["has_coderefs()"]) is int
        for client in (rpc, *clients):
            eval(later[2], {"disconnect": client.disconnect})
        for event in mux:
            for client in (rpc, *clients):
                client.io(server.io(event))
        assert rpc.process.returncode == 0


def test_the_server(monkeypatch, tmp_path):
    pkg = types.ModuleType("pkg")
    pkg.rpc_x = lambda caller: None
    monkeypatch.setitem(sys.modules, "pkg", pkg)
    monkeypatch.setattr(sys, "argv", ["server", "-u", f"unix://{tmp_path}/socket"])
    with EventMux() as mux:
        rpc = Server(mux)
        ours, theirs = socket.socketpair()
        with ours, socket.create_server(("127.0.0.1", 0)) as listener:
            names = {
                **{name: getattr(rpc, name) for name in ("add_client", "listen", "has_queued")},
                "add_listener": lambda sock: rpc.add_listener(listener),
                "set_limits": rpc.set_limits,
                "init_clients": init_clients,
                "N": 7,
                "Server": Server,
                "mux": mux,
                "rpc": rpc,
                "sock": theirs,
                "rpcasync": rpcasync,
                "url": f"unix://{tmp_path}/other",
                "definition": {"n_1": "int"},
                "is_in": True,
            }
            limits = [
                name
                for name in code_of("The server")
                if name.startswith(("max_", "packet_", "idle_"))
            ]
            others = ["error", "errors", "doc", "def_*", *limits]
            others += ["def rpc_NAME(caller, ...)", "def def_NAME(caller, is_in)"]
            others += ["rpc.return_(caller, *values, **named)"]
            found = values_of("The server", names, others)
            later = {*inspect.signature(rpc.set_limits).parameters} - {"outstanding"}
            assert {*limits} <= {*inspect.signature(Server).parameters, *later}
            assert "max_packet" in limits
            assert later <= {*limits}
            assert [*found["rpcasync.arguments.reflection.expand(definition, is_in)"]] == ["1n"]
            assert rpc.has_clients()
            assert not found["has_queued()"]
            assert found['"pkg"'] == "pkg"
            assert isinstance(found['Server(mux, "pkg::")'], Server)
            rpc.close_listeners()


def test_a_procedure_as_the_page_writes_it(ends):
    names = {}
    for code in ("def rpc_NAME(caller, ...)", "def def_NAME(caller, is_in)"):
        assert code in code_of("The server")
        exec(f"{code.replace('...', '*values')}: return {{}}", names)
    code = "rpc.return_(caller, *values, **named)"
    assert code in code_of("The server")

    def rpc_x(caller):
        eval(code, {"rpc": both.server, "caller": caller, "values": (1, 2), "named": {"a": 3}})

    both = ends(x=rpc_x)
    call = both.client.x()
    both.turn()
    assert call.result() == (1, 2, "a", 3)
    assert Server(both.mux, names)
    assert Signature(names["def_NAME"], leading=1).names == {"is_in"}


def test_subs_as_arguments(ends):
    kept = []
    both = ends(keep=lambda caller, *f: (kept.extend(f), both.server.return_(caller)))
    got = []
    both.client.keep(lambda *values: got.append(values), ScalarRef(print), lambda: None)
    both.turn()
    names = {**vars(rpcasync), "callback": kept[0], "args": (1, 2), "ScalarRef": ScalarRef}
    found = values_of("Subs as arguments", names, ["with callback:"])
    both.turn()
    assert got == [(1, 2), (1, 2)]
    assert type(found["callback.id"]) is int
    exec("with callback:\n    pass", {"callback": kept[1].value})
    both.turn()
    assert both.client.has_coderefs() == 0
    both.client.fh.close()
    assert issubclass(found["Disconnected"], ConnectionError)


def test_a_sub_in_an_answer_or_of_a_client_that_has_gone(ends):
    raised, kept = [], []

    def rpc_x(caller, f, /):
        kept.append(f)
        try:
            both.server.return_(caller, print)
        except EncodeError as error:
            raised.append(type(error))
        both.server.return_(caller)

    both = ends(x=rpc_x)
    both.client.x(print, lambda: None)
    both.turn()
    assert raised == [EncodeError]
    both.client.disconnect()
    both.turn()
    assert kept[0].alive is False
    with pytest.raises(Disconnected):
        kept[0](1)


def test_urls_and_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listener = url_listen(f"unix://{tmp_path}/there")
    with EventMux() as mux, listener:
        names = {**vars(rpcasync), "mux": mux, "URLError": URLError}
        names |= {"url": f"unix://{tmp_path}/there", "cwd": "/srv", "urls": ["perl://a.pl"]}
        programs = [code for code in code_of("URLs and programs") if code.startswith("rpcasync ")]
        others = [".process", ".stdout", ".stderr", "python://", "perl", "url_listen(url)"]
        others += [
            "url_connect(url, timeout=...)",
            'url_connect("open2://command")',
            "url_disconnect(sock)",
        ]
        found = values_of("URLs and programs", names, [*others, *programs])
        assert found["url_absolute(cwd, *urls)"] == ["perl:///srv/a.pl"]
        with eval("url_connect(url, timeout=...)".replace("...", "1.0"), names) as sock:
            assert eval("url_disconnect(sock)", {**names, "sock": sock}) is None
        command = eval('url_connect("open2://command")'.replace("command", "true"), names)
        for attribute in others[:3]:
            assert getattr(command, attribute[1:]) is not None
        assert url_disconnect(command) == 0
        with eval("url_listen(url)", {**names, "url": f"unix://{tmp_path}/other"}):
            pass


def test_the_commands_are_there():
    for code in code_of("URLs and programs"):
        if code.startswith("rpcasync "):
            result = run(sys.executable, "-m", *code.split()[:2], "--help")
            options = [word for word in code.split() if word.startswith("-")]
            assert result.returncode == 0
            assert all(re.search(rf"{option}\b", result.stdout) for option in options)
