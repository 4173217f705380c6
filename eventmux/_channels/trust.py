"""Which proxies may say who their clients are.

By address, networks as text: "10.0.0.0/8", "2001:db8::/32", "192.0.2.7". A listener for IPv4 and
IPv6 sees an IPv4 client as ::ffff:192.0.2.7, which belongs to the IPv4 networks. A UNIX socket has
no addresses: "unix:" is whoever may connect, as the mode of its file says, and "uid:33" the
processes of that user alone, as the kernel says (Linux).

It takes a while to import `ipaddress`, so this file is imported once there is a proxy.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from eventmux.peers import Peer

__all__ = ["Trust"]

_MAPPED = IPv6Network("::ffff:0:0/96")


class Trust:
    """Those of one listener.

    Args:
        trusted: who they are, each as text.

    Raises:
        TypeError: it is no list of texts.
        ValueError: one of them is not understood, or there is none.
    """

    __slots__ = ("_all_local", "_networks", "_uids")

    def __init__(self, trusted: Collection[str]) -> None:
        if not isinstance(trusted, (list, tuple, set, frozenset)):
            raise TypeError(f'trusted is {trusted!r}, must be a list such as ["127.0.0.0/8"]')
        self._all_local = False
        self._uids: set[int] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for text in trusted:
            self._add(text)
        if not (self._all_local or self._uids or self._networks):
            raise ValueError("trusted is empty: nobody could connect")

    def _add(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"trusted has {text!r}, must be text such as '127.0.0.0/8'")
        scheme, _, rest = text.partition(":")
        if text == "unix:":
            self._all_local = True
        elif scheme == "uid":
            if not (rest.isascii() and rest.isdigit()):
                raise ValueError(f"trusted has {text!r}, must be the number of a user: 'uid:33'")
            self._uids.add(int(rest))
        else:
            try:
                network = ip_network(text)
            except ValueError as error:
                expected = "must be a network such as '10.0.0.0/8', 'unix:', or 'uid:33'"
                raise ValueError(f"trusted has {text!r}, {expected}: {error}") from None
            self._networks.append(_unmapped(network))

    def check_family(self, family: int) -> None:
        """Raise ValueError if nobody could connect to a listener of a family."""
        is_local = family == getattr(socket, "AF_UNIX", None)
        if is_local and not (self._all_local or self._uids):
            raise ValueError("trusted has neither 'unix:' nor 'uid:...': nobody could connect")
        if not is_local and not self._networks:
            raise ValueError("trusted has no network such as '10.0.0.0/8': nobody could connect")

    def covers(self, peer: Peer) -> bool:
        """True for whoever is at the other end of a connection, as the kernel says."""
        address = peer.address
        if not isinstance(address, tuple):
            uid = None if peer.credentials is None else peer.credentials.uid
            return self._all_local or uid in self._uids
        host = ip_address(address[0].partition("%")[0])  # without the zone of fe80::1%eth0
        if host.version == 6 and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in network for network in self._networks)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return an IPv4 network that is written as one of IPv6 as what it is."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network
