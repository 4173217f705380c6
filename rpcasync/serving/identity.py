"""Who is at the other end of a client's connection, in the words of the mux, and in a line of text.

`eventmux.Peer` says who somebody is; `peer.Peer` of this folder is what the server keeps of a
client. So that nobody takes one for the other, the first is called `Identity` here.

This file decides nothing.
"""

from __future__ import annotations

import socket
from typing import Any

from eventmux.peers import Address
from eventmux.peers import Peer as Identity
from eventmux.sockets import credentials, peer_address
from rpcasync._log import shorten

__all__ = ["Identity", "described", "identity_of", "is_told_by_name", "name_of", "named"]


def identity_of(sock: socket.socket, told: object = None) -> Identity:
    """Return who is at the other end of a connection.

    Args:
        sock: the connection.
        told: what the mux has told of it; if that is nothing, as by another mux than ours, the
            kernel is asked.
    """
    if isinstance(told, Identity):
        return told
    try:
        found = credentials(sock)
    except OSError:  # it is closed, say
        found = None
    return Identity(peer_address(sock), found)


# A name is short, and there is one for each client. For most of them, it says all that is known.


def name_of(sock: socket.socket, identity: Identity) -> str:
    """Return what a client is called in the log."""
    address = identity.address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else f"fd {sock.fileno()}"


def is_told_by_name(identity: Identity) -> bool:
    """True if all that is known of a client is its IPv4 address, which is in its name."""
    address = identity.address
    return isinstance(address, tuple) and identity == Identity(address) and len(address) == 2


def named(name: str) -> Identity:
    """Return the identity that is told by a name."""
    host, _, port = name.rpartition(":")
    return Identity((host, int(port)))


# For a line about somebody who is let in nowhere, and of whom nothing else is logged


def described(name: str, identity: Identity) -> str:
    """Return all that tells who somebody is: the name, the process and user, the certificate..."""
    details = []
    if identity.proxy is not None:
        details.append(f"by proxy {_address(identity.proxy.address)}")
    if identity.credentials is not None:
        pid, uid, gid = identity.credentials
        details.append(f"process {pid}, uid {uid}, gid {gid}")
    if identity.certificate is not None:
        details.append(f"certificate {_subject(identity.certificate)}")
    elif identity.tls is not None:
        details.append("no certificate")
    return f"{name} ({'; '.join(details)})" if details else name


def _address(address: Address | None) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


def _subject(certificate: dict[str, Any]) -> str:
    """Return the subject of what `getpeercert()` gives, the common name first: `CN=alice, ...`.

    A certificate without a subject, as RFC 5280 has it, names whose it is elsewhere.
    """
    pairs = [pair for part in certificate.get("subject", ()) for pair in part]
    pairs.sort(key=lambda pair: pair[0] != "commonName")
    pairs = pairs or list(certificate.get("subjectAltName", ()))
    shown = (f"{_SHORT.get(kind, kind)}={value}" for kind, value in pairs)
    return shorten(", ".join(shown)) or "without a name"


_SHORT = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}  # RFC 4514
