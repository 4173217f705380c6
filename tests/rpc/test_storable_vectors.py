"""Every image that a real Perl made, and every bad one that was tried on a real Perl.

The vector files tell what Perl made of an image as a tagged tree ("expect"). `check_target`
and `check_value` compare such a tree with what we made of it, sharing included.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rpcasync.errors import DecodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, freeze, thaw

DATA = Path(__file__).parent.parent / "data" / "storable"
GOOD = json.loads((DATA / "vectors.json").read_text())["vectors"]
BAD = json.loads((DATA / "bad-vectors.json").read_text())["vectors"]


def image_of(vector):
    if "hex" in vector:
        image = bytes.fromhex(vector["hex"])
    else:
        image = b"".join(bytes.fromhex(unit) * count for unit, count in vector["hex_rle"])
    assert len(image) == vector["length"]
    if not vector.get("framed"):
        return image
    if vector["group"] != "frame":
        assert int.from_bytes(image[:4], "big") == len(image)
    return image[4:]


def named(vectors):
    return [pytest.param(vector, id=f"{vector['group']}-{vector['name']}") for vector in vectors]


def outcome(image):
    """Return ("value", value) or ("error", code)."""
    try:
        return "value", thaw(image)
    except DecodeError as error:
        return "error", error.code


def exactly(value):
    """Tell 1 from True and from "1", which == does not."""
    return json.dumps(value, sort_keys=True)


# ---- the comparison with an "expect" tree ------------------------------------------------


def string_of(node):
    if "cps" in node:
        return "".join(map(chr, node["cps"]))
    if "rle" in node:
        return "".join(unit * count for unit, count in node["rle"])
    return node["v"]


def unfold(node):
    """Write out a {"t": "nest"} node."""
    leaf = node["v"]
    if node["of"] == "ref":  # the outermost reference is the one thaw returns
        for _ in range(node["levels"] - 1):
            leaf = {"t": "ref", "v": leaf}
        return leaf
    for _ in range(node["levels"]):
        item = {"t": "ref", "v": leaf} if leaf["t"] in ("array", "hash") else leaf
        if node["of"] == "array":
            leaf = {"t": "array", "v": [item]}
        else:
            leaf = {"t": "hash", "v": [[{"t": "bytes", "v": "k"}, item]]}
    return leaf


class Checker:
    """Compares one tree; remembers what carried an id."""

    def __init__(self):
        self.targets = {}
        self.values = {}

    def check_target(self, node, got):
        """`got` should be what a reference to the thing is."""
        if node["t"] == "nest":
            node = unfold(node)
        if node["t"] == "same":
            if node["id"] in self.targets:
                assert got is self.targets[node["id"]]
            else:
                assert got == ScalarRef(self.values[node["id"]])
                self.targets[node["id"]] = got
            return
        if "id" in node:
            self.targets[node["id"]] = got
        if node.get("class") == "JSON::PP::Boolean":
            assert got is (node["v"] == 1)
            return
        if node["t"] == "regexp":
            regexp = Regexp(node["pattern"], node["flags"])
            assert got == Blessed(node.get("class", "Regexp"), regexp)
            return
        if "class" in node:
            assert type(got) is Blessed
            assert got.class_name == node["class"]
            got = got.value
        if node["t"] == "array":
            assert type(got) is list
            assert len(got) == len(node["v"])
            for inner, item in zip(node["v"], got, strict=True):
                self.check_value(inner, item)
        elif node["t"] == "hash":
            assert type(got) is dict
            assert set(got) == {string_of(key) for key, _ in node["v"]}
            for key, inner in node["v"]:
                self.check_value(inner, got[string_of(key)])
        else:
            assert type(got) is ScalarRef
            self.check_scalar(node, got.value)

    def check_value(self, node, got):
        """`got` should be what the thing is as an element."""
        if node["t"] == "same":
            assert got == self.values[node["id"]]
            return
        if "id" in node:
            self.values[node["id"]] = got
        self.check_scalar(node, got)

    def check_scalar(self, node, got):
        if "id" in node:
            self.values[node["id"]] = got
        if node["t"] == "ref":
            self.check_target(node["v"], got)
        elif node["t"] in ("bytes", "text"):
            assert type(got) is str
            assert got == string_of(node)
        elif node["t"] == "vstring":
            self.check_scalar(node["v"], got)
        elif node["t"] == "int":
            assert type(got) is int
            assert got == node["v"]
        else:
            assert got is {"undef": None, "yes": True, "no": False}[node["t"]]


# ---- images made by Perl -----------------------------------------------------------------

READ = [v for v in GOOD if v["python"].startswith("accept") and not v["python"].endswith("cycle")]
REFUSED = [v for v in GOOD if v not in READ]
REFUSAL = {"reject-or-surrogatepass": "bad-utf8"}


def test_nothing_is_left_out():
    assert (len(GOOD), len(BAD)) == (283, 160)
    assert (len(READ), len(REFUSED)) == (265, 18)


@pytest.mark.parametrize("vector", named(READ))
def test_image_made_by_perl(vector):
    got = thaw(image_of(vector))
    Checker().check_target(vector["expect"], got)
    if "plain" in vector:
        assert exactly(got) == exactly(vector["plain"])


@pytest.mark.parametrize("vector", named(REFUSED))
def test_refused_image_made_by_perl(vector):
    code = REFUSAL.get(vector["python"]) or vector["python"].partition("reject:")[2]
    assert outcome(image_of(vector)) == ("error", code)


@pytest.mark.parametrize("vector", named(v for v in GOOD if v.get("encode") == "exact"))
def test_written_like_perl(vector):
    assert freeze(vector["plain"]) == image_of(vector)


@pytest.mark.slow
@pytest.mark.parametrize("vector", named(v for v in GOOD if "plain" in v))
def test_written_so_that_it_comes_back(vector):
    assert thaw(freeze(vector["plain"])) == vector["plain"]  # but True comes back as 1


# ---- bad images --------------------------------------------------------------------------

# Where the file leaves it open, this is what we do.
CHOICES = {
    "minor_255": [1],
    "lobject_small_array": "unsupported-opcode",
    "cycle_by_hand": "cycle",
    "ref_to_itself": "cycle",
    "bless_immortal": [Blessed("A", ScalarRef(None))],
    "bless_immortal_true": [Blessed("A", ScalarRef(True))],
    "regexp_bad_pattern": [Blessed("Regexp", Regexp("(", ""))],
    "regexp_bad_flags": [Blessed("Regexp", Regexp("a", "z"))],
    "regexp_code_block": [Blessed("Regexp", Regexp("(?{die 'x'})", ""))],
    "utf8_surrogate": "bad-utf8",
    "hash_flags_unknown": {"a": 1},
    "bless_nul_name": [Blessed("A\0B", [])],
    "bless_python_name": [Blessed("os.system", ["id"])],
    "overload_unknown_class": [Blessed("No::Such::Class", {})],
}


@pytest.mark.parametrize("vector", named(v for v in BAD if v["group"] != "frame"))
def test_bad_image(vector):
    kind, got = outcome(image_of(vector))
    if vector["name"] in CHOICES:
        assert got == CHOICES[vector["name"]]
    elif vector["python"] == "reject":
        assert kind == "error"
    elif vector["python"].startswith("reject:"):
        assert (kind, got) == ("error", vector["python"].partition(":")[2])
    else:
        assert vector["python"] == "accept"
        assert kind == "value"
        if "plain" in vector:
            assert exactly(got) == exactly(vector["plain"])


def test_every_open_choice_is_made():
    open_ones = {v["name"] for v in BAD if v["python"].startswith("accept-")}
    assert open_ones == set(CHOICES)


@pytest.mark.parametrize("vector", named(v for v in BAD if v["group"] == "frame"))
def test_body_of_a_bad_frame(vector):
    """Frames are framing's business; their bodies must not bring down the decoder."""
    kind, got = outcome(image_of(vector))
    assert kind == "value" or got in {"truncated", "trailing", "bad-header"}
