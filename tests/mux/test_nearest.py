"""Suggestions for a name that is not known."""

from eventmux._nearest import did_you_mean, nearest

NAMES = ["add_numbers", "disconnect", "max_outbuffer", "timeout"]


def test_the_most_alike_of_the_names():
    assert nearest("tiemout", NAMES) == "timeout"
    assert nearest("disconect", NAMES) == "disconnect"


def test_none_where_none_is_alike():
    assert nearest("frobnicate", NAMES) is None
    assert nearest("x", []) is None


def test_a_long_name_is_not_looked_at():
    assert nearest("x" * 65, ["x" * 64]) is None
    assert nearest("x" * 64, ["x" * 65, "x" * 63]) == "x" * 63


def test_only_the_first_thousand_names_count():
    others = [f"other_{number}" for number in range(1000)]
    assert nearest("timeout", [*others, "timeout"]) is None
    assert nearest("timeout", [*others[1:], "timeout"]) == "timeout"


def test_the_question_behind_a_message():
    assert did_you_mean("tiemout", NAMES) == "; did you mean 'timeout'?"
    assert did_you_mean("frobnicate", NAMES) == ""
