"""The worked migration: a Perl server of ten procedures becomes a Python one, a few at a time.

Everything runs in a copy of examples/migration, as a new user has it.
"""

import json
import re
import shutil

import pytest
from support.documents import blocks, free_port
from support.programs import ROOT
from support.sessions import Session

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

EXAMPLE = ROOT / "examples" / "migration"
PAGE = ROOT / "docs" / "migrating.md"
OLD = "perl://./old.pl"
PROCEDURES = [
    *("deliver", "part", "price", "search", "stock"),
    *("stocktake", "surplus", "take", "watch", "weigh"),
]
FAULTY = "(part.quantity - part.keep) // part.box"
MENDED = "int((part.quantity - part.keep) / part.box)"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "stores")


@pytest.fixture
def session(folder, tmp_path):
    session = Session(folder, tmp_path / "tools")
    yield session
    session.interrupt()


@pytest.fixture
def url():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def before(session, folder, url):
    """What the client in Perl prints before anything is ported."""
    session.serve(f"perl listen.pl -u {url} old.pl")
    printed = session.do(f"perl client.pl {url}")
    session.interrupt()
    return printed


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_old_server_and_its_client(session, before):
    for name in PROCEDURES:
        assert re.search(f"^{name} ?[^:]*: ", before, re.MULTILINE), name
    assert session.do(f"rpcasync methods --names {OLD}").splitlines() == PROCEDURES


@pytest.mark.parametrize(
    "step",
    [
        "step3.py",
        pytest.param(f"--fallback {OLD} step1.py", marks=pytest.mark.slow),
        pytest.param(f"--fallback {OLD} step2.py", marks=pytest.mark.slow),
    ],
)
def test_each_step_answers_as_the_old_server_did(session, url, folder, before, step):
    parts = (folder / "parts.tsv").read_text()
    if step.endswith("step2.py"):
        change(folder / "step2.py", FAULTY, MENDED)
    session.serve(f"rpcasync listen -u {url} {step}")
    assert session.do(f"perl client.pl {url}") == before
    assert session.do(f"python load.py {url} 2") == "42 answers"
    assert session.do(f"rpcasync methods --names {url}").splitlines() == PROCEDURES
    assert session.interrupt() == ["rpcasync: interrupted"]
    assert (folder / "parts.tsv").read_text() == parts


@pytest.mark.slow
def test_the_old_server_may_stay_a_service_of_its_own(session, url, folder, before, tmp_path):
    old = Session(folder, tmp_path / "others")
    behind = f"unix://{tmp_path}/old.sock"
    for _ in range(2):  # the second time the socket's file is there
        old.serve(f"perl listen.pl -u {behind} old.pl")
        session.serve(f"rpcasync listen -u {url} --fallback {behind} step1.py")
        assert session.do(f"perl client.pl {url}") == before
        session.interrupt()
        old.interrupt()


def test_back_to_the_old_server(session, url):
    session.serve(f"rpcasync listen -u {url} step3.py")
    assert session.do(f"rpcasync call {url} take number=98 count=39") == "left=1"
    session.interrupt()
    session.serve(f"perl listen.pl -u {url} old.pl")
    assert session.do(f"rpcasync call {url} take number=98 count=1") == "left=0"


def use(session, url):
    """Have both clients make their calls."""
    session.do(f"perl client.pl {url}")
    assert session.do(f"python load.py {url} 10") == "210 answers"


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["old", "new"])
def test_the_shadow_finds_the_mistake_and_nothing_else(session, url, before, answer):
    options = f"--shadow {OLD} --shadow-report shadow.json --answer {answer}"
    session.serve(f"rpcasync listen -u {url} --fallback {OLD} {options} step2.py")
    use(session, url)
    answers = session.do(f"perl client.pl {url}")
    assert (answers == before) == (answer == "old")
    assert [line for line in session.interrupt() if "WARNING" in line] == [
        "WARNING rpcasync: procedure surplus differs from the old one: boxes: value: old -1, new -2"
    ]
    report = session.run("rpcasync shadow-report --json shadow.json")
    found = json.loads(report.stdout)["procedures"]
    different = {name: about["different"] for name, about in found.items()}
    ported = ["part", "price", "search", "stock", "surplus", "weigh"]
    assert different == dict.fromkeys(ported, 0) | {"surplus": 12}
    assert not any(about["unanswered"] for about in found.values())
    assert report.returncode == 1


MISTAKES = {  # what each of them would have been in step3.py, and where it shows
    "surplus boxes": (MENDED, FAULTY),
    "search [0]": ("*found)", "*sorted(map(str, found)))"),
    "part supplier": ('"".join(supplier) or None', '"".join(supplier)'),
    "price total": ("count < 10", "count <= 10"),
    "weigh weight": (".15g", ".1g"),
    "stocktake value": ("float(part.price)", "int(float(part.price))"),
    "take ": ("only {part.quantity} of", "only {part.quantity} pieces of"),
    "watch left": ("number=number, left=left", "number=number, left=part.quantity"),
}


@pytest.mark.slow
def test_replay_finds_each_mistake_where_it_is(session, url, folder):
    shutil.copy(folder / "parts.tsv", folder / "start.tsv")
    session.serve(f"rpcasync record -u {url} --to {OLD} calls.jsonl", 2)
    use(session, url)
    session.interrupt()
    assert replay(session, "step3.py") == (set(), 0)
    for place, (right, wrong) in MISTAKES.items():
        shutil.copy(folder / "start.tsv", folder / "parts.tsv")
        shutil.copy(folder / "step3.py", folder / "wrong.py")
        change(folder / "wrong.py", right, wrong)
        assert replay(session, "wrong.py") == ({place}, 1)


def replay(session, program):
    """Return the procedures and places in which answers differ, and the exit status."""
    done = session.run(f"rpcasync replay --compare --json calls.jsonl python://{program}")
    summary = json.loads(done.stdout)
    assert summary["answered"] == summary["calls"] == 227
    places = {f"{each['procedure']} {each['path']}" for each in summary["differences"]}
    return places, done.returncode


@pytest.mark.slow
def test_the_page(session):
    port = free_port()
    for block in blocks(PAGE, "console"):
        session.follow(block.replace("7007", port))
