"""A Perl client of a server that answers late, or not in time, and knows who has gone."""

import shutil

import pytest
from support.programs import PERL, ROOT, listening, run

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

LINE = (
    "WARNING rpcasync: procedure wait_for did not answer within 0.5 s:"
    " its client gets the error timeout-server"
)
# As RPC::Async 2.0 has it, under both keys that releases of it read.
LATE = "error=timeout-server errors=[timeout-server]"
SAID = [
    *("enter: ", "enter: ", "wait_for bob: name=bob", f"wait_for eve: {LATE}", "present: ann"),
]


def test_a_perl_client_hears_that_the_time_is_over():
    with listening(ROOT / "examples" / "meeting_server.py") as (address, server):
        result = run("perl", PERL / "meeting_client.pl", address)
    assert (result.stdout.splitlines(), result.stderr) == (SAID, "")
    assert server.log.count(LINE) == 1
