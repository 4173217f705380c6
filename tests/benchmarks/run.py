"""Measure everything against what is installed, and print the tables.

    python tests/benchmarks/run.py [--quick] [--rounds N] [--seconds S] [--tables NAME ...]
                                   [--peers NAME ...] [--write-docs]

It takes about 12 minutes, with `--quick` 2, and measures the packages of this tree, installed or
not. `pip install '.[bench]'` brings the peers; those that are missing are left out. Linux.
docs/benchmarks.md tells how to read it; `--write-docs` puts the tables there, but for the goals,
which are for whoever works on the packages.
"""

import runpy
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    # This folder is a package, found in tests/, like that of the tests' support.
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]
    runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
