"""`rpcasync health` and `rpcasync stats`: what they print, and how they end."""

import re
import shutil
import signal
import socket
import sys

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, Program, listening, perl_listening, run

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
PATIENT = "--timeout", str(LIMIT)  # a busy machine may take more than the second of a probe
COMMENT = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([0-9.e+-]+|\+Inf)"
)


def rpcasync(*words):
    return run(sys.executable, "-m", "rpcasync", *words)


def told(result):
    return result.returncode, result.stdout, result.stderr


def read_prometheus(text):
    """Check text against the rules of the format, 0.0.4; return the samples by series."""
    assert text.endswith("\n")
    samples, kinds, current, done = {}, {}, None, set()
    for line in text.split("\n")[:-1]:
        assert line.isprintable(), ascii(line)
        if line.startswith("#"):
            word, name, rest = COMMENT.fullmatch(line).groups()
            if word == "HELP":
                assert name not in done | {current}  # the lines of a metric stand together
                done.add(current)
                current = name
            else:
                assert name == current
                assert rest in ("counter", "gauge", "histogram")
                kinds[name] = rest
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        family = name
        if kinds[current] == "histogram":
            family = re.sub("_(bucket|sum|count)$", "", name)
        elif kinds[current] == "counter":
            assert name.endswith("_total")
        assert family == current
        series = f"{name}{{{labels or ''}}}"
        assert series not in samples
        samples[series] = float(value)
    check_histograms(samples, [name for name, kind in kinds.items() if kind == "histogram"])
    return samples


def check_histograms(samples, names):
    for name in names:
        by_labels = {}
        for series, value in samples.items():
            match = re.fullmatch(rf'{name}_bucket{{(.*),le="([^"]*)"}}', series)
            if match:
                by_labels.setdefault(match[1], []).append((float(match[2]), value))
        assert by_labels
        for labels, buckets in by_labels.items():
            assert buckets == sorted(buckets)
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            assert buckets[-1] == (float("inf"), samples[f"{name}_count{{{labels}}}"])
            assert f"{name}_sum{{{labels}}}" in samples


# health


def test_a_server_that_is_well():
    with listening() as (address, _):
        assert told(rpcasync("health", address, *PATIENT)) == (0, "ok\n", "")


def test_nobody_is_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        code, out, err = told(rpcasync("health", url, *PATIENT))
    assert (code, out) == (1, "")
    assert err == f"rpcasync: health: {url}: Connection refused: is the server running?\n"


def test_a_server_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        result = rpcasync("health", url, "--timeout", "0.1")
    assert told(result) == (1, "", "rpcasync: health: no answer within 0.1 seconds\n")


def test_it_takes_a_second_by_default():
    assert "default: 1\n" in rpcasync("health", "--help").stdout


@pytest.mark.parametrize("words", [[], ["udp://127.0.0.1:1"], ["tcp://127.0.0.1:1", "x"]])
def test_what_is_no_command(words):
    code, out, err = told(rpcasync("health", *words))
    assert (code, out) == (2, "")
    assert err


@needs_perl
@pytest.mark.parametrize(
    ("program", "has"),
    [
        ("definitions_server.pl", "no procedure health"),
        ("old_server.pl", "neither health nor methods"),
    ],
)
def test_a_perl_server_without_such_a_procedure(program, has):
    with perl_listening(program=PERL / program) as address:
        result = rpcasync("health", address, *PATIENT)
        assert told(result) == (0, f"ok: it answers, and has {has}\n", "")
        line = "rpcasync: the server has no procedure stats: it is in Perl, or old\n"
        assert told(rpcasync("stats", address)) == (1, "", line)


def test_a_status_that_would_write_on_the_terminal():
    with listening(PROGRAMS / "evil_stats.py") as (address, _):
        code, out, err = told(rpcasync("health", address, *PATIENT))
    assert (code, err) == (1, "")
    assert out.endswith("\n")
    assert out[:-1].isprintable()


# stats


def test_the_numbers_for_people():
    with listening() as (address, server):
        rpcasync("stats", address)  # counts from here on
        rpcasync("call", address, "add_numbers", "n1=1", "n2=2")
        rpcasync("call", address, "refuse", "why=no")
        code, out, err = told(rpcasync("stats", address))
    assert (code, err) == (0, "")
    status, clients, calls, _, ended, head, *rows = out.splitlines()
    assert re.fullmatch(rf"ok, up [0-9.]+ m?s, process {server.process.pid}", status)
    assert clients == "clients 1, accepted 4, refused 0"
    assert calls == "calls running 0, waiting 0; bytes queued 0"
    assert ended.startswith("ended answered 1, fault 1, counted for ")
    assert head.split() == ["procedure", "calls", "calls/s", "errors", "p50", "p99"]
    assert [(row.split()[0], row.split()[1], row.split()[3]) for row in rows] == [
        ("add_numbers", "1", "0"),
        ("refuse", "1", "1"),
    ]


def test_the_numbers_for_prometheus():
    with listening() as (address, _):
        rpcasync("stats", address)
        rpcasync("call", address, "add_numbers", "n1=1", "n2=2")
        rpcasync("call", address, "nothing_like_it")
        code, out, err = told(rpcasync("stats", address, "--prometheus"))
    assert (code, err) == (0, "")
    samples = read_prometheus(out)
    assert samples["rpcasync_clients{}"] == 1
    assert samples['rpcasync_status{status="ok"}'] == 1
    assert samples['rpcasync_calls_total{outcome="refused"}'] == 1
    answered = 'procedure="add_numbers",outcome="answered"'
    assert samples[f"rpcasync_procedure_calls_total{{{answered}}}"] == 1
    assert samples['rpcasync_call_duration_seconds_count{procedure="add_numbers"}'] == 1
    assert "nothing" not in out


def test_what_a_hostile_server_sends_stays_on_its_line():
    with listening(PROGRAMS / "evil_stats.py") as (address, _):
        shown = rpcasync("stats", address)
        scraped = rpcasync("stats", address, "--prometheus")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(line.isprintable() for line in shown.stdout.split("\n"))
    assert max(map(len, shown.stdout.split("\n"))) <= 100
    samples = read_prometheus(scraped.stdout)
    assert scraped.returncode == 0
    assert not any(series.startswith("rpcasync_up{") for series in samples)
    assert samples["rpcasync_clients{}"] == 1
    assert "rpcasync_calls_running{}" not in samples  # 2**70 are not believed


def test_an_answer_that_is_something_else(tmp_path):
    program = tmp_path / "server.py"
    source = (PROGRAMS / "evil_stats.py").read_text()
    body = "\n\ndef rpc_stats(caller: Caller) -> None:\n    rpc.return_(caller, 5)\n\n\nmux ="
    program.write_text(source.replace("\n\nmux =", body))
    with listening(program) as (address, _):
        line = "rpcasync: stats: the server answered something else than its stats\n"
        assert told(rpcasync("stats", address)) == (1, "", line)


def test_watching_until_ctrl_c():
    with listening() as (address, _):
        words = ["stats", address, "--watch", "0.05"]
        watching = Program([sys.executable, "-m", "rpcasync", *words])
        try:
            seen = 0
            while seen < 3:
                seen += watching.stdout.readline().startswith("ok, up ")
            watching.process.send_signal(signal.SIGINT)
            watching.stdout.read()
            assert watching.process.wait(LIMIT) == 0
            assert watching.log == []
        finally:
            watching.stop()


def test_watching_a_server_that_goes():
    with listening() as (address, server):
        words = ["stats", address, "--watch", "600"]
        watching = Program([sys.executable, "-m", "rpcasync", *words])
        try:
            assert watching.stdout.readline().startswith("ok, up ")
            server.process.kill()
            assert watching.process.wait(LIMIT) == 1
            assert address in watching.wait_for_log("rpcasync: ")
        finally:
            watching.stop()
