"""Answer questions about a few names, as DNS servers do (RFC 1035): over UDP and over TCP.

usage: python dns_server.py [HOST [PORT]]    try it with: dig @127.0.0.2 -p 7007 www.home.test

A server that hears on all addresses, HOST 0.0.0.0 or ::, answers from the one that was asked (on
Linux): its clients take no other answer. What is longer than 512 bytes is cut off over UDP, and the
client asks once more over TCP.
"""

import socket
import struct
import sys
from contextlib import suppress

from eventmux import EventMux, Read, ReadWithDestination
from eventmux.buffers import Size

ZONE = "home.test"
LIFETIME = 60  # seconds that an answer may be kept
NAMES = {
    "home.test": {"A": ["192.0.2.1"], "TXT": ["a zone for tests"]},
    "www.home.test": {"A": ["192.0.2.80", "192.0.2.81"], "AAAA": ["2001:db8::80"]},
    "long.home.test": {"TXT": ["x" * 300, "y" * 300]},
}
TYPES = {1: "A", 16: "TXT", 28: "AAAA"}
SOA, ANY, IN = 6, 255, 1
NO_ERROR, MALFORMED, NO_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 3, 4, 5
IS_ANSWER, IS_AUTHORITY, IS_CUT, WANTS_RECURSION = 0x8000, 0x0400, 0x0200, 0x0100
HEADER = struct.Struct("!6H")  # id, flags, and how many: questions, answers, authorities, others
RECORD = struct.Struct("!HHHIH")  # where the name is, type, class, lifetime, length of the data
ASKED = 0xC000 | HEADER.size  # "the name is the one of the question", as a pointer


def read_question(data):
    """Return the name, type and class that are asked for, and where the question ends.

    Raises ValueError where it is malformed, and IndexError or struct.error where it is cut short.
    """
    labels, at = [], HEADER.size
    while size := data[at]:
        if size > 63:  # a pointer: a question has nothing in front that one could point to
            raise ValueError("a label of more than 63 bytes")
        labels.append(data[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
        if at - HEADER.size > 254:
            raise ValueError("a name of more than 255 bytes")
    kind, class_ = struct.unpack_from("!HH", data, at + 1)
    return ".".join(labels), kind, class_, at + 5


def pack_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def pack_data(kind, value):
    """Return a value as it stands in a record of that type."""
    if kind != "TXT":
        return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, value)
    text = value.encode()
    pieces = [text[at : at + 255] for at in range(0, len(text), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)


def pack_record(kind, data):
    return RECORD.pack(ASKED, kind, IN, LIFETIME, len(data)) + data


def start_of_authority():
    """Return the record that comes where there is nothing to be answered (RFC 2308)."""
    data = pack_name("ns." + ZONE) + pack_name("root." + ZONE)
    data += struct.pack("!5I", 1, 3600, 600, 86400, LIFETIME)
    return pack_name(ZONE) + struct.pack("!HHIH", SOA, IN, LIFETIME, len(data)) + data


def find(name, kind, class_):
    """Return what a question comes to, and the records that answer it."""
    if class_ != IN or not f".{name}".endswith("." + ZONE):
        return REFUSED, []
    if name not in NAMES:
        return NO_NAME, []
    return NO_ERROR, [
        pack_record(number, pack_data(text, value))
        for number, text in TYPES.items()
        if kind in (number, ANY)
        for value in NAMES[name].get(text, [])
    ]


def answer(data, limit):
    """Return the answer to a packet, of at most so many bytes; None where there is to be none."""
    if len(data) < HEADER.size:
        return None
    number, flags, questions, *_ = HEADER.unpack_from(data)
    if flags & IS_ANSWER:  # or two servers might go on answering each other for ever
        return None
    flags = IS_ANSWER | flags & (0x7800 | WANTS_RECURSION)
    if flags & 0x7800:  # no query, but a notice or an update
        return HEADER.pack(number, flags | NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        if questions != 1:
            raise ValueError("not just one question")
        name, kind, class_, end = read_question(data)
    except (ValueError, IndexError, struct.error):
        return HEADER.pack(number, flags | MALFORMED, 0, 0, 0, 0)
    question = data[HEADER.size : end]
    result, records = find(name, kind, class_)
    flags |= result if result == REFUSED else result | IS_AUTHORITY
    others = [] if records or result == REFUSED else [start_of_authority()]
    body = question + b"".join(records + others)
    if HEADER.size + len(body) > limit:
        return HEADER.pack(number, flags | IS_CUT, 1, 0, 0, 0) + question
    return HEADER.pack(number, flags, 1, len(records), len(others), 0) + body


def listen(mux, host, port):
    """Listen for both, at the same port."""
    host = f"[{host}]" if ":" in host else host
    udp = mux.listen(f"udp://{host}:{port}", destination=sys.platform == "linux")
    port = udp.getsockname()[1]
    limits = {"high_water": 65536, "idle_timeout": 30.0}
    mux.listen(f"tcp://{host}:{port}", buffered=Size("!H"), **limits)
    return udp


def serve(mux, udp):
    for event in mux:
        match event:
            case ReadWithDestination(fh, data, sender, local=local):
                if (packet := answer(data, 512)) is not None:
                    mux.sendto(fh, sender, packet, source=local)
            case Read(fh, data, sender) if fh is udp:
                if (packet := answer(data, 512)) is not None:
                    mux.sendto(fh, sender, packet)
            case Read(fh, data):
                packet = answer(data, 65535)
                if packet is None:
                    mux.close(fh)
                else:
                    mux.send(fh, struct.pack("!H", len(packet)) + packet)


host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = sys.argv[2] if len(sys.argv) > 2 else "7007"
try:
    with EventMux() as mux, suppress(KeyboardInterrupt):
        udp = listen(mux, host, port)
        print("listening on", udp.getsockname(), flush=True)
        serve(mux, udp)
except (OSError, ValueError) as error:
    sys.exit(f"{' '.join(sys.argv[1:])}: {error}")
