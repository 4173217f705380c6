"""The tables of the documents, and the code in their cells: tests run it."""

from __future__ import annotations

import re

from support.programs import ROOT


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of each row of the table below a heading."""
    text = (ROOT / "docs" / page).read_text().split(f"# {heading}\n", 1)[1]
    table = re.search(r"^\| .*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, f"{page} has no table below {heading!r}"
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[1].splitlines()]
    return [[cell.strip() for cell in cells] for cells in lines]


def code_in(cell: str) -> list[str]:
    """Return the pieces of code in a cell, in order."""
    return re.findall(r"`([^`]+)`", cell)
