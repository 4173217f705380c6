"""Which endpoint is connected to next, and how long to wait before that.

The endpoints are tried in turn. One that was lost, or did not answer, has the next one follow after
a wait, which grows with each round in which nobody has answered. A server that is about to leave
has it follow at once. A route is a value: each step returns another one.

This file knows no clock and no connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rpcasync._log import log
from rpcasync.backoff import Backoff
from rpcasync.urls import parse_stream_url

__all__ = ["GOING", "SETTLED", "Route", "checked_retry", "checked_route"]

GOING = "it is about to leave"
SETTLED = 1.0  # seconds behind which a server that leaves, or is lost, was a good one
_PATIENCE = 5.0  # seconds that an endpoint has to accept, and then to answer


@dataclass(frozen=True, slots=True)
class Route:
    """Where a client is on its way.

    Args:
        urls: the endpoints.
        backoff: how long to wait.
        at: which of them it is at.
        failures: endpoints that were tried since one has answered.
    """

    urls: tuple[str, ...]
    backoff: Backoff
    at: int = 0
    failures: int = 0

    @property
    def url(self) -> str:
        """The endpoint that it is at."""
        return self.urls[self.at]

    @property
    def name(self) -> str:
        """All endpoints, for messages."""
        return ", ".join(self.urls)

    @property
    def patience(self) -> float:
        """Seconds that the endpoint has to accept, and then to answer.

        A server that is busy for longer has its chance, too: it grows like the wait.
        """
        return max(_PATIENCE, self.backoff.limit(self.failures // len(self.urls)))

    def after(
        self, *, is_going: bool, is_lost: bool, has_heard: bool, seconds: float
    ) -> tuple[Route, float | None]:
        """Return the way to the next endpoint, and how many seconds to wait; None is at once.

        Args:
            is_going: the server has said that it is about to leave.
            is_lost: there is no connection to it any more.
            has_heard: it has answered something.
            seconds: how long the connection has been there.
        """
        # One that tells all who come to leave, and listens still, or answers and falls at once,
        # would be come to again and again.
        is_settled = seconds >= SETTLED
        if is_going and is_settled and not is_lost:
            return self._at_next(self.failures), None
        return self.after_loss(was_good=has_heard and is_settled)

    def after_loss(self, *, was_good: bool = False) -> tuple[Route, float]:
        """Return the way to the next endpoint, and how many seconds to wait before it is taken.

        Args:
            was_good: this one has answered, and lasted, so that the waits begin anew.
        """
        failures = 0 if was_good else self.failures
        return self._at_next(failures + 1), self.backoff.seconds(failures // len(self.urls))

    def _at_next(self, failures: int) -> Route:
        return replace(self, at=(self.at + 1) % len(self.urls), failures=failures)

    def tell(self, why: str, delay: float) -> None:
        """Log where this way goes, and why."""
        log.info("%s; connecting to %s in %s seconds", why, self.url, f"{delay:.2f}")


def checked_route(server: object, reconnect: object) -> Route:
    """Return the way to a server, at its first endpoint.

    Raises:
        URLError: one is no `tcp://`, `tls://` or `unix://` URL.
        TypeError: `server` is neither a URL nor a list of URLs; or `reconnect` is no `Backoff`.
        ValueError: the list is empty, or has one twice.
    """
    if not isinstance(reconnect, Backoff):
        raise TypeError(f"reconnect is {reconnect!r}, must be a Backoff")
    urls = [server] if isinstance(server, str) else server
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        raise TypeError(f"server is {server!r}, must be a URL or a list of URLs with reconnect=")
    if not urls:
        raise ValueError("server is an empty list, must have a URL")
    for at, url in enumerate(urls):
        parse_stream_url(url)
        if url in urls[:at]:
            raise ValueError(f"server has {url!r} twice, must have each endpoint once")
    return Route(tuple(urls), reconnect)


def checked_retry(retry: object) -> str | None:
    """Return which calls are sent again.

    Raises:
        ValueError: there is no such rule.
    """
    if retry not in (None, "unsent", "idempotent"):
        raise ValueError(f"retry is {retry!r}, must be None, 'unsent' or 'idempotent'")
    return None if retry is None else str(retry)
