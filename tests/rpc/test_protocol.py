"""Two cores talk to each other: no socket, no loop."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings

from rpcasync.errors import DecodeError, EncodeError, FrameTooLarge, ProtocolError
from rpcasync.storable import freeze
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.messages import Failure, Request, Result
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

DATA = Path(__file__).parents[1] / "data" / "storable"
CODECS = [StorableCodec(), JSONCodec()]


@pytest.fixture(params=CODECS, ids=lambda codec: codec.name)
def codec(request):
    return request.param


def packet(value):
    return LengthPrefix().frame(freeze(value))


def messages(protocol):
    """Pull until nothing is there; a ProtocolError is the last entry."""
    found = []
    try:
        while (message := protocol.next_message()) is not None:
            found.append(message)
    except ProtocolError as error:
        found.append(error)
    return found


def test_one_call_down_and_up(codec):
    client, server = ClientProtocol(codec), ServerProtocol()
    id, data = client.call("add_numbers", ["n1", 2, "n2", 3], "token")
    assert id == 0
    assert dict(client.pending) == {0: "token"}
    server.feed(data)
    assert messages(server) == [Request(0, "add_numbers", ["n1", 2, "n2", 3])]
    client.feed(server.result(0, ["sum", 5]))
    assert messages(client) == [Result("token", ["sum", 5])]
    assert not client.pending


def test_the_bytes_are_those_of_the_perl_classes():
    perl = StorableCodec(typed=False)
    _, data = ClientProtocol(perl).call("add_numbers", ["n1", 2, "n2", 3], None)
    assert data.hex() == (
        "00000026050b020000000608800a0b6164645f6e756d626572730a026e3108820a026e320883"
    )
    assert ServerProtocol().result(0, ["sum", 5]).hex() == (
        "00000014050b020000000308800a0373756d0885"
    )


def test_a_failure(codec):
    client, server = ClientProtocol(codec), ServerProtocol()
    _, data = client.call("x", [], "token")
    server.feed(data)
    messages(server)
    client.feed(server.failure(0, "no luck"))
    assert messages(client) == [Failure("token", "no luck")]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["error", "a"], "a"),
        (["errors", ["a", "b"]], "a; b"),
        (["errors", ["a"], "error", "a"], "a"),
        (["error", None], None),
        (["error", ""], None),
        (["error", "a", "rows", []], None),
        (["error"], None),
        (["sum", 5], None),
        ([], None),
        ([["error"], "a"], None),
    ],
)
def test_what_counts_as_a_failure(values, text):
    client = ClientProtocol(StorableCodec())
    client.call("x", [], "token")
    client.feed(packet([0, *values]))
    assert messages(client) == [Failure("token", text) if text else Result("token", values)]


@given(st.data())
def test_any_chunking_gives_the_same_messages(data):
    client, server = ClientProtocol(data.draw(st.sampled_from(CODECS))), ServerProtocol()
    wanted = []
    stream = b""
    for procedure, args in data.draw(
        st.lists(st.tuples(st.text(), st.lists(st.integers() | st.text())), max_size=5)
    ):
        id, packet = client.call(procedure, [arg for arg in args if is_plain(arg)], None)
        wanted.append(Request(id, procedure, [arg for arg in args if is_plain(arg)]))
        stream += packet
    found = []
    for piece in data.draw(chunkings(stream)):
        server.feed(piece)
        found += messages(server)
    assert found == wanted


def is_plain(value):
    """Numbers that both codecs give back as numbers."""
    return isinstance(value, str) or -(2**31) <= value < 2**31


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_messages_or_a_protocol_error(data, framed):
    stream = LengthPrefix().frame(data + b"xyz") if framed else data
    server, client = ServerProtocol(), ClientProtocol(JSONCodec())
    client.call("x", [], None)
    for protocol in (server, client):
        protocol.feed(stream)
        messages(protocol)


def vectors(file):
    return [v for v in json.loads((DATA / file).read_text())["vectors"] if v["group"] == "frame"]


@pytest.mark.parametrize("vector", vectors("bad-vectors.json"), ids=lambda vector: vector["name"])
def test_the_bad_frames(vector):
    server = ServerProtocol()
    server.feed(bytes.fromhex(vector["hex"]))
    found = messages(server)
    expected = vector["python"]
    if expected == "accept":
        assert found
        assert all(isinstance(message, Request) for message in found)
    elif expected == "incomplete":
        assert found == []
    else:
        (error,) = found
        if expected == "reject:truncated":
            assert isinstance(error, DecodeError)
            assert error.code == "truncated"
        elif expected == "reject:limit-size":
            assert isinstance(error, FrameTooLarge)
        else:
            assert type(error) is ProtocolError


def test_good_messages_come_before_the_error_and_the_error_stays():
    server = ServerProtocol()
    server.feed(packet([0, "a"]) + packet([1, "b"]) + packet({"no": "list"}) + b"\0\0\0\0")
    assert server.next_message() == Request(0, "a", [])
    assert server.next_message() == Request(1, "b", [])
    for _ in range(2):
        with pytest.raises(ProtocolError, match="dict of length 1"):
            server.next_message()


def test_messages_that_were_not_taken_stay_in_front():
    server = ServerProtocol()
    server.feed(packet([0, "a"]) + packet([1, "b"]))
    assert server.next_message() == Request(0, "a", [])
    server.feed(packet([2, "c"]) + packet([3, "d"]))
    assert [request.id for request in messages(server)] == [1, 2, 3]


def test_good_messages_come_before_a_wrong_length_and_the_error_stays():
    for header, kind in ((b"\0\0\0\6", ProtocolError), (b"\0\0\4\0", FrameTooLarge)):
        server = ServerProtocol(max_packet=1000)
        server.feed(packet([0, "a"]))
        server.feed(packet([1, "b"]) + header)
        server.feed(packet([2, "c"]))  # not believed
        assert server.next_message() == Request(0, "a", [])
        assert server.next_message() == Request(1, "b", [])
        for _ in range(3):
            with pytest.raises(kind, match="packet") as caught:
                server.next_message()
            assert len(caught.traceback) < 4, "the traceback grows"


def test_nothing_behind_an_error_is_believed():
    client = ClientProtocol(StorableCodec())
    client.call("x", [], "token")
    client.feed(LengthPrefix().frame(b"garbage") + packet([0, "forged"]))
    for _ in range(2):
        with pytest.raises(DecodeError, match="bad-header"):
            client.next_message()


def test_a_codec_of_the_programs_own_may_raise_anything():
    class Broken(StorableCodec):
        def decode(self, payload):
            raise MemoryError

    server = ServerProtocol([Broken()])
    server.feed(packet([0, "x"]))
    with pytest.raises(ProtocolError, match="cannot be decoded: MemoryError"):
        server.next_message()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([], "list of length 0"),
        ([1], "list of length 1"),
        ([None, "x"], "the id is NoneType"),
        ([[1], "x"], "the id is list"),
        ([{}, "x"], "the id is dict"),
        (["9" * 21, "x"], "the id is str of length 21"),
        ([1, None], "the procedure is NoneType"),
        ([1, ["x"] * 9], "the procedure is list of length 9"),
    ],
)
def test_what_is_no_request(value, why):
    server = ServerProtocol()
    server.feed(packet(value))
    with pytest.raises(ProtocolError, match=why):
        server.next_message()


def test_booleans_and_floats_are_no_ids():
    for id in ("true", "1.5"):
        server = ServerProtocol()
        server.feed(LengthPrefix().frame(f'[{id},"x"]'.encode()))
        with pytest.raises(ProtocolError, match="the id is"):
            server.next_message()


def test_an_id_that_is_too_large_to_send_back():
    server = ServerProtocol()
    server.feed(LengthPrefix().frame(b'[%d,"x"]' % (2**64)))
    with pytest.raises(ProtocolError, match="id of 65 bits, limit is 64"):
        server.next_message()


def test_the_first_packet_of_a_client_chooses_the_codec_for_good():
    server = ServerProtocol()
    server.feed(LengthPrefix().frame(b'[0,"x"]') + packet([1, "x"]))
    assert server.next_message() == Request(0, "x", [])
    with pytest.raises(DecodeError, match="bad-utf8|bad-json"):
        server.next_message()


def test_native_order_and_garbage_are_named():
    for payload, code in ((b"\x04\x0b\x08garbage", "native-order"), (b"GET / HT", "bad-header")):
        server = ServerProtocol()
        server.feed(LengthPrefix().frame(payload))
        with pytest.raises(DecodeError) as caught:
            server.next_message()
        assert caught.value.code == code


def test_ids_come_back_as_they_came():
    server = ServerProtocol()
    server.feed(packet(["7", "x"]) + packet([-1, "x"]))
    assert [request.id for request in messages(server)] == ["7", -1]


def test_a_reply_with_the_id_as_text_finds_its_call():
    client = ClientProtocol(StorableCodec())
    client.call("x", [], "token")
    client.feed(packet(["0", "answer"]))
    assert messages(client) == [Result("token", ["answer"])]


def test_answers_that_nobody_waits_for_are_logged_and_skipped(caplog):
    client = ClientProtocol(StorableCodec())
    client.call("x", [], "token")
    client.feed(packet([9, "stray"]) + packet(["word", "stray"]) + packet([0, "answer"]))
    assert messages(client) == [Result("token", ["answer"])]
    assert [record.message for record in caplog.records] == [
        "< reply to a call that is not pending, id 9",
        "< reply to a call that is not pending, id 'word'",
    ]


def test_ids_wrap_and_skip_those_in_use():
    client = ClientProtocol(StorableCodec())
    client.call("x", [], "old")
    client._next_id = 0x7FFFFFFF
    assert client.call("x", [], None)[0] == 0x7FFFFFFF
    assert client.call("x", [], None)[0] == 1


def test_ids_skip_those_of_functions():
    client = ClientProtocol(StorableCodec())
    client.call("x", [print], None)
    (used,) = client.callbacks
    client._next_id = used
    assert client.call("x", [], None)[0] not in {used, *list(client.pending)[:-1]}


def test_a_call_that_cannot_be_encoded_is_not_pending():
    client = ClientProtocol(StorableCodec(), max_packet=100)
    for bad in (object(), "x" * 100):
        with pytest.raises(EncodeError):
            client.call("x", [bad], "token")
    assert not client.pending
    assert client.call("x", [], "token")[0] == 0


def test_a_lost_connection_gives_the_tokens_back_once():
    client = ClientProtocol(StorableCodec())
    for token in "abc":
        client.call("x", [], token)
    assert client.connection_lost() == ["a", "b", "c"]
    client.abandon(1)
    assert client.connection_lost() == ["a", "c"]
    for id in (0, 2):
        client.abandon(id)
    assert client.connection_lost() == []
    assert not client.pending
