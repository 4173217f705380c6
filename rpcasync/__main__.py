"""`python -m rpcasync`: the command line."""

import sys

from rpcasync.cli import main

sys.exit(main())
