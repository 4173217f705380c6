r"""Buffering disciplines: bytes of a stream in, whole records out.

A buffer belongs to one stream. `write()` takes what arrived, however it was cut, and `read()`
gives the records that are complete, in order. The records do not depend on how the stream was
cut into writes, and the time is linear in its length, be it in pieces of one byte or of 100 MB.
(Exceptions are a pattern that can be satisfied too early, see `Split` and `Regexp`, and a function
that takes long to tell a length, see `Frames`.)

    >>> from eventmux.buffers import Split
    >>> lines = Split(b"\n", max_size=1000)
    >>> lines.write(b"one\ntwo\nthr")
    >>> lines.read()
    [b'one', b'two']
    >>> lines.write(b"ee\n")
    >>> lines.read()
    [b'three']

A mux does that by itself: `mux.listen(url, buffered=Split(max_size=1000))` gives one `Read` for
each line of each connection.

`max_size` limits one record, not one write: a burst of small records passes whatever its size,
and the good records in front of one over the limit are still given out. Once a buffer has
raised, the stream has no record boundaries any more: each further `write()` raises again.
"""

from __future__ import annotations

from eventmux.buffers._batch import Batch
from eventmux.buffers._frames import AtLeast, Frames
from eventmux.buffers._http import HTTP
from eventmux.buffers._records import Buffer
from eventmux.buffers._size import FixedSize, Last, Size
from eventmux.buffers._split import Regexp, Split

__all__ = [
    "HTTP",
    "AtLeast",
    "Batch",
    "Buffer",
    "FixedSize",
    "Frames",
    "Last",
    "Regexp",
    "Size",
    "Split",
]
