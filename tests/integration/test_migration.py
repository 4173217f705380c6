"""The worked migration: a Perl server of ten procedures becomes a Python one, a few at a time.

Everything runs in a copy of examples/migration, as a new user has it.
"""

import re
import shutil

import pytest
from support.documents import free_port
from support.programs import ROOT
from support.sessions import Session

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

EXAMPLE = ROOT / "examples" / "migration"
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
