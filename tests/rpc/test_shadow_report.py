"""The file in which the report of a shadow is kept, and what `rpcasync shadow-report` shows."""

from __future__ import annotations

import gc
import json
import os
import re
import stat

import pytest
from support.peers import Bench, turn
from support.procedures import Procedures
from support.processes import forked
from support.programs import ROOT
from support.records import warnings_of

from eventmux import EventMux
from rpcasync import Server, Shadow
from rpcasync.cli import main
from rpcasync.shadowing.reports import ReportFile, read_report


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shadow.json"


class Reporting:
    """A server that keeps a report in a file."""

    def __init__(self, mux, path, **options):
        self.mux = mux
        self.procedures, self.old = Procedures(), Procedures()
        self.front = self.procedures.bench = Bench(mux, self.procedures)
        self.behind = self.old.bench = Bench(mux, self.old)
        self.old.rpc_add = self.old.rpc_list
        url = f"unix://{path}.sock"
        self.behind.rpc.listen(url)
        self.shadow = Shadow(mux, self.front.rpc, url, report=path, **options)
        self.peer = self.front.peer()

    def ask(self, *values):
        self.peer.send(*values)
        turn(self.mux, self.front.rpc, self.behind.rpc)
        return self.peer.read()

    def close(self):
        self.behind.rpc.close_listeners()
        self.front.close()
        self.behind.close()


@pytest.fixture
def reporting(mux, path):
    reporting = Reporting(mux, path)
    yield reporting
    reporting.close()


def counts(path, name):
    about = read_report(path)["procedures"].get(name, {})
    return about.get("equal"), about.get("different")


# The file


def test_it_is_there_from_the_start(reporting, path):
    report = read_report(path)
    assert report["procedures"] == {}
    assert report["old"] == f"unix://{path}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_difference_is_there_at_once(reporting, path):
    reporting.ask(0, "list")
    assert counts(path, "list") == (None, None)
    reporting.ask(1, "add", "n1", 1, "n2", 2)
    assert counts(path, "add") == (0, 1)
    assert counts(path, "list") == (1, 0)
    reporting.ask(2, "add", "n1", 1, "n2", 2)
    assert counts(path, "add") == (0, 1)  # that is known


def test_all_is_there_after_an_interval(reporting, path, monkeypatch):
    monkeypatch.setattr(ReportFile, "interval", 0)
    for number in range(3):
        assert reporting.ask(number, "list", 1) == [[number, 1]]
        assert counts(path, "list") == (number + 1, 0)


def test_there_is_no_timer_while_nothing_happens(reporting):
    connections = reporting.front.rpc._forwarding.connections
    turn(reporting.mux, reporting.front.rpc, reporting.behind.rpc)
    assert connections == {}
    for number in range(3):
        reporting.ask(number, "list")
        assert len(connections) == 2  # one is the timer's


def test_all_is_there_at_the_end(path):
    with EventMux() as mux:
        reporting = Reporting(mux, path)
        reporting.ask(0, "list")
        reporting.close()
    del reporting, mux
    gc.collect()
    assert counts(path, "list") == (1, 0)


def test_the_one_of_the_program_before_is_kept(mux, path):
    reporting = Reporting(mux, path)
    reporting.ask(0, "list")
    reporting.shadow._rewrite()
    before = path.read_text()
    reporting.close()
    turn(mux, reporting.front.rpc, reporting.behind.rpc)
    path.with_name("shadow.json.1").write_text("of the one before that")
    Reporting(mux, path).close()
    assert read_report(path)["procedures"] == {}
    assert path.with_name("shadow.json.1").read_text() == before


def test_an_empty_file_is_taken(mux, path):
    path.touch()
    Reporting(mux, path).close()
    assert read_report(path)["procedures"] == {}


@pytest.mark.parametrize("text", ["import rpcasync\n", '{"form": "x"}', "[1]", "\xff"])
def test_what_is_no_report_is_left_alone(mux, path, text):
    path.write_text(text, "latin-1")
    with pytest.raises(FileExistsError, match="is no shadow report, and left alone"):
        Reporting(mux, path)
    assert path.read_text("latin-1") == text
    assert not path.with_name("shadow.json.1").exists()


def test_a_folder_is_left_alone(mux, path):
    path.mkdir()
    with pytest.raises(FileExistsError, match="is no shadow report, and left alone"):
        Reporting(mux, path)
    assert path.is_dir()


def test_a_program_that_fails_as_it_starts_does_not_cost_what_was_found(reporting, path):
    reporting.ask(0, "list")
    reporting.shadow._rewrite()  # and then it is killed
    for _ in range(3):
        ReportFile(path).begin({"procedures": {}})
    assert counts(path.with_name("shadow.json.1"), "list") == (1, 0)


def test_a_forked_child_leaves_it_alone(reporting, path):
    before = path.read_bytes()
    reporting.shadow._book.tally("list").calls = 7
    assert forked(reporting.shadow._rewrite) == "None"
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_written(mux, tmp_path):
    path = tmp_path / "no" / "such"
    with pytest.raises(FileNotFoundError) as caught:
        Shadow(mux, Server(mux, {}), "tcp://127.0.0.1:1", report=path)
    assert caught.value.filename == str(path)


def test_one_that_cannot_be_written_any_more(reporting, path, caplog):
    path.unlink()
    path.mkdir()  # nothing can take its place
    (path / "x").touch()
    assert reporting.ask(0, "add", "n1", 1, "n2", 2) == [[0, "sum", 3]]
    (line,) = [each for each in warnings_of(caplog) if "report" in each]
    assert line.startswith(f"report {path} cannot be written: ")
    assert sorted(os.listdir(path.parent)) == ["shadow.json", "shadow.json.sock"]


# The command


def shown(capsys, *words):
    status = main(["shadow-report", *map(str, words)])
    return status, capsys.readouterr()


def test_no_calls(reporting, path, capsys):
    status, (out, err) = shown(capsys, path)
    assert (status, err) == (0, "")
    first, second, blank, last = out.splitlines()
    assert first.startswith(f"unix://{path}.sock, since 20")
    assert (second, blank, last) == ("clients get the new answers", "", "no calls yet")


def test_a_table(reporting, path, capsys):
    for number in range(3):
        reporting.ask(number, "list", number)
    reporting.ask(3, "add", "n1", 1, "n2", 2)
    status, (out, err) = shown(capsys, path)
    assert (status, err) == (1, "")
    head, add, listed, *rest = out.splitlines()[3:]
    assert head.split() == [
        *("procedure", "calls", "equal", "different", "skipped", "unanswered"),
        *("old", "ms", "new", "ms"),
    ]
    assert add.split()[:6] == ["add", "1", "0", "1", "0", "0"]
    assert listed.split()[:6] == ["list", "3", "3", "0", "0", "0"]
    assert rest == [
        *("", "add"),
        *("  length, 1 call", "    old list of 4", "    new list of 2"),
    ]


def test_what_was_asked_for(mux, path, capsys):
    reporting = Reporting(mux, path, sample=0.25, leave_out=["set_b", "set_a"], answer="old")
    _, (out, _) = shown(capsys, path)
    line = "clients get the old answers; 0.25 of the calls are compared; left out: set_a, set_b"
    assert out.splitlines()[1] == line
    reporting.close()


def test_json(reporting, path, capsys):
    reporting.ask(0, "add", "n1", 1, "n2", 2)
    status, (out, _) = shown(capsys, path, "--json")
    assert status == 1
    assert json.loads(out)["procedures"]["add"]["differences"][0]["kind"] == "length"
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[1]",
        "{}",
        '{"form": 1}',
        '{"form": "rpcasync shadow 2"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report(path, capsys, text):
    path.write_text(text)
    status, (out, err) = shown(capsys, path)
    assert (status, out) == (2, "")
    assert err.startswith(f"rpcasync: {path}: not a shadow report: ")


def test_one_that_is_not_there_or_no_text(tmp_path, capsys):
    status, (_, err) = shown(capsys, tmp_path / "none")
    assert (status, err) == (
        2,
        f"rpcasync: cannot read {tmp_path}/none: No such file or directory\n",
    )
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    status, (_, err) = shown(capsys, tmp_path / "bytes")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "procedures",
    [
        1,
        {"x": 1},
        {"x": {}},
        {"x": {"calls": "\x1b[2J", "different": [1]}},
        {"x\x1b[2J\n": {"differences": 1}},
        {"x": {"differences": [1, {"kind": "\x1b[2J", "place": [1], "old": {"a": "\n"}}]}},
    ],
)
def test_one_that_somebody_has_changed(reporting, path, capsys, procedures):
    report = read_report(path)
    path.write_text(json.dumps({**report, "procedures": procedures, "left_out": ["\x1b"]}))
    _, (out, err) = shown(capsys, path)
    assert err == ""
    assert all(line.isprintable() for line in out.splitlines())
    shown(capsys, path, "--json")


@pytest.mark.parametrize("sample", [-(10**400), 10**400, float("nan"), True, None, "x", [1]])
def test_a_sample_that_is_none(reporting, path, capsys, sample):
    path.write_text(json.dumps({**read_report(path), "sample": sample}))
    _, (out, err) = shown(capsys, path)
    assert err == ""
    assert "of the calls are compared" not in out


def test_options_that_need_a_shadow(capfd):
    for options in (["--answer", "old"], ["--shadow-sample", "1"], ["--shadow-except", "x"]):
        with pytest.raises(SystemExit) as end:
            main(["listen", "-u", "tcp://127.0.0.1:0", *options, __file__])
        assert end.value.code == 2
        line = f"{options[0]} goes with --shadow URL, and there is none"
        assert line in capfd.readouterr().err


@pytest.mark.parametrize("part", ["1.5", "-1", "nan", "x", ""])
def test_a_part_that_is_none(capfd, part):
    with pytest.raises(SystemExit) as end:
        main(["listen", "--shadow-sample", part, __file__])
    assert end.value.code == 2
    assert f"{part!r} is not a number from 0 to 1" in capfd.readouterr().err


def test_the_page_shows_what_is_printed(reporting, path, capsys):
    """But for the times, and the name of the old server."""
    for bench, name, tag in ((reporting.front, "Ann", None), (reporting.behind, "Bob", "")):
        procedures = reporting.procedures if name == "Ann" else reporting.old
        procedures.rpc_find = answering(bench.rpc, "count", 3)
        procedures.rpc_user = answering(bench.rpc, "name", name, "tags", ["a", tag])
    for number, name in enumerate(["find", "user", "find", "user", "find"]):
        reporting.ask(number, name)
    reporting.shadow._rewrite()
    _, (out, _) = shown(capsys, path)
    page = (ROOT / "docs" / "howto" / "shadow.md").read_text()
    block = (
        page.partition("    $ rpcasync shadow-report")[2].partition("\n")[2].partition("\n\n|")[0]
    )
    head, *lines = [line.removeprefix("    ") for line in block.splitlines()]
    assert re.fullmatch(r"\S+, since [-\dT:+]+, as of [-\dT:+]+", head)
    assert [untimed(line) for line in lines] == [untimed(line) for line in out.splitlines()[1:]]


def answering(rpc, *values):
    return lambda caller: rpc.return_(caller, *values)


def untimed(line):
    return re.sub(r" +[\d.]+ +[\d.]+$", "", re.sub(r" +old ms +new ms", "", line))
