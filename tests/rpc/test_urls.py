import errno
import os
import socket
import subprocess

import pytest
from support.programs import LIMIT, PROGRAMS

from eventmux import EventMux, URLError
from eventmux.urls import Endpoint
from rpcasync import (
    ChildSocket,
    Client,
    Server,
    url_absolute,
    url_connect,
    url_disconnect,
    url_explode,
    url_listen,
)
from rpcasync.urls import check_stream, connect_stream, is_stream_url, parse_stream_url

CALC = PROGRAMS / "calc_server.py"
NO_URLS = ["", "x", "://", "://x", "tcp", "tcp:/x", "a b://x", "\u00e4://x"]


def address_of(sock, scheme):
    name = sock.getsockname()
    return f"{scheme}://{name}" if isinstance(name, str) else f"{scheme}://localhost:{name[1]}"


# Streams


@pytest.mark.parametrize("url", ["tcp://localhost:0", "tcp://:0", "unix://{}/socket"])
def test_listen_and_connect(tmp_path, url):
    with url_listen(url.format(tmp_path)) as listener:
        assert not listener.getblocking()
        with url_connect(address_of(listener, url.partition(":")[0]), timeout=10) as sock:
            assert sock.gettimeout() is None
            accepted, _ = listener.accept()
            with accepted:
                sock.sendall(b"x")
                accepted.settimeout(10)
                assert accepted.recv(1) == b"x"


def test_nobody_is_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        url_connect(f"unix://{tmp_path}/nothing")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            url_connect(f"tcp://127.0.0.1:{unused.getsockname()[1]}")


def test_packets_that_are_a_stream_too(tmp_path):
    url = f"unix_seqpacket://{tmp_path}/socket"
    with url_listen(url) as listener, url_connect(url, timeout=10) as sock:
        accepted, _ = listener.accept()
        with accepted:
            sock.send(b"one")
            sock.send(b"two")
            accepted.settimeout(10)
            assert (accepted.recv(10), accepted.recv(10)) == (b"one", b"two")


# Datagrams


@pytest.mark.parametrize("url", ["udp://localhost:0", "udp://:0", "unix_dgram://{}/socket"])
def test_datagrams_there_and_back(tmp_path, url):
    with url_listen(url.format(tmp_path)) as receiver:
        assert not receiver.getblocking()
        receiver.settimeout(10)
        scheme = url.partition(":")[0]
        with url_connect(address_of(receiver, scheme).replace("localhost", "127.0.0.1")) as sock:
            assert sock.gettimeout() is None
            sock.settimeout(10)
            sock.send(b"ping")
            data, sender = receiver.recvfrom(100)
            receiver.sendto(data + b" pong", sender)
            assert sock.recv(100) == b"ping pong"


def test_a_name_is_looked_up_for_datagrams():
    with url_listen("udp://:0") as receiver:
        port = receiver.getsockname()[1]
        with url_connect(f"udp://localhost:{port}") as sock:
            assert sock.getpeername()[1] == port


def test_the_next_address_is_tried_for_datagrams(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 9, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 9)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    real = socket.socket

    def without_ipv6(family, *args, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, *args, **options)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with url_connect("udp://both:9") as sock:
        assert sock.getpeername() == ("127.0.0.1", 9)
    del found[1]
    with pytest.raises(OSError, match="no IPv6"):
        url_connect("udp://both:9")


@pytest.mark.parametrize("url", ["udp://", "udp://:0"])
def test_a_socket_without_a_peer(url):
    with url_connect(url) as sock:
        assert sock.getblocking()
        with pytest.raises(OSError, match="not connected"):
            sock.getpeername()


def test_no_receiver_of_datagrams(tmp_path):
    with pytest.raises(FileNotFoundError):
        url_connect(f"unix_dgram://{tmp_path}/nothing")


# Inherited descriptors


def test_an_inherited_descriptor():
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    with ours, url_connect(f"cfd://{theirs.detach()}") as sock:
        assert not sock.get_inheritable()
        ours.sendall(b"x")
        assert sock.recv(1) == b"x"


def test_an_inherited_descriptor_that_is_none():
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb"), pytest.raises(OSError, match="non-socket"):
        url_connect(f"cfd://{reader}")
    with pytest.raises(OSError, match="Bad file descriptor"):
        url_connect("cfd://999999")


# What is no URL


@pytest.mark.parametrize(
    "url", [*NO_URLS, "cfd://", "cfd://x", "cfd://-1", "cfd://\u0663", "http://x", "perl5://x"]
)
def test_urls_that_are_none(url):
    with pytest.raises(URLError) as caught:
        url_connect(url)
    assert str(caught.value).startswith(f"cannot parse {url!r}: expected ")


@pytest.mark.parametrize("url", [*NO_URLS, "cfd://1", f"python://{CALC}", "open2://ls"])
def test_urls_that_nobody_can_listen_at(url):
    with pytest.raises(URLError) as caught:
        url_listen(url)
    assert str(caught.value).startswith(f"cannot parse {url!r}: expected tcp://, unix://, udp://")


@pytest.mark.parametrize(
    "function", [url_connect, url_listen, url_explode, parse_stream_url, is_stream_url]
)
def test_a_url_is_a_str(function):
    with pytest.raises(TypeError, match="must be a str"):
        function(b"tcp://localhost:1")


@pytest.mark.parametrize("url", ["tcp://localhost:1", "cfd://0", "udp://localhost:1"])
def test_only_programs_take_arguments(url):
    with pytest.raises(URLError, match="cannot pass arguments"):
        url_connect(url, "argument")


# What RPC can use


def test_urls_of_streams():
    assert parse_stream_url("tcp://[::1]:7") == Endpoint("tcp", host="::1", port=7)
    assert parse_stream_url("unix://a") == Endpoint("unix", path="a")


def test_what_is_a_url_of_a_stream():
    assert is_stream_url("tcp://[::1]:7")
    assert is_stream_url("unix://a")
    for url in ("udp://a:1", "unix_dgram://a", "python://a", "cfd://1", "tcp", "", "x tcp://a:1"):
        assert not is_stream_url(url)


@pytest.mark.parametrize("url", [*NO_URLS, "udp://localhost:1", "unix_dgram://x", "python://x"])
def test_urls_of_no_streams(url):
    with pytest.raises(URLError) as caught:
        parse_stream_url(url)
    assert str(caught.value) == f"cannot parse {url!r}: expected tcp://, tls:// or unix://"


@pytest.mark.parametrize(
    "url", ["udp://localhost:1", "unix_dgram://x", "unix_seqpacket://x", "open2://no_such_command"]
)
def test_urls_that_take_no_calls(url):
    with pytest.raises(URLError, match=f"cannot send calls to '{url}'"):
        connect_stream(url)


def test_connect_a_stream():
    listener = url_listen("tcp://localhost:0")
    with listener, connect_stream(address_of(listener, "tcp")) as sock:
        assert sock.getpeername() == listener.getsockname()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    number = theirs.detach()
    with ours, pytest.raises(TypeError, match="not a stream socket"):
        connect_stream(f"cfd://{number}")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize("url", ["udp://127.0.0.1:0", "unix_dgram://{}/socket"])
def test_a_server_does_not_listen_for_datagrams(tmp_path, url):
    with EventMux() as mux:
        rpc = Server(mux)
        with pytest.raises((TypeError, URLError)):
            rpc.listen(url.format(tmp_path))
        assert not rpc.has_clients()
        assert not mux.handles()


def test_datagrams_are_nothing_for_rpc():
    with url_connect("udp://") as sock, pytest.raises(TypeError, match="not a stream socket"):
        check_stream(sock)
    with pytest.raises(TypeError, match="cannot watch 3: not a stream socket"):
        check_stream(3)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:7007", "; did you mean 'tcp://127.0.0.1:7007'?"),
        ("tpc://a:1", "; did you mean 'tcp://a:1'?"),
        ("/run/x.sock", "; did you mean 'unix:///run/x.sock'?"),
        ("server.py", "; did you mean 'python://server.py'?"),
        ("/srv/server.pl", "; did you mean 'perl:///srv/server.pl'?"),
        ("Server.pm", "; did you mean 'perl://Server.pm'?"),
        ("pyhton://server.py", "; did you mean 'python://server.py'?"),
        ("http://x", ""),
        ("nonsense", ""),
    ],
)
def test_what_was_meant_by_what_is_no_url_of_a_server(url, expected):
    with pytest.raises(URLError) as caught:
        connect_stream(url)
    known = "tcp://, tls://, unix://, python://, perl:// or cfd://"
    assert str(caught.value) == f"cannot parse {url!r}: expected {known}{expected}"


def test_what_was_meant_by_what_cannot_be_listened_at():
    with pytest.raises(URLError) as caught:
        parse_stream_url("127.0.0.1:0")
    known = "expected tcp://, tls:// or unix://; did you mean 'tcp://127.0.0.1:0'?"
    assert str(caught.value) == f"cannot parse '127.0.0.1:0': {known}"
    with pytest.raises(URLError, match=r"or unix://$"):
        parse_stream_url("server.py")


# What RPC can use


def test_no_child_no_status():
    sock = socket.socket()
    assert url_disconnect(sock) is None
    assert sock.fileno() == -1


@pytest.mark.parametrize(
    ("grace", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("5", TypeError),
        (True, TypeError),
    ],
)
def test_a_grace_that_is_no_time(grace, error):
    with socket.socket() as sock:
        with pytest.raises(error, match="grace is"):
            url_disconnect(sock, grace)
        assert sock.fileno() >= 0  # nothing was begun


def test_a_child_that_ends_by_itself():
    sock = url_connect(f"python://{CALC}")
    assert url_disconnect(sock, LIMIT) == 0
    assert url_disconnect(sock) == 0


def test_a_child_that_ends_when_told(tmp_path):
    program = tmp_path / "waits.py"
    program.write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n")
    sock = url_connect(f"python2://{program}")
    assert sock.stdout.readline() == b"up\n"
    assert url_disconnect(sock, grace=0.01) < 0  # the signal that ended it


def test_a_child_that_has_to_be_killed(tmp_path):
    program = tmp_path / "stubborn.py"
    program.write_text(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\nwhile True: signal.pause()\n"
    )
    sock = url_connect(f"python2://{program}")
    assert sock.stdout.readline() == b"up\n"
    assert url_disconnect(sock, grace=0.01) == -9
    assert (sock.stdout.closed, sock.stderr.closed) == (True, True)


@pytest.mark.slow
def test_ra_15_a_child_that_waits_for_a_reader_of_its_stdout():
    sock = url_connect(f"python2://{PROGRAMS / 'floods.py'}")
    assert sock.stdout.read(1) == b"x"
    assert url_disconnect(sock, grace=1.0) == 1  # the pipe ended it: SIGTERM is ignored
    assert sock.stdout.closed


def test_what_a_child_prints_at_its_end_does_not_harm_it(tmp_path):
    program = tmp_path / "says_bye.py"
    program.write_text(
        "import os, socket\n"
        "sock = socket.socket(fileno=int(os.environ['RPCASYNC_FDS']))\n"
        "sock.recv(1)\n"
        "print('bye' * 1000, flush=True)\n"
    )
    assert url_disconnect(url_connect(f"python2://{program}"), LIMIT) == 0


def test_a_client_may_be_given_the_socket_of_a_child():
    sock = url_connect(f"python://{CALC}", "one", "two")
    assert isinstance(sock, ChildSocket)
    assert isinstance(sock.process, subprocess.Popen)
    assert (sock.stdout, sock.stderr) == (None, None)
    with EventMux() as mux:
        reply = Client(mux, sock).whoami().result(LIMIT)
    assert reply["pid"] == sock.process.pid
    assert reply["argv"] == ["one", "two"]
    assert url_disconnect(sock, LIMIT) == 0


# Taking URLs apart


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("unix://run/x", "unix:///here/run/x"),
        ("unix_dgram://x", "unix_dgram:///here/x"),
        ("unix_seqpacket://x", "unix_seqpacket:///here/x"),
        ("python://server.py", "python:///here/server.py"),
        ("perlroot2header://a/b.pl", "perlroot2header:///here/a/b.pl"),
        ("python://../server.py", "python:///here/../server.py"),
        *((same, same) for same in ("unix:///run/x", "unix://@name", "perl:///server.pl")),
        *((same, same) for same in ("tcp://a:1", "udp://", "cfd://3", "open2://ls", "http://x/y")),
    ],
)
def test_absolute_paths(url, absolute):
    assert url_absolute("/here", url) == [absolute]
    assert url_absolute("/elsewhere", absolute) == [absolute]


def test_absolute_paths_of_several_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = [f"unix://{tmp_path}/sub/a", "tcp://b:1"]
    assert url_absolute("sub", "unix://a", "tcp://b:1") == expected
    assert url_absolute(tmp_path / "sub", "unix://a", "tcp://b:1") == expected
    assert url_absolute("/") == []


@pytest.mark.parametrize("url", [*NO_URLS, "unix://", "python://"])
def test_no_path_to_make_absolute(url):
    with pytest.raises(URLError, match="cannot parse"):
        url_absolute("/here", url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("tcp://127.0.0.1:80", ("tcp", "127.0.0.1", 80)),
        ("udp://localhost:0", ("udp", "localhost", 0)),
        ("tcp://[::1]:8080", ("tcp", "::1", 8080)),
        ("tcp://:7", ("tcp", "", 7)),
        ("udp://", ("udp", "", 0)),
    ],
)
def test_the_parts_of_a_url(url, parts):
    assert url_explode(url) == parts


@pytest.mark.parametrize("url", [*NO_URLS, "unix://x", "tcp://x", "tcp://x:y", f"python://{CALC}"])
def test_urls_without_host_and_port(url):
    with pytest.raises(URLError, match="cannot parse"):
        url_explode(url)
