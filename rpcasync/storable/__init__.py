"""Perl's Storable format in network order: what `nfreeze` writes and `thaw` reads.

`freeze` turns Python values into an image, `thaw` turns an image into Python values. The
one rule: bytes from a stranger give values or a DecodeError, in bounded time and memory,
and never anything that runs.

    >>> from rpcasync.storable import freeze, thaw
    >>> freeze([1, "two", None]).hex()
    '050b020000000308810a0374776f05'
    >>> thaw(freeze({"a": [1, 2.5]}))
    {'a': [1, '2.5']}

This package knows nothing of packets, calls or sockets.
"""

from __future__ import annotations

from rpcasync.storable._freeze import freeze
from rpcasync.storable._thaw import thaw
from rpcasync.storable._values import Blessed, Regexp, ScalarRef

__all__ = ["Blessed", "Regexp", "ScalarRef", "freeze", "thaw"]
