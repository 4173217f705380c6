"""The benchmark runs, checks each echo, and prints its three tables."""

import sys
from pathlib import Path

import pytest
from support.programs import run

BENCH = Path(__file__).with_name("bench_mux.py")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, epoll")
def test_a_quick_run_prints_three_tables():
    done = run(sys.executable, BENCH, "--quick")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    heads = [row for row in rows if "| server" in row]
    assert len(heads) == 3
    for server in ("eventmux", "selectors", "asyncio"):
        assert sum(f"| {server} |" in row for row in rows) == 5
