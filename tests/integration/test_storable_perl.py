"""Our Storable against Perl's own: what we freeze it thaws, what it freezes we thaw."""

from __future__ import annotations

import json
import math
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import arrival, roots, scalars, texts

from rpcasync.storable import Blessed, Regexp, ScalarRef, freeze, thaw

PERL = shutil.which("perl")
ORACLE = Path(__file__).parent / "perl" / "storable_oracle.pl"

pytestmark = pytest.mark.skipif(PERL is None, reason="no perl on this machine")

EXAMPLES = settings(max_examples=4 * settings.default.max_examples, deadline=None)


class Oracle:
    """One Perl process for the whole module: asked and answered line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def ask(self, what: str, argument: object) -> list[object]:
        self.process.stdin.write(json.dumps([what, argument]).encode() + b"\n")
        self.process.stdin.flush()
        good, *result = json.loads(self.process.stdout.readline())
        assert good, result
        return result

    def thaw(self, image: bytes) -> tuple[object, bytes]:
        tree, again = self.ask("thaw", image.hex())
        return tree, bytes.fromhex(again)

    def freeze(self, tree: object) -> bytes:
        return bytes.fromhex(self.ask("freeze", tree)[0])

    def eval(self, expression: str) -> bytes:
        return bytes.fromhex(self.ask("eval", expression)[0])

    def number(self, image: bytes) -> float:
        return struct.unpack(">d", bytes.fromhex(self.ask("number", image.hex())[0]))[0]


@pytest.fixture(scope="module")
def perl():
    with subprocess.Popen(
        [PERL, str(ORACLE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Oracle(process)
        process.stdin.close()


def codes(text: str) -> list[int]:
    return [ord(character) for character in text]


def tree_of(value: object) -> list[object]:
    """The oracle's tree of a value as it arrives, see `arrival`."""
    if value is None:
        return ["undef"]
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, str):
        return ["str", codes(value)]
    if isinstance(value, list):
        return ["array", [tree_of(item) for item in value]]
    if isinstance(value, dict):
        return ["hash", [[codes(key), tree_of(value[key])] for key in sorted(value)]]
    if isinstance(value, ScalarRef):
        return ["ref", tree_of(value.value)]
    assert isinstance(value, Blessed)
    return ["bless", value.class_name, tree_of(value.value)]


@EXAMPLES
@given(roots)
def test_perl_reads_what_we_write(perl, value):
    tree, again = perl.thaw(freeze(value))
    assert tree == tree_of(arrival(value))
    assert tree_of(thaw(again)) == tree  # and we read what Perl makes of it


def test_perl_reads_the_deepest_and_the_widest(perl):
    value: object = "é" * 300
    for _ in range(128):
        value = [{"k": value}]
    tree, _ = perl.thaw(freeze(value))
    assert tree == tree_of(value)
    wide = {f"{n}\u263a": n for n in range(1000)} | {"é": "x" * 70_000}
    tree, _ = perl.thaw(freeze(wide))
    assert tree == tree_of(wide)


@EXAMPLES
@given(st.floats())
def test_perl_gets_the_very_float(perl, number):
    got = perl.number(freeze([number]))
    assert got == number or (math.isnan(got) and math.isnan(number))


def perl_trees() -> st.SearchStrategy[list[object]]:
    """Trees for Perl to build, with nothing in them that it turns into something else."""
    strings = texts.map(codes)
    leaves = st.one_of(
        st.just(["undef"]),
        st.integers(-(2**63), 2**63 - 1).map(lambda n: ["int", str(n)]),
        st.integers(-200, 200).map(lambda n: ["int", str(n)]),
        st.integers(-1000, 1000).map(lambda n: ["num", f"{n}.125"]),
        strings.map(lambda s: ["str", s]),
    )

    def holders(trees):
        pairs = st.dictionaries(texts, trees, max_size=4).map(
            lambda d: [[codes(key), d[key]] for key in sorted(d)]
        )
        plain = st.one_of(
            st.lists(trees, max_size=4).map(lambda items: ["array", items]),
            pairs.map(lambda items: ["hash", items]),
            trees.map(lambda tree: ["ref", tree]),
        )
        names = st.sampled_from(["Foo", "Foo::Bar", "C" * 127, "C" * 128])
        return st.one_of(plain, st.builds(lambda name, tree: ["bless", name, tree], names, plain))

    return holders(st.recursive(leaves, holders, max_leaves=15))


def as_sent(tree: list[object]) -> list[object]:
    """What Perl sends as text: floats, and integers beyond 32 bits."""
    kind, *rest = tree
    if kind == "num" or (kind == "int" and not -(2**31) <= int(rest[0]) < 2**31):
        return ["str", codes(rest[0])]
    if kind == "array":
        return [kind, [as_sent(item) for item in rest[0]]]
    if kind == "hash":
        return [kind, [[key, as_sent(item)] for key, item in rest[0]]]
    if kind in ("ref", "bless"):
        return [kind, *rest[:-1], as_sent(rest[-1])]
    return tree


@EXAMPLES
@given(perl_trees())
def test_we_read_what_perl_writes(perl, tree):
    assert tree_of(thaw(perl.freeze(tree))) == as_sent(tree)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[undef, 1, -1, 1000, 4294967296]", [None, 1, -1, 1000, "4294967296"]),
        (r'["caf\xe9", "\x{263a}", "caf\xc3\xa9"]', ["café", "\u263a", "caf\xc3\xa9"]),
        (r'{ "\x{263a}" => 1, a => { "\xe9" => [] } }', {"a": {"é": []}, "\u263a": 1}),
        ("do { my @a; $a[2] = 'x'; \\@a }", [None, None, "x"]),
        ("[qr/foo/i]", [Blessed("Regexp", Regexp("foo", "i"))]),
        ("[${qr/x/}]", [Regexp("x", "")]),
        (r'do { my $p = "\x{263a}"; qr/$p/ }', Blessed("Regexp", Regexp("\u263a", "u"))),
        ("[v1.2.3]", ["\1\2\3"]),
        ("[JSON::PP::true(), JSON::PP::false()]", [True, False]),
        ("do { my @a = ('s'); bless \\$a[0], 'Foo'; \\@a }", ["s"]),
        ("bless(\\(my $s = 's'), 'Foo')", Blessed("Foo", ScalarRef("s"))),
        ("\\\\'x'", ScalarRef(ScalarRef("x"))),
        ("sub { \\@_ }->(!!1, undef)", [True, None]),
    ],
)
def test_we_read_a_perl_expression(perl, expression, expected):
    assert repr(thaw(perl.eval(expression))) == repr(expected)


def test_we_read_sharing(perl):
    first, second = thaw(perl.eval("do { my $s = 's'; [\\$s, \\$s] }"))
    assert first is second
    value = thaw(perl.eval("do { my $a = [1]; { one => $a, deep => [[$a]] } }"))
    assert value["one"] is value["deep"][0][0]


@pytest.mark.parametrize("name", ["A", "Caf\xe9::A", "\xe9" * 127, "A" * 128, "\xff" * 300])
def test_names_of_classes_both_ways(perl, name):
    """The same bytes for the same name, and the same name for the same bytes."""
    ours = freeze([0j], default=lambda _: Blessed(name, {"k": 1}))
    assert perl.freeze(["array", [["bless", name, ["hash", [[codes("k"), ["int", "1"]]]]]]]) == ours
    tree, again = perl.thaw(ours)
    assert again == ours
    assert tree_of(thaw(again)) == tree
    assert thaw(ours) == [Blessed(name, {"k": 1})]


def test_a_name_of_a_class_beyond_latin1(perl):
    """Perl writes the bytes of its UTF-8, too, and reads them as another name."""
    ours = freeze([0j], default=lambda _: Blessed("\u4e2d", []))
    assert perl.eval(r'[bless [], "\x{4e2d}"]') == ours
    assert thaw(ours) == [Blessed("\xe4\xb8\xad", [])]
    assert thaw(perl.thaw(ours)[1]) == thaw(ours)


# ---- typed images ------------------------------------------------------------------------


def untyped(tree: list[object]) -> list[object]:
    """A tree in which an integer is its text: by `eq` there is no difference."""
    kind, *rest = tree
    if kind == "int":
        return ["str", codes(rest[0])]
    if kind == "array":
        return [kind, [untyped(item) for item in rest[0]]]
    if kind == "hash":
        return [kind, [[key, untyped(item)] for key, item in rest[0]]]
    return [*tree[:-1], untyped(rest[-1])] if kind in ("ref", "bless") else tree


@EXAMPLES
@given(roots)
def test_perl_reads_a_typed_image_as_any_other(perl, value):
    tree, again = perl.thaw(freeze(value, typed=True))
    plain, _ = perl.thaw(freeze(value))
    assert untyped(tree) == untyped(plain)
    # What Perl sends back has no types, and is what was meant.
    assert untyped(tree_of(thaw(again))) == untyped(tree)


SAME = """do {
    no warnings;
    my ($one, $other) = map { Storable::thaw(pack 'H*', $_) } '%s', '%s';
    my @wrong = grep {
        my ($x, $y) = ($one->[$_], $other->[$_]);
        my $nan = $x != $x && $y != $y;
        !(defined $x == defined $y && $x eq $y && ($nan || $x == $y) && !$x == !$y
          && length $x == length $y && "$x." eq "$y." && $x + 1 eq $y + 1);
    } 0 .. $#$other;
    [scalar(@$one), @wrong];
}"""


def check_alike(perl, values):
    expression = SAME % (freeze(values, typed=True).hex(), freeze(values).hex())
    assert thaw(perl.eval(expression)) == [len(values)]


@EXAMPLES
@given(st.lists(scalars, max_size=20))
def test_perl_finds_no_difference_in_a_typed_image(perl, values):
    check_alike(perl, values)


def test_perl_finds_no_difference_at_the_edges(perl):
    numbers = [
        sign * (2**n + d) for n in (7, 31, 32, 53, 63, 64) for d in (-1, 0, 1) for sign in (1, -1)
    ]
    long = [10**254, 10**255, -(10**254), 2**13_000]
    floats = [0.0, -0.0, 1e15, 1e16, 2.0**53, 5e-324, 1.7976931348623157e308, 0.1, -1.5, math.inf]
    strings = [
        text * count
        for text in ("1", "a", "\xe9", "\u263a")
        for count in (0, 1, 85, 127, 128, 255, 256, 5000)
    ]
    raw = [b"", b"0", b"1", b"\xff" * 255, b"\xff" * 256, b"\x80" * 5000]
    values = [
        True,
        False,
        None,
        *numbers,
        *long,
        *map(float, numbers),
        *floats,
        -math.inf,
        math.nan,
    ]
    check_alike(perl, [*values, *strings, *raw])


def test_perl_finds_typed_values_by_their_keys(perl):
    """As values and keys of hashes, used as keys, in references, and blessed."""
    values = [True, False, 2.0, -0.0, 2**40, 10**300, b"\xff", "\xe9" * 300, "\u263a"]
    table = {f"\xe9{n}": value for n, value in enumerate(values)} | {
        "\u263a": False,
        "k" * 300: 1.5,
    }
    for value in (table, ScalarRef(False), ScalarRef([ScalarRef(2.5)]), [table, [table]]):
        tree, _ = perl.thaw(freeze(value, typed=True))
        assert untyped(tree) == untyped(perl.thaw(freeze(value))[0])
    used = "do { my $v = Storable::thaw(pack 'H*', '%s'); my %%h; @h{@$v} = (); [sort keys %%h] }"
    typed = thaw(perl.eval(used % freeze(values, typed=True).hex()))
    assert typed == thaw(perl.eval(used % freeze(values).hex()))
    assert len(typed) == len(values) - 1  # False and -0.0 are one
