"""What a channel that is tested alone puts its events into."""

from eventmux._channels.channel import Channel, Outlet
from eventmux.events import Event


def outlet_to(events: list[Event], put_off: list[Channel] | None = None) -> Outlet:
    """Return an outlet that keeps events in a list, and what is to be flushed in another."""
    return Outlet(events.append, events.remove, ([] if put_off is None else put_off).append)
