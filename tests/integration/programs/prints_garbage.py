"""A server that writes what is no packet to its socket."""

import os
import socket

with socket.socket(fileno=int(os.environ["RPCASYNC_FDS"])) as sock:
    sock.sendall(b"\0\0\0\x0aGARBAG")
    while sock.recv(65536):
        pass
