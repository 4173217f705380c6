"""Names that a server has, and names that Python has: which can stay, and what stands for others.

A name of Perl's may be any text: `foo-bar`, `class`, `1st`, with quotes and newlines. It is put
into a program as it is only if it is a name there that nothing else has; in all other places it is
a literal, which `source.py` writes.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Container, Iterable

__all__ = ["Names", "is_name"]

_LONGEST = 100  # characters of a name that stays
_CUT = 60  # and of one that is made, but for what is added


def is_name(text: str, taken: Container[str] = ()) -> bool:
    """True if a parameter, a method or a field may be called so.

    Not `__x`, which is another name within a class; and nothing that Python reads as another name,
    as it does with the ligature in `\ufb01nd`.

    Args:
        text: any.
        taken: what is a name already.
    """
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and not text.startswith("__")
        and len(text) <= _LONGEST
        and unicodedata.normalize("NFKC", text) == text
        and text not in taken
    )


class Names:
    """Names that are taken, and new ones that are not.

    A server may have any number of names that look alike once they are made into Python's, so no
    number that stands behind one is tried twice.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}  # the last one behind each name

    def __contains__(self, name: object) -> bool:
        """Return whether a name is taken."""
        return name in self._taken

    def new(self, text: str, prefix: str = "") -> str:
        """Take and return a name that resembles a text, and begins with the prefix."""
        plain = re.sub(r"\W+", "_", text[:_CUT], flags=re.ASCII).strip("_")
        name = prefix + plain
        if not name or name[0].isdigit():
            name = f"_{name}" if name else "value"
        return self._free(name)

    def new_class(self, words: str, ending: str) -> str:
        """Take and return a name for a class: for `add_numbers`, `AddNumbers` and the ending."""
        parts = re.split(r"[^A-Za-z0-9]+", words[:_CUT])
        name = "".join(part[:1].upper() + part[1:] for part in parts) + ending or "Table"
        return self._free(f"_{name}" if name[:1].isdigit() else name)

    def _free(self, name: str) -> str:
        free = name = f"{name}_" if keyword.iskeyword(name) else name  # a class is none: `False`
        while free in self._taken:
            number = self._numbers[name] = self._numbers.get(name, 1) + 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free
