"""What is wrong about a call is told by its name: an option, or where to listen.

An option that there is not is refused by the method that was called, with the one that is meant.
"""

import dataclasses
import errno
import os
import socket

import pytest

from eventmux import EventMux
from eventmux._channels.options import ChannelOptions, Options


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


def test_handles_without_options_share_what_is_usual():
    usual = ChannelOptions()
    assert usual.having(EventMux.add, {"meta": 1}) is usual
    assert usual.having(EventMux.add, {"read_size": None}) is usual
    assert usual.having(EventMux.add, {"read_size": 5}) == ChannelOptions(read_size=5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bufferd": None}, "'bufferd'; did you mean 'buffered'?"),
        ({"blacklog": 5}, "'blacklog'; did you mean 'backlog'?"),
        ({"mod": 0o600}, "'mod'; did you mean 'mode'?"),
        ({"xyz": 1}, "'xyz'"),
        (
            {"errors": True, "xyz": 1, "tiemout": 1},
            "'tiemout'; did you mean 'idle_timeout'?",
        ),
        ({"listen": True}, "'listen'"),
    ],
)
def test_listen(mux, options, text):
    with pytest.raises(TypeError) as caught:
        mux.listen("tcp://127.0.0.1:0", **options)
    assert str(caught.value) == f"EventMux.listen() has no option {text}"
    assert not mux.handles()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tiemout": 1}, "'tiemout'; did you mean 'timeout'?"),
        ({"metahandler": 1}, "'metahandler'; did you mean 'meta_handler'?"),
        ({"backlog": 1}, "'backlog'"),
        ({"type": "dgram"}, "'type'"),
    ],
)
def test_connect(mux, options, text):
    with pytest.raises(TypeError) as caught:
        mux.connect("tcp://127.0.0.1:1", **options)
    assert str(caught.value) == f"EventMux.connect() has no option {text}"
    assert not mux.handles()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bufered": None}, "'bufered'; did you mean 'buffered'?"),
        ({"lisen": True}, "'lisen'; did you mean 'listen'?"),
        ({"mta": 1}, "'mta'; did you mean 'meta'?"),
        ({"timeout": 1}, "'timeout'; did you mean 'idle_timeout'?"),
    ],
)
def test_add(mux, options, text):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TypeError) as caught:
            mux.add(ours, **options)
        assert str(caught.value) == f"EventMux.add() has no option {text}"
        assert not mux.handles()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"read_sise": 1}, "'read_sise'; did you mean 'read_size'?"),
        ({"buffered": None}, "'buffered'"),
    ],
)
def test_the_mux_itself(options, text):
    with pytest.raises(TypeError) as caught:
        EventMux(**options)
    assert str(caught.value) == f"EventMux() has no option {text}"


def test_a_class_of_the_programs_is_named_as_it_is_called():
    class Mine(EventMux):
        pass

    with pytest.raises(TypeError, match=r"^Mine\(\) has no option 'spn'; did you mean 'spin'\?$"):
        Mine(spn=0)


def test_an_option_that_no_method_takes_does_not_open_anything(mux, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(TypeError, match="has no option 'xyz'"):
        mux.listen("tcp://127.0.0.1:0", xyz=1)


def test_no_positional_options(mux):
    with pytest.raises(TypeError, match="positional"):
        EventMux(None)
    with pytest.raises(TypeError, match="positional"):
        mux.add(0, None)


def test_the_types_of_the_options_are_those_that_the_channels_have():
    inner = {field.name: field.type for field in dataclasses.fields(ChannelOptions)}
    outer = {name: each.__forward_arg__ for name, each in Options.__annotations__.items()}
    assert inner.pop("reads_per_turn") == "int"  # it is the mux that has it
    assert outer.pop("meta") == "object"  # it is no affair of a channel's
    for name in ("server_side", "server_hostname", "proxy", "trusted"):  # of one method alone
        del inner[name]
    assert (inner.pop("read_size"), outer.pop("read_size")) == ("int", "int | None")
    assert inner == outer


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_port_in_use(mux, scheme):
    port = mux.listen(f"{scheme}://127.0.0.1:0").getsockname()[1]
    url = f"{scheme}://127.0.0.1:{port}"
    with pytest.raises(OSError, match="Address already in use") as caught:
        mux.listen(url)
    error = caught.value
    assert error.errno == errno.EADDRINUSE
    mend = "stop the program that has it, or choose another port"
    assert str(error) == f"[Errno {error.errno}] {os.strerror(error.errno)}: {mend}: {url!r}"
    assert len(mux.handles()) == 1


def test_a_path_in_use(mux, tmp_path):
    (tmp_path / "file").write_text("")
    for path, text in (
        (tmp_path / "file", "in use"),
        (tmp_path / "no" / "folder", "No such file or directory: its folder is missing"),
    ):
        url = f"unix://{path}"
        with pytest.raises(OSError, match=f"{text}: '{url}'$"):
            mux.listen(url)


def test_a_name_that_is_unknown(mux, monkeypatch):
    def fail(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror, match="not known: 'tcp://name:7'$"):
        mux.listen("tcp://name:7")
