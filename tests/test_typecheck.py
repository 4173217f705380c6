"""The types that users' programs see, and what docs/typecheck.py finds in a page.

Both type checkers are run on one program, in which each line that is wrong, or wrong for one of
them, says so.
"""

import importlib.util
import re
import sys
import textwrap

import pytest
from support.programs import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


typecheck = load("typecheck")

PAGE = """\
# A page

```python
import example
```

```pycon
>>> x = 1
>>> def double(n):
...     return 2 * n
>>> double(x)
2
>>> nothing
Traceback (most recent call last):
    ...
NameError: name 'nothing' is not defined

```

<!-- wrong on purpose -->

```python
import more
x = more
```

```console
$ python
>>> this is none
```

```pycon
>>> y = double(x)

```

```py
rpc.return_(1)
```
"""


def modules(text=PAGE, examples=()):
    return list(typecheck.modules_of("page.md", text, examples))


def lines_of(module):
    return {number: line for number, line in enumerate(module.lines, 1) if line}


def test_sessions_are_one_module_on_the_lines_of_the_page():
    session = modules()[-1]
    shown = lines_of(session)
    page = PAGE.splitlines()
    assert list(shown.values()) == [
        *("x = 1", "def double(n):", "    return 2 * n", "double(x)", "nothing", "y = double(x)")
    ]
    for number, line in shown.items():
        assert page[number - 1][4:] == line


def test_a_traceback_is_wrong_on_purpose():
    session = modules()[-1]
    assert {PAGE.splitlines()[number - 1] for number in session.allowed} == {">>> nothing"}


def test_each_block_is_a_module():
    first, second, fragment, _ = modules()
    assert list(lines_of(first).values()) == ["import example"]
    assert list(lines_of(second).values()) == ["import more", "x = more"]
    assert second.marked == [lines_of(second).keys()]
    assert not first.marked
    assert list(lines_of(fragment).values())[1:] == ["rpc.return_(1)"]
    assert "from rpcasync import *" in next(iter(lines_of(fragment).values()))


def test_examples_are_not_checked_twice():
    assert len(modules(examples=["import example\n"])) == len(modules()) - 1


def test_where_there_is_nothing_to_check_nothing_is_wrong(capsys):
    assert typecheck.main([str(ROOT / "CONTRIBUTING.md")]) == 0
    assert capsys.readouterr().out == "Types: no problems in 0 programs and sessions\n"


def test_a_page_without_python_has_no_module():
    assert modules("# A page\n\n```console\n$ ls\n```\n") == []


# With the type checkers

needs_checkers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mypy", "pyright")),
    reason="the type checkers are in the extra dev",
)

WRONG_PAGE = """\
```pycon
>>> from eventmux import EventMux
>>> EventMux().mux(0).dta
>>> mux = EventMux()
>>> mux.add(0, bufferd=None)
Traceback (most recent call last):
TypeError: EventMux.add() has no option 'bufferd'; did you mean 'buffered'?

```

<!-- wrong on purpose -->
```python
mux = 1 + "2"
```

<!-- wrong on purpose -->
```python
mux = 1
```
"""

PROGRAM = """\
from dataclasses import dataclass
from typing import ClassVar, Literal

from typing_extensions import assert_type

from eventmux import *
from eventmux.events import Address, Handle
from rpcasync import Client, Server


@dataclass(slots=True)
class Done(Event):
    type: ClassVar[Literal["done"]] = "done"
    answer: int = 0


class Untyped(Event):
    type = "untyped"


mux = EventMux()
sock = mux.listen("tcp://127.0.0.1:7007", buffered=None, backlog=5, meta=[], errors=True)
rpc = Client(mux, sock)
server = Server(mux)


def by_type() -> None:
    assert_type(mux.mux(), AnyEvent | None)
    event = mux.mux()
    event.type  # wrong
    if event is None:
        return
    event.data  # wrong
    if event.type == "read":
        assert_type(event, Read)
        mux.send(event.fh, event.data)
        mux.sendto(event.fh, event.sender, event.data)
        event.reason  # wrong
    elif event.type == "connect":
        event.fh.getpeername()
        mux.remove(event.parent_fh)
    elif event.type == "timer":
        assert_type(event.fh, Handle | None)
        mux.send(event.fh, b"")  # wrong
    elif event.type == "child":
        print(event.returncode, event.pid)
    elif event.type == "raed":  # mypy
        pass
    else:
        event.data  # wrong


def by_match() -> None:
    for event in mux:
        match event:
            case Read(fh, data):
                mux.send(fh, data)
            case Closed(fh, missing, reason):
                assert_type(missing, int)
                assert_type(reason, str | None)
            case Error(error=text):
                assert_type(text, str)
            case Child(fh):
                mux.close(fh)  # wrong
        match event.type:
            case "read":
                assert_type(event, Read)
            case "error":
                assert_type(event, Error)


def by_class() -> None:
    while (event := mux.mux(1)).type != "timeout":
        if isinstance(event, Read | ReadLast):
            assert_type(event.data, bytes)
        if event.type in ("read", "read_last"):
            print(event.data)  # pyright


def with_none() -> None:
    assert_type(mux.mux(0), AnyEvent)
    assert_type(mux.mux(0, None), AnyEvent)
    assert_type(mux.mux(None, 0), AnyEvent | None)
    assert_type(mux.mux(0, only=sock), AnyEvent | None)


def filtered() -> None:
    assert_type(rpc.io(mux.mux()), AnyEvent | None)
    event = server.io(rpc.io(mux.mux(1)))
    assert_type(event, AnyEvent | None)
    if event and event.type == "read":
        assert_type(event, Read)
    for each in mux:
        if rpc.io(each) and each.type == "closed":
            assert_type(each, Closed)
    rpc.io("an event")  # wrong
    general: Event | None = Event()
    server.io(general)
    rpc.io(None)


def of_our_own() -> None:
    mine = EventMux[Done | Untyped]()
    mine.push_event(Done(None, 42), Untyped(), Event())
    mine.post("text")  # wrong
    client = Client(mine, sock)
    for each in mine:
        event = client.io(each)
        if event is None:
            continue
        if event.type == "done":
            event.answer  # wrong
        if isinstance(event, Done):
            assert_type(event, Done)
            assert_type(event.answer, int)
        if isinstance(event, Untyped):
            assert_type(event, Untyped)
    only: EventMux[Done] = EventMux()
    with only as same:
        for other in same:
            if other.type == "done":
                assert_type(other, Done)
            elif other.type == "read":
                assert_type(other, Read)
    any_mux(mine)
    our_mux(mine)  # wrong
    any_mux(mux)
    our_mux(mux)


def any_mux(mux: EventMux[Event]) -> None:
    event = mux.mux()
    if isinstance(event, Read):
        mux.send(event.fh, event.data)


def our_mux(mux: EventMux) -> None:
    assert_type(mux.mux(), AnyEvent | None)


def options() -> None:
    mux.add(0, tiemout=1)  # wrong
    mux.add(0, errors="yes")  # wrong
    mux.add(0, buffered=3)  # wrong
    mux.add(0, meta_handler=answer, max_outbuffer=None, read_size=9, manual_read=True)
    mux.listen("udp://", bufferd=None)  # wrong
    mux.listen("udp://", type="dgram")  # wrong
    mux.listen("udp://", mode=0o600)
    mux.connect("udp://", timeout="1")  # wrong
    mux.connect("udp://", timeout=1, high_water=3).getsockname()
    mux.send(sock, "text")  # wrong
    mux.send("x", b"data")  # wrong
    EventMux(read_sise=1)  # wrong
    EventMux(read_size=1)


def answer(fh: Handle, data: bytes, sender: Address | None) -> str:
    return "key"
"""


@needs_checkers
@pytest.mark.slow
def test_what_type_checkers_make_of_a_program(tmp_path):
    module = typecheck.Module("program.py", PROGRAM.split("\n"))
    problems = typecheck.problems_in([module], tmp_path)
    found = {"mypy": set(), "pyright": set()}
    for problem in problems:
        found[re.search(r"\[(\w+): ", problem.text)[1]].add(problem.line)
    shown = "\n".join(map(str, problems))
    assert found == {
        "mypy": lines_that_end("# wrong") | lines_that_end("# mypy"),
        "pyright": lines_that_end("# wrong") | lines_that_end("# pyright"),
    }, shown


def lines_that_end(mark):
    return {number for number, line in enumerate(PROGRAM.split("\n"), 1) if line.endswith(mark)}


@needs_checkers
@pytest.mark.slow
def test_what_they_make_of_a_page(tmp_path):
    problems = typecheck.problems_in(modules(WRONG_PAGE), tmp_path)
    shown = {f"{problem.path}:{problem.line} {problem.text.split()[-1]}" for problem in problems}
    assert shown == {
        "page.md:3 union-attr]",
        "page.md:3 reportAttributeAccessIssue]",
        "page.md:18 -->",
    }


@needs_checkers
@pytest.mark.slow
def test_a_checker_that_does_not_run_is_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr(typecheck, "_MYPY", ["--no-such-option"])
    module = typecheck.Module("program.py", textwrap.dedent("x = 1\n").split("\n"))
    with pytest.raises(RuntimeError, match=r"(?s)mypy fails: .*no-such-option"):
        typecheck.problems_in([module], tmp_path)
