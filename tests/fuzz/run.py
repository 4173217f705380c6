"""Give bytes to all that reads bytes from strangers, for some minutes, and print what came of it.

    python tests/fuzz/run.py [--minutes N | --inputs N] [--target NAME ...] [--seed N] [--jobs N]
                             [--keep DIR] [--write-docs]
    python tests/fuzz/run.py --target NAME --replay FILE

The exit status is 1 if anything escaped: an exception that is not allowed, a property that did not
hold, a hang, a process that ended. Each kind is printed with its input, shortened; with `--keep`
the inputs are written to a directory, and `--replay` runs one again. The table has, for each
target, how many inputs there were, the most processor time that one took for each KB, and the
most memory for each byte; docs/attacks.md has more. The packages are those of this tree, installed
or not.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    # This folder is a package, found in tests/, like that of the tests' support.
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]
    from fuzz.campaign import main

    sys.exit(main())
