"""A clock that only the tests move, the profiles of hypothesis, and quick collections.

`fast` and `thorough` find the same examples in every run, `deep` searches on:

    HYPOTHESIS_PROFILE=deep python -m pytest
"""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings
from support.fakes import ClockedSelector, FakeClock
from support.programs import ROOT

from eventmux import EventMux
from rpcasync._log import repeats

settings.register_profile("fast", deadline=None, max_examples=10, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=2000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A job in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Else each program that a test starts would compile both packages anew: twice the time of a run.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Children of tests that root runs keep its rights, and no warning of that comes with each
os.environ.setdefault("RPC_ASYNC_URL_USER", "root")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """Spare what is there before the tests of a file for `gc.collect()`, which many of them call.

    With thousands of tests collected each call would take a tenth of a second or more.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logs_begin_anew():
    """Have no test count what others have logged."""
    repeats.flush()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def selector(clock):
    return ClockedSelector(clock)


@pytest.fixture
def timed(clock, selector):
    """A mux on a fake clock: it never waits, and waiting for ever is an error."""
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        yield mux


@pytest.fixture(scope="session")
def python_for_all():
    """A Python that the user nobody can run this package with."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can start programs as somebody else")
    check = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import rpcasync"
    candidates = [
        sys.executable,
        *(shutil.which(f"python3.{n}", path=os.defpath) for n in range(10, 20)),
    ]
    for python in filter(None, [*candidates, shutil.which("python3", path=os.defpath)]):
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-c", check], user="nobody", check=False).returncode == 0:
                return python
    return pytest.skip("nobody can run no Python with this checkout")
