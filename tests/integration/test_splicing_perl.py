"""What real Perl finds in a packet with other ids in it: the same as in the one that came."""

from __future__ import annotations

import pytest
from hypothesis import given
from integration.test_storable_perl import EXAMPLES, PERL, perl, perl_trees
from support.strategies import u32

from rpcasync.storable._walk import tag_at, walk
from rpcasync.wire.splicing import with_id, with_ids

__all__ = ["perl"]

pytestmark = pytest.mark.skipif(PERL is None, reason="no perl on this machine")


def rest_of(perl, image: bytes) -> bytes:
    """What Perl freezes of a packet, once its program has taken the id off.

    It has a mark for each string that is Unicode, and for all that is shared.
    """
    return perl.eval(f"do {{ my $p = Storable::thaw(pack 'H*', '{image.hex()}'); shift @$p; $p }}")


def more(id):
    return int(id) + 1000


COUNTERPART = "call => undef, destroy => undef }}, 'RPC::Async::Coderef')"
CALLBACK = f"bless({{{{ id => {{}}, alive => 1, {COUNTERPART}"
LATIN1_AND_TEXT = r'do {{ my $s = "caf\xe9"; utf8::upgrade($s); ("caf\xe9", $s, "\x{{263a}}") }}'
OBJECTS = "bless({{ x => [1] }}, 'A'), bless([], 'A'), bless(\\(my $s = 1), 'B'), qr/a/i, v1.2"


@pytest.mark.parametrize(
    "values",
    [
        "n1 => 2, n2 => '3', big => 2**40, f => 0.1, undef, !!1, !!0",
        f"{LATIN1_AND_TEXT}, 'x' x 300",
        "do {{ my $a = [1]; my $s = 's'; ($a, $a, \\$s, {{ k => \\$s }}, [$a]) }}",
        OBJECTS,
        r'{{ "\x{{263a}}" => 1, a => {{ "\xe9" => [1] }} }}',
        "do {{ my $h = {{ a => 1 }}; Hash::Util::lock_keys(%$h, qw(a b)); ($h, $h) }}",
        "done => {0}, step => [{1}]",
        "{0}, bless({{}}, 'A'), {{ k => \\{1} }}, bless([], 'A')",
        "do {{ my $cb = {0}; my $other = {1}; ($cb, $other, [$cb], $other, \\$cb) }}",
        "do {{ my $s = [7]; ($s, {0}, $s, {1}, $s, \\$s) }}",
    ],
)
def test_the_image_is_the_one_that_perl_writes_of_the_new_ids(perl, values):
    def image(id, *ids):
        arguments = values.format(*map(CALLBACK.format, ids))
        return perl.eval(f"do {{ require Hash::Util; [{id}, 'proc', {arguments}] }}")

    assert with_ids(image(5, 3, 4), 300, more) == image(300, 1003, 1004)
    assert with_id(image(5, 3, 4), 300) == image(300, 3, 4)


def test_a_callback_in_an_object_is_none_for_a_server(perl):
    expression = f"[%d, 'proc', bless([{CALLBACK.format(3)}], 'A'), {CALLBACK.format('%d')}]"
    assert with_ids(perl.eval(expression % (5, 4)), 6, more) == perl.eval(expression % (6, 1004))


@pytest.mark.parametrize(
    "arguments",
    [
        "$id, 'proc', $id",
        "$id, 'proc', \\$id, [\\$id], $id",
        "$id, $text, { k => \\$id }, $text, \\$text, $id, \\$text",
        "$id, \\\\$id, \\$id",
        "$object, 'proc', \\$object, bless(\\(my $o = 2), 'Some'), bless([], 'Other'), \\$object",
        "$id, bless([$id], 'A'), bless([$id, \\$id], 'B'), bless({ x => \\$id }, 'A')",
        "($id, map { ($_, \\$id) } 1 .. 300), $text, \\$text",
    ],
)
def test_what_was_the_very_id_keeps_its_value(perl, arguments):
    """`\\@_` has the variables themselves, so one of them in two places is one thing."""
    image = perl.eval(
        "do { my ($id, $text, $object) = (5, 'text', 6); bless \\$object, 'Some';"
        f" sub {{ \\@_ }}->({arguments}) }}"
    )
    spliced = with_id(image, 2**31)
    assert rest_of(perl, spliced) == rest_of(perl, image)
    whole = perl.eval(f"Storable::thaw(pack 'H*', '{spliced.hex()}')")
    assert b"\x0a\x0a2147483648" in whole


def test_a_callback_that_has_the_variable_of_the_id(perl):
    make = """do { my ($id, $own) = (%d, %d); my $h = bless { id => 0 }, 'RPC::Async::Coderef';
        my $freeze = sub { \\@_ };
        $freeze->($id, 'proc', { cb => $h, own => \\$h->{id} }, $id, $h) }"""
    image = perl.eval(make % (5, 3))
    asked = []
    spliced = with_ids(image, 6, lambda old: asked.append(old) or 77)
    assert asked == [0]
    # The reference to the callback's id goes on to a scalar of its own, with the value that it had.
    got = perl.eval(
        f"do {{ my $p = Storable::thaw(pack 'H*', '{spliced.hex()}');"
        " [$p->[2]{cb}{id}, ${$p->[2]{own}}, $p->[3], $p->[4] == $p->[2]{cb}] }"
    )
    assert got == perl.eval("[77, 0, 5, !!1]")


@EXAMPLES
@given(perl_trees())
def test_any_value_of_perls(perl, tree):
    inner = perl.freeze(tree)
    add = 2 if tree[0] in ("array", "hash", "ref", "bless") else 1
    moved = bytearray(inner[2:])
    for item in walk(inner, b"", b"").again:
        moved[item.start - 1 : item.start + 3] = u32(tag_at(inner, item) + add)
    moved = b"\x04" + bytes(moved)
    payload = b"\x05\x0b\x02" + u32(3) + b"\x08\x85" + moved + b"\x04\x00" + u32(1)
    spliced = with_id(payload, 1000)
    assert rest_of(perl, spliced) == rest_of(perl, payload)
