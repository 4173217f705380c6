"""A server that never gets as far as to serve."""

import sys

sys.exit(3)
