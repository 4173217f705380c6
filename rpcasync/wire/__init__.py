"""The wire, without a socket, a clock or a line of the program's: bytes in, messages out.

From the bytes up: `framing` cuts packets, `codecs` read their payloads, `messages` says what shape
those have, and `protocol` is the core of either end of a connection.
"""
