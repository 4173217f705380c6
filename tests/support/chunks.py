"""A stream, cut into writes in any way."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


@st.composite
def chunkings(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Draw lists of pieces that make up the bytes."""
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]
