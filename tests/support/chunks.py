"""A stream, cut into writes in any way."""

import itertools

from hypothesis import strategies as st


@st.composite
def chunkings(draw, stream):
    """Draw lists of pieces that make up the bytes."""
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]
