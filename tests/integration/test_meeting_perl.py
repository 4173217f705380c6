"""A Perl client of a server that answers late, or not in time, and knows who has gone."""

import shutil

import pytest
from support.programs import PERL, ROOT, listening, run

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

# As RPC::Async 2.0 has it, under both keys that releases of it read.
LATE = "error=timeout-server errors=[timeout-server]"
SAID = [
    *("enter: ", "enter: ", "wait_for bob: name=bob", f"wait_for eve: {LATE}", "present: ann"),
    f"wait_for bob: {LATE}",
]


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_perl_client_hears_that_the_time_is_over(scheme, tmp_path):
    url = "tcp://127.0.0.1:0" if scheme == "tcp" else f"unix://{tmp_path}/socket"
    with listening(ROOT / "examples" / "meeting_server.py", url=url) as (address, server):
        result = run("perl", PERL / "meeting_client.pl", address)
    assert (result.stdout.splitlines(), result.stderr) == (SAID, "")
    line = (
        "procedure wait_for did not answer within 0.5 s: its client gets the error timeout-server"
    )
    assert server.log.count(line) == 2
