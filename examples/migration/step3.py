"""The stores, step 3: all ten procedures. Nothing of Perl is left.

usage: rpcasync listen -u URL step3.py
"""

from pathlib import Path
from typing import NamedTuple

from eventmux import EventMux
from rpcasync import Caller, Coderef, Fault, Server, init_clients


class Part(NamedTuple):
    """A line of parts.tsv. The price stays the text that it is there: 24.90."""

    number: int
    name: str
    quantity: int
    keep: int
    box: int
    weight: float
    price: str
    supplier: str | None


waiting: list[Caller] = []  # calls of watch


def read_parts() -> dict[int, Part]:
    """One character for each byte, as Perl reads it."""
    lines = Path("parts.tsv").read_text("latin-1").splitlines()[1:]
    return {part.number: part for part in map(read_part, lines)}


def read_part(line: str) -> Part:
    number, name, quantity, keep, box, weight, price, *supplier = line.split("\t")
    counts = int(quantity), int(keep), int(box)
    return Part(int(number), name, *counts, float(weight), price, "".join(supplier) or None)


def write_parts(parts: dict[int, Part]) -> None:
    rows = [Part._fields, *(parts[number] for number in sorted(parts))]
    lines = ["\t".join(str(value) for value in row if value is not None) for row in rows]
    new = Path("parts.tsv.new")
    new.write_text("\n".join([*lines, ""]), "latin-1")
    new.replace("parts.tsv")


def part_of(number: int) -> Part:
    part = read_parts().get(number)
    if part is None:
        raise Fault(f"there is no part {number}")
    return part


def_part = {
    "out": {
        "name": "utf8string",
        "quantity": "integer32",
        "price": "float64",
        "supplier": "utf8string",
    },
}


def rpc_part(caller, number: int):
    part = part_of(number)
    rpc.return_(
        caller, name=part.name, quantity=part.quantity, price=part.price, supplier=part.supplier
    )


def_stock = {"out": {"stock": {}}}


def rpc_stock(caller):
    parts = read_parts().values()
    rpc.return_(caller, stock={str(part.number): part.quantity for part in parts})


def rpc_search(caller, *words: str):
    """Answer with the numbers of all parts with these words in their names."""
    parts = sorted(read_parts().items())
    found = [
        number for number, part in parts if all(word.lower() in part.name.lower() for word in words)
    ]
    rpc.return_(caller, *found)


def_price = {"out": {"total": "float64"}}


def rpc_price(caller, number: int, count: int):
    """A tenth less from ten on."""
    total = float(part_of(number).price) * count * (1 if count < 10 else 0.9)
    rpc.return_(caller, total=f"{total:.2f}")


def_surplus = {"out": {"boxes": "integer32"}}


def rpc_surplus(caller, number: int):
    """Whole boxes beyond what is to be kept; below 0, how many are lacking."""
    part = part_of(number)
    rpc.return_(caller, boxes=int((part.quantity - part.keep) / part.box))


def_weigh = {"out": {"weight": "float64"}}


def rpc_weigh(caller, numbers: list[int]):
    """One of each. Perl shows 15 digits of a number, so that 0.1 + 0.2 is 0.3."""
    parts = read_parts()
    weight = sum(parts[number].weight for number in numbers if number in parts)
    rpc.return_(caller, weight=f"{weight:.15g}")


def_stocktake = {"out": {"value": "float64"}}


def rpc_stocktake(caller, progress: Coderef | None = None):
    """What all parts are worth; tells how far it is."""
    parts = read_parts().values()
    value = 0.0
    for done, part in enumerate(parts, 1):
        value += part.quantity * float(part.price)
        if progress:
            progress(done=done, total=len(parts))
    rpc.return_(caller, value=f"{value:.2f}")


def change(caller, number: int, count: int):
    """Change a quantity by so many; tell whoever waits for a change."""
    part = part_of(number)
    left = part.quantity + count
    if left < 0:
        raise Fault(f"only {part.quantity} of part {number} are left")
    write_parts({**read_parts(), number: part._replace(quantity=left)})
    rpc.return_(caller, left=left)
    while waiting:
        rpc.return_(waiting.pop(0), number=number, left=left)


def_take = {"out": {"left": "integer32"}}


def rpc_take(caller, number: int, count: int):
    change(caller, number, -count)


def_deliver = def_take


def rpc_deliver(caller, number: int, count: int):
    change(caller, number, count)


def_watch = {"out": {"number": "integer32", "left": "integer32"}}


def rpc_watch(caller):
    """Answered with the next change."""
    waiting.append(caller)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
