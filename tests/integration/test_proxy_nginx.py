"""Behind nginx, which sends version 1 of the PROXY protocol."""

import socket

from support.proxies import needs_nginx, nginx
from support.pump import PATIENCE, until

from eventmux import EventMux

pytestmark = needs_nginx


def test_the_address_of_a_client(tmp_path):
    with EventMux() as mux:
        listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=["127.0.0.1"])
        with (
            nginx("127.0.0.1:{1}".format(*listener.getsockname()), tmp_path) as front,
            socket.create_connection(front.getsockname(), PATIENCE) as client,
        ):
            client.sendall(b"hello")
            connect = until(mux, "connect")[-1]
            assert until(mux, "read", connect.fh)[-1].data == b"hello"
            assert connect.address == client.getsockname()
            header = connect.peer.proxy
            assert (header.version, header.source) == (1, client.getsockname())
            assert header.destination == front.getsockname()
            mux.send(connect.fh, b"hello yourself")
            assert client.recv(100) == b"hello yourself"


def test_unix_sockets_say_nothing_of_the_client(tmp_path):
    """The proxy does not know its address: then it is the proxy's own."""
    with EventMux() as mux:
        path = f"{tmp_path}/server"
        mux.listen(f"unix://{path}", proxy="require", trusted=["unix:"])
        with (
            nginx(f"unix:{path}", tmp_path) as front,
            socket.create_connection(front.getsockname(), PATIENCE) as client,
        ):
            client.sendall(b"x")
            connect = until(mux, "connect")[-1]
            assert connect.peer.proxy.version == 1
            assert connect.peer.proxy.credentials is not None
