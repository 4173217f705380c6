"""A store in memory that speaks RESP, the protocol of Redis.

usage: python resp_server.py [URL]           try it with: redis-cli -p 7007 SET answer 42

Clients that do not wait for answers, as `redis-cli --pipe` and `redis-benchmark -P`, send many
commands at a time: they are read, and answered, together.
"""

import sys
from collections.abc import Callable
from contextlib import suppress

from framings import RESP

from eventmux import BufferOverflow, EventMux, MalformedRecord
from eventmux.buffers import Batch

NO_COMMAND = (BufferOverflow, MalformedRecord)
store: dict[bytes, bytes] = {}


def bulk(value):
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def set_(key, value):
    store[key] = value
    return b"+OK\r\n"


def incr(key):
    try:
        number = int(store.get(key, b"0")) + 1
    except ValueError:
        return b"-ERR value is not an integer or out of range\r\n"
    store[key] = b"%d" % number
    return b":%d\r\n" % number


def delete(*keys):
    return b":%d\r\n" % sum(store.pop(key, None) is not None for key in keys)


def exists(*keys):
    return b":%d\r\n" % sum(key in store for key in keys)


def ping(text=None):
    return b"+PONG\r\n" if text is None else bulk(text)


# By name: what answers, and how many arguments it takes, at least and at most.
COMMANDS: dict[bytes, tuple[Callable[..., bytes], int, int]] = {
    b"PING": (ping, 0, 1),
    b"ECHO": (bulk, 1, 1),
    b"GET": (lambda key: bulk(store.get(key)), 1, 1),
    b"SET": (set_, 2, 2),
    b"DEL": (delete, 1, 1000),
    b"EXISTS": (exists, 1, 1000),
    b"INCR": (incr, 1, 1),
}


def words_of(record):
    """Return the words of a command: those of a list, or of a line that somebody has typed."""
    if not record.startswith(b"*"):
        return record.split()
    words, position = [], record.index(b"\r\n") + 2
    while position < len(record):
        start = record.index(b"\r\n", position) + 2
        size = int(record[position + 1 : start - 2])
        if record[position : position + 1] != b"$" or size < 0:
            raise ValueError("a command is a list of bulk strings")
        end = start + size
        words.append(record[start:end])
        position = end + 2
    return words


def answer(record):
    try:
        words = words_of(record)
    except ValueError as error:
        return b"-ERR Protocol error: %s\r\n" % str(error).encode()
    if not words:
        return b""  # an empty line, or list: Redis does so
    name = words[0].upper()
    if name not in COMMANDS:
        return b"-ERR unknown command '%.60s'\r\n" % printable(words[0])
    command, least, most = COMMANDS[name]
    if not least <= len(words) - 1 <= most:
        return b"-ERR wrong number of arguments for '%s' command\r\n" % name.lower()
    return command(*words[1:])


def printable(word):
    """Return it without what could end the line, or control a terminal."""
    return bytes(byte if 32 <= byte < 127 else 63 for byte in word)


def main(url="tcp://127.0.0.1:7007"):
    with EventMux() as mux, suppress(KeyboardInterrupt):
        try:
            listener = mux.listen(url, buffered=Batch(RESP), high_water=65536)
        except (OSError, ValueError) as error:
            sys.exit(f"cannot listen: {error}")
        print("listening on", listener.getsockname(), flush=True)
        for event in mux:
            if event.type == "records":
                mux.send(event.fh, b"".join(map(answer, event.records)))
            elif event.type == "error" and isinstance(event.exception, NO_COMMAND):
                mux.send(event.fh, b"-ERR Protocol error\r\n")  # no more can be read of it


if __name__ == "__main__":
    main(*sys.argv[1:])
