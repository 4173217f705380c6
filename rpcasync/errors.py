"""The exceptions of rpcasync: one tree, so that `except RPCError` catches them all.

Where a built-in class says the same thing, an exception is of that class too: code that
knows nothing of this package can catch a lost connection as ConnectionError.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CallCancelled",
    "CallTimeout",
    "DecodeError",
    "Disconnected",
    "EncodeError",
    "Fault",
    "FrameTooLarge",
    "ProtocolError",
    "QueueFull",
    "RPCError",
    "RemoteError",
    "never_sent",
]


class RPCError(Exception):
    """Whatever can go wrong with a remote call."""


class RemoteError(RPCError):
    """The server answered with an error; its text is the message."""


class CallTimeout(RPCError, TimeoutError):
    """No answer in the time given."""


class CallCancelled(RPCError):
    """The program itself has cancelled the call."""


class Disconnected(RPCError, ConnectionError):
    """The connection ended before the answer came, or the client of a callback has gone.

    If the server was started as a child process and has ended by itself, the text has its exit
    status.

    `may_have_run` is False if it is known that not all of the call has left this process, so that
    it cannot have run. Else it may have run, or not.
    """

    may_have_run: bool = True

    _was_up = True  # False if there never was a connection: then it is news to the program


def never_sent(text: str) -> Disconnected:
    """Return the error of a call that has never left this process."""
    error = Disconnected(text)
    error.may_have_run = False
    return error


class ArgumentError(RPCError, TypeError):
    """The values of a call or an answer do not fit the signature they are meant for."""


class ProtocolError(RPCError):
    """The peer broke the rules of the wire: the connection is of no use any more."""


class DecodeError(ProtocolError, ValueError):
    """Bytes that are no valid encoding of a value.

    `code` is a short, stable word for the reason: "truncated", "bad-opcode", "limit-depth"...
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        """Pickle by the two arguments, not by the joined text."""
        return type(self), (self.code, str(self).partition(": ")[2])


class FrameTooLarge(ProtocolError):
    """The header announces a packet over the limit."""


class EncodeError(RPCError, TypeError):
    """A local value cannot be sent."""


class QueueFull(RPCError):
    """A call cannot be made: too much is queued for a server that does not read.

    Nothing has changed, and calls that were made before are still under way. There is room again
    when the loop has turned and the server has read.
    """


class Fault(RPCError):
    """Raise it in a procedure: its text goes to the caller as an error, the client stays.

    A text of over 4096 characters is cut; without a text it is "failed".
    """
