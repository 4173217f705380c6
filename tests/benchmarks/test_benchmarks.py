"""Whoever is always there serves and asks, and gives right answers; how fast is not asserted."""

from __future__ import annotations

import sys

import pytest
from support.proxies import needs_haproxy
from support.quick import quick_first

from benchmarks import (
    forwarding,
    goals,
    route,
    scaling,
    shadowing,
    tls,
    tls_flood,
    typed,
    under_attack,
)
from benchmarks.attacks import ATTACKS
from benchmarks.calls_table import calls_section
from benchmarks.chart import Bar, draw
from benchmarks.echo_table import measure_echo_server
from benchmarks.echoes import ECHO_SERVERS
from benchmarks.meter import SHAPES
from benchmarks.peers import OURS, PEERS
from benchmarks.processes import BenchmarkFailed, call_rate
from benchmarks.report import BEGIN, END, Verdict, goals_table, write_between
from benchmarks.rounds import run_rounds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc, epoll")

_BRIEF = 0.05  # seconds
_ALWAYS = [name for name, entry in PEERS.items() if not entry.needs]


@pytest.mark.parametrize("shape", quick_first(["50x10", "echo"]))
@pytest.mark.parametrize("peer", quick_first(sorted(_ALWAYS, key="ours-json".__ne__)))
def test_each_peer_gives_right_answers(peer, shape):
    assert call_rate(peer, shape, _BRIEF, 2 * _BRIEF) > 0


@pytest.mark.parametrize(
    "name", quick_first([name for name, each in ECHO_SERVERS.items() if not each.needs])
)
def test_each_echo_server_echoes(name):
    rate, processor = measure_echo_server(name, 10, _BRIEF, _BRIEF)
    assert rate > 0
    assert processor > 0


def test_typed_images_are_beside_the_others():
    found = typed.table(rounds=2)
    assert [len(row) for row in found.rows] == [4] * 9
    assert all(float(row[3]) > 0 for row in found.rows)


@pytest.mark.slow
def test_servers_with_and_without_a_shadow_answer():
    found = shadowing.table(rounds=1, calls=20)
    assert [len(row) for row in found.rows] == [5] * 7


@pytest.mark.parametrize("ways", quick_first([forwarding.in_one_process, forwarding.to_perl]))
def test_calls_that_are_passed_on_are_beside_the_others(ways):
    with ways() as both:
        found = list(forwarding.rows("here", both, rounds=1, seconds=0.0))
    assert [len(row) for row in found] == [5] * 5
    assert all(float(row[4].split()[0]) > 0 for row in found)


@pytest.mark.parametrize("codec", ["storable", "json"])
def test_the_route_of_a_call_is_from_its_read_to_the_write_of_its_answer(codec):
    functions = [function for _, function in route.follow(codec).calls]
    assert (functions[0], functions[-1]) == ("readable", "_send_once")
    assert {"decode", "_call", "return_", "encode"} < set(functions)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_honest_client_is_asked_for_during_each_attack(name):
    siege = under_attack.besiege(name, 2 * _BRIEF)
    assert siege.survived
    assert len(siege.times) == 10
    assert siege.connections or name == "calm"


@pytest.mark.parametrize("shape", quick_first(tls.SHAPES), ids=lambda shape: shape.title)
@pytest.mark.parametrize("library", ["eventmux", "asyncio"])
def test_both_ends_of_tls_are_measured(library, shape):
    rate, processor = tls.measure(library, shape, _BRIEF, 2 * _BRIEF)
    assert rate > 0
    assert processor > 0


@pytest.mark.parametrize("name", quick_first([*reversed(tls_flood.FLOODS)]))
def test_an_honest_client_is_served_in_a_flood(name):
    wait = tls_flood.measure("eventmux", name, 0.4)
    assert (len(wait.echoes), len(wait.connections)) == (8, 2)
    assert max(*wait.echoes, *wait.connections) < tls_flood.LATE  # none was refused
    assert (wait.rate > 0) == (name != "nobody")


@needs_haproxy
def test_a_worker_and_a_balancer_are_measured(tmp_path):
    with scaling.balanced(tmp_path) as places:
        for place, count in zip(places, (1, 2), strict=True):
            run = scaling.call(place, 2, 2, _BRIEF)
            assert run.rate > 0
            assert len(run.costs) == count
            assert all(cost > 0 for cost in run.costs)
            run, memory = scaling.connect(place, 3)
            assert len(run.costs) == len(memory) == count


def test_several_workers_are_measured(tmp_path):
    with scaling.several(2, tmp_path) as place:
        run = scaling.call(place, 4, 2, _BRIEF)
    assert len(run.costs) == 2
    assert all(cost > 0 for cost in run.costs)  # each has some of the clients


def test_the_waits_under_attack_are_a_table():
    siege = under_attack.Siege([0.0005, 0.001, 20.0], 5_000_000, 2000, 7, 3_000_000, survived=True)
    row = under_attack.table({"small": siege}, 5).rows[0]
    assert row[1:] == ("1.0", "never", "never", "5", "2", "7", "3")
    siege.survived = False
    assert under_attack.table({"small": siege}, 5).rows[0][4] == "**ended**"


@pytest.mark.slow
def test_the_packages_of_another_checkout_can_be_attacked(tmp_path):
    (tmp_path / "rpcasync").mkdir()
    (tmp_path / "rpcasync" / "__init__.py").write_text("raise SystemExit('another checkout')")
    with pytest.raises(BenchmarkFailed, match="another checkout"):
        under_attack.besiege("calm", _BRIEF, tmp_path)


def test_a_peer_that_fails_says_why():
    with pytest.raises(BenchmarkFailed, match="KeyError: 'nobody'"):
        call_rate("nobody", "one", _BRIEF, _BRIEF)


def test_each_run_counts_as_its_ratio_to_the_base_around_it():
    speeds = {"base": 100.0, "fast": 200.0}

    def measure(peer, _column):
        speeds["base"] += 10  # the machine becomes faster: 110, the others, 130
        return speeds.get(peer)

    results = run_rounds(1, ["one"], ["base", "fast", "failing"], "base", measure)
    assert results["fast", "one"].ratios == {1: 200 / ((110 + 140) / 2)}
    assert results["again", "one"].ratios == {1: 140 / 110}
    assert ("failing", "one") not in results


def test_a_missed_goal_comes_first_and_is_not_in_the_tables():
    rates = {"ours-json": 3.0, "ours-storable": 3.0, "uvloop": 2.5, "asyncio": 1.0}
    columns = [shape.name for shape in SHAPES]
    results = run_rounds(2, columns, list(rates), "asyncio", lambda peer, _: rates[peer])
    section = calls_section(results)
    assert "| uvloop by hand | json | 1.20 (1.20-1.20) | 1.20 (1.20-1.20) |" in (
        section.tables[0].markdown()
    )
    rows = goals_table(section.verdicts).rows
    words = [row[-1] for row in rows]
    assert words == sorted(words)  # bold comes before plain
    assert {*words} == {"met", "**missed**"}


def test_goals_are_for_peers_that_there_are():
    assert {peer for peer, _ in goals.CALLS} | set(OURS) == set(PEERS)
    assert tuple(shape.name for shape in SHAPES) == goals.COLUMNS
    assert set(goals.ECHO) | {"eventmux"} == set(ECHO_SERVERS)


def test_what_stands_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="no markers"):
        write_between(page, "new")


def test_the_chart_is_xml_with_a_bar_for_each():
    from xml.etree import ElementTree

    text = draw("a & b", {"one": [Bar("<x>", 1.0), Bar("y", 2.0, is_ours=True)]})
    bars = ElementTree.fromstring(text).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 3  # and the background


def test_a_verdict_is_a_row():
    table = goals_table([Verdict("x", "one", "2", "1.00", is_met=False)])
    assert table.title == "Goals: 1 missed, 0 met"
    assert table.rows == [("x", "one", "2", "1.00", "**missed**")]
