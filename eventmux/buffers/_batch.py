"""All records of one read in one event: `Batch`.

This file does not know how records are cut; what becomes of a batch is the stream's.
"""

from __future__ import annotations

from eventmux.buffers._records import Buffer

__all__ = ["Batch"]


class Batch:
    r"""A buffer whose records come together: one `Records` for all that one read completes.

        mux.listen(url, buffered=Batch(Split(b"\n")))

    A peer that does not wait for answers sends many at a time, and then there are fewer events to
    handle than with a `Read` for each. How many come together depends on how they arrive, and may
    be one. What is left at the end of the stream is a `ReadLast` or a `Records`, as the other
    buffer has it.

    Args:
        buffer: what cuts them, which may be one of your own. Like that, it is a pattern.

    Raises:
        TypeError: it is no buffer, or a `Batch` itself.
    """

    __slots__ = ("buffer",)

    def __init__(self, buffer: Buffer) -> None:
        if isinstance(buffer, (type, Batch)) or not hasattr(buffer, "read_last"):
            raise TypeError(f"buffer is {buffer!r}, must be a buffer such as Split()")
        self.buffer = buffer

    @property
    def returns_last(self) -> bool:
        """As the other buffer has it."""
        return self.buffer.returns_last

    @property
    def pending(self) -> int:
        """As the other buffer has it."""
        return self.buffer.pending

    def write(self, data: bytes) -> None:
        """Add bytes of the stream; it raises what the other buffer raises."""
        self.buffer.write(data)

    def read(self) -> list[bytes]:
        """Return the complete records that were not returned before."""
        return self.buffer.read()

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        return self.buffer.read_last()

    def fresh(self) -> Batch:
        """Return an empty one with the same settings, for another stream."""
        return Batch(self.buffer.fresh())
