"""What a program may ask of TLS, and which side of it we are.

Python finds out late, or not at all, that a context is for the other side, or lacks a name. Here a
wrong call is told at the call.

This file knows options, and nothing of channels and sockets.
"""

from __future__ import annotations

import ssl
from dataclasses import replace

from eventmux._channels.options import ChannelOptions
from eventmux._tls.usual import name_of, usual_context
from eventmux.urls import Endpoint

__all__ = ["for_connection", "for_listener", "for_url"]


def for_url(options: ChannelOptions, endpoint: Endpoint) -> ChannelOptions:
    """Return the options of a connection to a URL: the host is whose certificate it has to show."""
    if options.tls is None:
        if endpoint.scheme != "tls":
            return options
        options = replace(options, tls=usual_context())
    if options.server_hostname is None and endpoint.host:
        options = replace(options, server_hostname=name_of(endpoint.host))
    return replace(options, server_side=False)


def for_listener(options: ChannelOptions, what: object) -> ChannelOptions:
    """Return the options of a listener, whose connections inherit them.

    Raises:
        ValueError: the context is for clients, or something else is.
    """
    if options.server_side is False:
        raise ValueError(f"server_side is False, but {what!r} listens")
    if options.manual_accept:
        raise ValueError("tls is of no use with manual_accept: give it to add(), when accepted")
    return for_connection(replace(options, server_side=True), what)


def for_connection(
    options: ChannelOptions, what: object, *, accepted: bool = False
) -> ChannelOptions:
    """Return the options of a connection, which say what side we are.

    Args:
        options: those that the program has given.
        what: the handle, for messages.
        accepted: whether we accepted it, for contexts that are for both sides.

    Raises:
        ValueError: the context is for the other side, or a name is missing, or is of no use.
    """
    context = options.tls
    if context is None:
        return options
    side = options.server_side
    its_side = _SIDES.get(context.protocol)
    if side is None:
        side = accepted if its_side is None else its_side
    elif its_side is not None and its_side != side:
        is_for, purpose = ("clients", "CLIENT_AUTH") if side else ("servers", "SERVER_AUTH")
        raise ValueError(
            f"tls is a context for {is_for} ({context.protocol.name}): "
            f"{what!r} needs one of ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if side and options.server_hostname is not None:
        raise ValueError(f"server_hostname is {options.server_hostname!r}, but we are the server")
    if not side and not options.server_hostname and context.check_hostname:
        raise ValueError("server_hostname is missing: the name that the certificate is to be for")
    return replace(options, server_side=side)


_SIDES = {ssl.PROTOCOL_TLS_SERVER: True, ssl.PROTOCOL_TLS_CLIENT: False}
"""Whether a context is for servers; one of PROTOCOL_TLS is for both sides."""
