"""The file of recorded calls: what is written comes back, whatever it is and wherever it ends."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import recordings
from support.strategies import odd_images

from rpcasync.errors import DecodeError
from rpcasync.recording.lines import (
    CallLine,
    Header,
    Late,
    parse_line,
)
from rpcasync.recording.reader import Recording
from rpcasync.recording.redaction import REDACTED, Redaction
from rpcasync.recording.tagged import parse, to_text, untag
from rpcasync.recording.writer import RecordingError, Writer
from rpcasync.storable import Blessed, Regexp, ScalarRef
from rpcasync.wire.codecs import StorableCodec
from rpcasync.wire.messages import CallbackRef

# ---- values ------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=4),
    st.sampled_from(
        ["$bytes", "$", "$dict", "\ud83d\ude00", "\U0001f600", "\x9b2J", '"$', "\\ud8"]
    ),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    texts,
    st.binary(max_size=20),
    st.builds(Regexp, texts, texts),
    st.builds(CallbackRef, st.one_of(st.integers(0, 2**40), st.just("17"))),
)


def _holders(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(values, max_size=4),
        st.dictionaries(texts, values, max_size=4),
        values.map(ScalarRef),
        st.builds(Blessed, texts, values),
    )


trees = st.recursive(leaves, _holders, max_leaves=15)


def shown(value: object) -> str:
    """Tell values apart as `==` does not: 1 and True, NaN, the order of a dict."""
    return repr(value)


def back(value: object) -> object:
    return untag(parse(to_text(value)))


@given(trees)
def test_values_come_back(value: object) -> None:
    text = to_text(value)
    assert text.isascii()
    assert text.isprintable()
    assert shown(back(value)) == shown(value)


def test_long_texts_that_are_bytes_take_no_more_than_they_should() -> None:
    octets = "\xff\x00\xd8\x89" * 10_000  # as a Perl program sends an image
    text = to_text(["image", octets])
    assert '{"$latin1": "/wDY' in text
    assert len(text) < 1.5 * len(octets)
    for value in (octets, octets[:255], "caf\xe9 " * 1000, f"{octets}\u0100", {octets: octets}):
        assert back([value]) == [value]


def test_a_number_of_very_many_digits_comes_back() -> None:
    for number in (10**5000, -(2**4096), 10**1232):
        is_same = back([number]) == [number]
        assert is_same  # which pytest could not show


@given(odd_images)
def test_what_a_decoder_gives_comes_back(image: bytes) -> None:
    try:
        value = StorableCodec().decode(image)
    except DecodeError:
        return
    assert shown(back(value)) == shown(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["n1", 2, "x", 1.5, None, True], '["n1", 2, "x", 1.5, null, true]'),
        (b"text", '{"$bytes": "text"}'),
        (b"\x00\x01\xff", '{"$base64": "AAH/"}'),
        (math.nan, '{"$float": "nan"}'),
        (-math.inf, '{"$float": "-inf"}'),
        ("\ud800a", '{"$text": [55296, 97]}'),
        ({"$a": 1, "b": 2}, '{"$dict": [["$a", 1], ["b", 2]]}'),
        (ScalarRef(3), '{"$ref": 3}'),
        (Blessed("A::B", {"x": 1}), '{"$blessed": ["A::B", {"x": 1}]}'),
        (Regexp("^a", "i"), '{"$regexp": ["^a", "i"]}'),
        (CallbackRef(7), '{"$callback": 7}'),
        ("$bytes", '"$bytes"'),
    ],
)
def test_how_values_stand_there(value: object, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"$nothing": 1}',
        '{"$bytes": 1}',
        '{"$bytes": "\\u00ff"}',
        '{"$base64": "A"}',
        '{"$float": "12"}',
        '{"$int": 3}',
        '{"$text": [1114112]}',
        '{"$text": "a"}',
        '{"$dict": [[1]]}',
        '{"$dict": [[[], 1]]}',
        '{"$dict": [[-1, 1]]}',
        '{"$blessed": ["A"]}',
        '{"$blessed": [1, 2]}',
        '{"$regexp": "a"}',
        '{"$callback": null}',
        '{"$ref": 1, "a": 2}',
        '{"a": {"$": 1}}',
    ],
)
def test_a_bad_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"bad \$|no tag|other keys"):
        untag(parse(text))


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "", "[1", "[" * 100_000, "1 2"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|deeply|Expecting|Extra"):
        parse(text)


def test_values_nested_too_deeply_are_refused() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        to_text(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        Redaction(["x"]).apply("p", [value])


# ---- redaction ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["user", "ann", "password", "s3cret"], ["user", "ann", "password", REDACTED]),
        (["password", "s3cret", "user", "ann"], ["password", REDACTED, "user", "ann"]),
        ([{"password": ["s3cret"], "a": 1}], [{"password": REDACTED, "a": 1}]),
        ([b"password", "s3cret"], [b"password", REDACTED]),
        ([ScalarRef({"password": "s3cret"})], [ScalarRef({"password": REDACTED})]),
        ([Blessed("A", {"password": 1})], [Blessed("A", {"password": REDACTED})]),
        ([[["password", "s3cret"]]], [[["password", REDACTED]]]),
        (["password"], ["password"]),
        (["passwords", 1], ["passwords", 1]),
    ],
)
def test_values_are_taken_out_by_name(values: list[object], expected: list[object]) -> None:
    assert Redaction(["password"]).apply("login", values) == expected


def test_all_of_a_procedure_is_taken_out() -> None:
    redaction = Redaction([], ["login"])
    assert redaction.apply("login", ["ann", "s3cret"]) == [REDACTED]
    assert redaction.apply("logout", ["ann"]) == ["ann"]


def test_what_needs_no_redaction_is_the_same_list() -> None:
    values: list[object] = [{"a": [1, 2]}, "b", ScalarRef(2)]
    assert Redaction(["password"]).apply("p", values) is values


@pytest.mark.parametrize(
    "key", ["p\xe4sswort", "p\xe4sswort".encode(), "p\xe4sswort".encode().decode("latin-1")]
)
def test_a_name_as_octets_of_utf_8_is_the_same_name(key):
    redaction = Redaction(["p\xe4sswort"], ["pr\xfcfe"])
    assert redaction.apply("p", [key, "s3cret"]) == [key, REDACTED]
    assert redaction.may_hit(to_text([key, "s3cret"]))
    assert redaction.apply("pr\xfcfe".encode().decode("latin-1"), ["s3cret"]) == [REDACTED]


secrets = st.recursive(
    st.just("s3cret"), lambda inner: st.lists(inner, max_size=3) | inner.map(ScalarRef)
)


@given(trees, secrets, texts)
def test_nothing_of_it_stands_in_the_text(tree: object, secret: object, name: str) -> None:
    redaction = Redaction([name])
    for values in ([tree, {name: secret}], [[name, secret], tree], [Blessed("A", {name: secret})]):
        assert redaction.may_hit(to_text(values))
        assert "s3cret" not in to_text(redaction.apply("p", values))


@given(trees, texts)
def test_a_text_that_cannot_have_the_name_has_nothing_to_take_out(tree: object, name: str) -> None:
    redaction = Redaction([name])
    if not redaction.may_hit(to_text([tree])):
        values = [tree]
        assert redaction.apply("p", values) is values


# ---- lines -------------------------------------------------------------------------------


def call_line(number: int) -> str:
    return recordings.call_line(number, "add", ["n1", 2], ["sum", 3], at=0.5 * number)


def test_a_line_says_all_of_a_call() -> None:
    text = call_line(3)
    line = parse_line(text)
    assert line == CallLine(
        client=1,
        call=3,
        procedure="add",
        time="2027-01-15T08:00:01.500000Z",
        at=1.5,
        took=0.25,
        codec="perl",
        arguments=["n1", 2],
        ended="answer",
        answer=["sum", 3],
    )
    assert json.loads(text)["procedure"] == "add"  # for jq and others


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("client", 0, '"client" is 0'),
        ("call", True, '"call" is True'),
        ("call", 2**70, "71 bits"),
        ("procedure", 1, '"procedure" is 1'),
        ("at", -1, '"at" is -1'),
        ("took", "1", '"took" is'),
        ("codec", "xml", "\"codec\" is 'xml'"),
        ("ended", None, '"ended" is None'),
        ("arguments", "x" * 99, '"arguments" is'),
        ("answer", {"a": 1}, '"answer" is a dict of 1'),
        ("callbacks", {}, '"callbacks" is'),
        ("callbacks", [[1]], "a callback"),
        ("callbacks", [[None, []]], "a callback"),
        ("skipped", {"answer": "x"}, '"skipped" is'),
        ("redacted", [1], '"redacted" is'),
        ("late", [1, 2], "a callback"),
    ],
)
def test_a_bad_line_says_what_is_wrong(key: str, value: object, says: str) -> None:
    keys = json.loads(call_line(3))
    keys[key] = value
    with pytest.raises(ValueError, match=says):
        parse_line(json.dumps(keys))


@given(st.one_of(st.text(max_size=60), st.recursive(leaves, _holders).map(to_text)))
def test_any_line_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_line(text)


def test_late_calls_have_a_line_of_their_own() -> None:
    line = parse_line('{"at": 2, "client": 1, "call": 3, "late": [7, ["x"]]}')
    assert line == Late(1, 3, 2.0, (7, ["x"]))


# ---- files -------------------------------------------------------------------------------


def written(path: Path, *lines: str, session: str = "s1", **options: int) -> Writer:
    writer = Writer(str(path), Header(session), **options)
    for line in lines:
        writer.add(line)
    writer.close()
    return writer


def numbers(path: Path) -> list[tuple[int, int]]:
    with Recording(str(path)) as recording:
        return [(each.session, each.line.call) for each in recording]


def problems(path: Path) -> list[tuple[int, str, bool]]:
    with Recording(str(path)) as recording:
        return [(each.number, each.reason, each.is_cut) for each in recording.problems]


def test_calls_come_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(2), call_line(3), call_line(1))
    assert numbers(path) == [(0, 1), (0, 2), (0, 3)]
    assert problems(path) == []


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    mask = os.umask(0)
    try:
        written(path, call_line(1))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        written(path, call_line(1))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(mask)


def test_a_recording_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(1))
    written(path, call_line(1), session="s2")
    assert numbers(path) == [(0, 1), (1, 1)]


def test_what_is_no_recording_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    for content in (b"mine", b"{}\n", b"\xff\xfe\n", call_line(1).encode()):
        path.write_bytes(content)
        reason = "not a recording, so nothing is added to it: it does not begin with a header"
        with pytest.raises(RecordingError, match=reason):
            written(path)
        with pytest.raises(RecordingError, match="not a recording"):
            Recording(str(path))
        assert path.read_bytes() == content
    with pytest.raises(RecordingError, match="not a regular file"):
        Writer("/dev/null", Header("s"))
    with pytest.raises(OSError, match="directory"):
        Writer(str(tmp_path), Header("s"))


def test_another_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(1))
    path.write_text(path.read_text() + Header("s2").line().replace('"version": 1', '"version": 2'))
    with pytest.raises(RecordingError, match="line 3: of version 2; this program reads 1"):
        Recording(str(path))


def test_two_cannot_record_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    first = Writer(str(path), Header("s1"))
    with pytest.raises(RecordingError, match="another program records to it"):
        Writer(str(path), Header("s2"))
    first.close()
    written(path, call_line(1), session="s3")
    assert numbers(path) == [(1, 1)]


def test_a_line_that_is_too_long_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcasync.recording.reader._LONGEST", 1000)
    line = recordings.call_line(1, "echo", ["x" * 2000])
    path = recordings.write_recording(tmp_path / "calls", line, recordings.call_line(2))
    with Recording(str(path)) as recording:
        assert [each.line.call for each in recording] == [2]
        (problem,) = recording.problems
    assert (problem.number, problem.is_cut) == (2, False)
    assert problem.reason == "longer than 1000 bytes"


def test_a_recording_that_is_cut_anywhere_is_read_and_continued(tmp_path: Path) -> None:
    path, lines = tmp_path / "calls", [call_line(1), call_line(2)]
    written(path, *lines)
    whole = path.read_bytes()
    head = len(whole) - sum(map(len, lines))
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        count = 0 if end < head else (end - head + 1) // len(lines[0])  # its end may be missing
        assert numbers(path) == [(0, number + 1) for number in range(count)], end
        found = problems(path)
        is_cut = end and end not in (
            head - 1,
            *(head + number * len(lines[0]) - less for number in range(3) for less in (0, 1)),
        )
        assert [cut for _, _, cut in found] == [True] * bool(is_cut), end
        # The next one that records goes on behind it.
        written(path, call_line(1), session="s2")
        assert len(numbers(path)) == count + 1, end
        assert all(cut for _, _, cut in problems(path))


def test_broken_lines_are_told_by_number_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(1), "{]\n", call_line(2), '{"call": 1}\n', "\n", call_line(3))
    assert [call for _, call in numbers(path)] == [1, 2, 3]
    found = problems(path)
    assert [(number, cut) for number, _, cut in found] == [(3, False), (5, False), (6, False)]


def test_a_line_that_is_not_ascii_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(1))
    with open(path, "ab") as file:
        file.write(b"\xff\x00\n" + call_line(2).encode())
    assert [call for _, call in numbers(path)] == [1, 2]
    assert [number for number, _, _ in problems(path)] == [3]


def test_late_calls_of_callbacks_go_with_their_call(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    late = '{"at": 2, "client": 1, "call": 1, "late": [7, ["x"]]}\n'
    released = late.replace('["x"]', "null")
    written(path, call_line(1), late, call_line(2), released, max_size=300, keep=9)
    with Recording(str(path)) as recording:
        callbacks = {each.line.call: each.line.callbacks for each in recording}
    assert callbacks == {1: [(7, ["x"]), (7, None)], 2: []}


# ---- rotation ----------------------------------------------------------------------------


def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    path, count = tmp_path / "calls", 40
    size = 4 * len(call_line(1))
    written(path, *(call_line(number + 1) for number in range(count)), max_size=size, keep=99)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 5
    assert all(file.stat().st_size <= size for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert numbers(path) == [(0, number + 1) for number in range(count)]
    path.unlink()  # killed between two files
    assert 0 < len(numbers(path)) < count


def test_a_file_may_be_as_long_as_the_limit(tmp_path: Path) -> None:
    written(tmp_path / "calls", call_line(1))
    header = (tmp_path / "calls").stat().st_size - len(call_line(1))
    size = header + 3 * len(call_line(1))
    written(tmp_path / "full", *map(call_line, range(1, 4)), max_size=size)
    assert (tmp_path / "full").stat().st_size == size
    written(tmp_path / "more", *map(call_line, range(1, 5)), max_size=size)
    assert (tmp_path / "more.1").stat().st_size == size


def test_the_oldest_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    lines = [call_line(number + 1) for number in range(40)]
    written(path, *lines, max_size=4 * len(lines[0]), keep=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calls", "calls.1", "calls.2"]
    found = [call for _, call in numbers(path)]
    assert found == list(range(41 - len(found), 41))


def test_a_line_may_be_longer_than_a_file(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, *(call_line(number + 1) for number in range(3)), max_size=1, keep=9)
    assert [call for _, call in numbers(path)] == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 3


def test_other_files_beside_it_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    written(path, call_line(1))
    for name in ("calls.gz", "calls.0", "calls.1x", "xcalls.1", "calls.01"):
        (tmp_path / name).write_text("no recording")
    assert numbers(path) == [(0, 1)]
    with pytest.raises(FileNotFoundError):
        Recording(str(tmp_path / "none"))


@pytest.mark.parametrize("options", [{"max_size": 0}, {"keep": 0}])
def test_limits_start_at_1(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="limits start at 1"):
        Writer(str(tmp_path / "calls"), Header("s"), **options)


# ---- what goes wrong while it is written ---------------------------------------------------

_FULL = """
import resource, signal, sys
from rpcasync.recording.lines import Header
from rpcasync.recording.writer import Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(sys.argv[1], Header("s1"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for line in sys.stdin:
    writer.add(line)
    writer.flush()
print(writer.failure)
writer.close()
"""


def test_a_full_disk_ends_it_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    lines = [call_line(number + 1) for number in range(40)]
    done = subprocess.run(
        [sys.executable, "-c", _FULL, path],
        input="".join(lines),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "File too large\n"
    assert done.stderr.count("\n") == 1
    assert f"recording to {path} has ended, calls go on: File too large" in done.stderr
    found = [call for _, call in numbers(path)]
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 10
    assert problems(path) == []


def test_a_folder_that_has_gone_ends_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = Writer(str(folder / "calls"), Header("s1"), max_size=300)
    (folder / "calls").unlink()
    folder.rmdir()
    for number in range(9):
        writer.add(call_line(number + 1))
    writer.close()
    assert writer.failure == "No such file or directory"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_was_flushed_is_there(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    writer = Writer(str(path), Header("s1"))
    writer.add(call_line(1))
    assert numbers(path) == []
    writer.flush()
    assert numbers(path) == [(0, 1)]
    writer.close()


def test_many_lines_are_not_kept_until_somebody_flushes(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    writer = Writer(str(path), Header("s1"))
    for number in range(2000):
        writer.add(call_line(number + 1))
    assert len(numbers(path)) > 1000
    writer.close()
