"""Hypothesis profiles: `fast` finds the same examples in every run, `deep` searches on.

HYPOTHESIS_PROFILE=deep python -m pytest
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fast", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=2000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Children of tests that root runs keep its rights, and no warning of that comes with each
os.environ.setdefault("RPC_ASYNC_URL_USER", "root")
