"""Answers as a type of the program's: `reply.to(Sum)`."""

from __future__ import annotations

import socket
from typing import Optional, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import ArgumentError, Client, RemoteError, Reply, Server
from rpcasync.arguments.conversions import conversion


class Point(TypedDict):
    x: int
    y: float


class Shape(TypedDict, total=False):
    name: str
    points: list[Point]
    inner: Shape
    labels: dict[str, Point]
    origin: Optional[Point]  # noqa: UP045


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        (Point, ("x", "1", "y", "2.5"), {"x": 1, "y": 2.5}),
        (Point, ("y", 1, "x", 1.0, "z", "other"), {"x": 1, "y": 1.0, "z": "other"}),
        (Shape, (), {}),
        (Shape, ("points", [{"x": "1", "y": 2}]), {"points": [{"x": 1, "y": 2.0}]}),
        (Shape, ("inner", {"inner": {"name": 5}}), {"inner": {"inner": {"name": "5"}}}),
        (Shape, ("labels", {"a": {"x": "1", "y": 0}}), {"labels": {"a": {"x": 1, "y": 0.0}}}),
        (Shape, ("origin", None), {"origin": None}),
        (Shape, ("origin", {"x": "1", "y": "2"}), {"origin": {"x": 1, "y": 2.0}}),
        (dict, ("x", "1"), {"x": "1"}),
        (dict[str, int], (b"x", "1"), {"x": 1}),
        (list, ("x", "1"), ["x", "1"]),
        (list[int], ("2", 1), [2, 1]),
        (list[int], (), []),
        (list[Point], ({"x": 1, "y": "1"},), [{"x": 1, "y": 1.0}]),
        (int, ("3",), 3),
        (bool, ("",), False),
    ],
)
def test_to(kind, values, wanted):
    found = Reply(values).to(kind)
    assert found == wanted
    assert repr(found) == repr(wanted) or isinstance(wanted, dict)


@pytest.mark.parametrize(
    ("kind", "values", "why"),
    [
        (Point, ("x", 1), "y is missing"),
        (Point, ("x", "one", "y", 1), "x: cannot convert str 'one' to int"),
        (Point, ("x", None, "y", 1), "x: cannot convert NoneType to int"),
        (Point, ("x", 1, "y"), "a reply of 3 is no names and values"),
        (Point, (["x"], 1), "list stands for a name"),
        (Shape, ("points", [{"x": 1}]), "points: y is missing"),
        (Shape, ("points", [5]), "points: cannot convert int 5 to dict"),
        (
            Shape,
            ("inner", {"inner": {"name": []}}),
            "inner: inner: name: cannot convert list to str",
        ),
        (list[int], ("a",), "cannot convert str 'a' to int"),
        (int, (), "0 values, expected one"),
        (int, (1, 2), "2 values, expected one"),
    ],
)
def test_to_what_it_is_not(kind, values, why):
    with pytest.raises(ArgumentError) as caught:
        Reply(values).to(kind)
    assert str(caught.value).startswith(f"the answer is not as expected: {why}")


def test_to_what_nothing_is_converted_to():
    class Local(TypedDict):
        x: Unheard  # noqa: F821

    for kind in (object, Reply, Local):
        with pytest.raises(TypeError, match="an answer cannot be converted to "):
            Reply(["x", 1]).to(kind)


def test_one_whose_annotations_cannot_be_read_converts_nothing():
    class Local(TypedDict):
        x: Unheard  # noqa: F821

    assert conversion(Local) is None


@given(st.dictionaries(st.sampled_from(["x", "y", "z"]), st.none() | st.integers() | st.text()))
def test_what_is_converted_has_the_types(pairs):
    values = [each for pair in pairs.items() for each in pair]
    try:
        found = Reply(values).to(Point)
    except ArgumentError:
        return
    assert type(found["x"]) is int
    assert type(found["y"]) is float
    assert found.keys() == pairs.keys()


def test_a_procedure_can_take_one(mux):
    def rpc_move(caller, point: Point):
        server.return_(caller, [type(each).__name__ for each in point.values()])

    ours, theirs = socket.socketpair()
    server = Server(mux, {"rpc_move": rpc_move})
    server.add_client(theirs)
    client = Client(mux, ours)
    calls = [client.move(point={"x": "1", "y": "2"}), client.move(point={"x": "1"})]
    while not all(call.done for call in calls):
        server.io(client.io(mux.mux()))
    assert calls[0].result() == (["int", "float"],)
    with pytest.raises(RemoteError, match="move: point: y is missing"):
        calls[1].result()
