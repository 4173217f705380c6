"""A client that connects again behind a server: as its fallback, and as the old one of a shadow."""

import pytest
from support.fleets import Fleet
from support.pump import PATIENCE

from eventmux import EventMux
from rpcasync import Backoff, Client, RemoteError, Server, Shadow

QUICK = Backoff(0.001, 0.01)


class Gateway:
    """A server of ours, whose fallback is a fleet, and a client of it; all in one loop."""

    def __init__(self, count=2, up=(0, 1)):
        self.fleet = Fleet(count, up)
        self.mux = EventMux()

    def open(self, namespace=None, *, behind=True, **options):
        self.back = Client(self.mux, self.fleet.urls, reconnect=QUICK, **options)
        self.rpc = Server(
            self.mux, namespace or {}, fallback=self.back if behind else None, slow=None
        )
        port = self.rpc.listen("tcp://127.0.0.1:0").getsockname()[1]
        self.client = Client(self.mux, f"tcp://127.0.0.1:{port}")

    def until(self, is_so):
        """Turn the loop until something is so, which the thread of the fleet may bring about."""
        limit = self.mux.clock() + PATIENCE
        while not is_so():
            assert self.mux.clock() < limit
            event = self.client.io(self.rpc.io(self.mux.mux(0.01)))
            assert event is None or event.type == "timeout", event

    def answer(self, call):
        self.until(lambda: call.done)
        return call.result()

    def close(self):
        self.fleet.stop()
        self.mux.__exit__()


@pytest.fixture
def gateway():
    gateway = Gateway()
    yield gateway
    gateway.close()


@pytest.mark.parametrize("how", ["hang_up", "drain"])
def test_servers_behind_that_go_and_come_back(gateway, how):
    gateway.open(retry="idempotent")
    for n in range(6):
        call = gateway.client.add(n1=n, n2=1)
        assert gateway.answer(call)["sum"] == n + 1
        getattr(gateway.fleet, how)(n % 2)
        if how == "drain":
            gateway.fleet.up(n % 2)
    assert len(gateway.rpc.clients) == 1


def test_a_call_that_is_under_way_goes_by_the_next_connection(gateway):
    gateway.open(retry="idempotent")
    got = []
    call = gateway.client.ask(tell=lambda *values: got.append(values))
    gateway.until(lambda: len(got) == 1)
    gateway.fleet.hang_up(0)
    gateway.until(lambda: len(got) == 2)
    gateway.fleet.parked.pop(0)
    gateway.fleet.answer(value=7)
    assert gateway.answer(call)["value"] == 7
    assert len(gateway.rpc.clients) == 1


def test_a_call_that_is_lost_takes_its_client_with_it(gateway):
    gateway.open()
    call = gateway.client.park(1)
    gateway.until(lambda: gateway.fleet.ran)
    gateway.fleet.hang_up(0)
    gateway.until(lambda: call.done)
    with pytest.raises(RemoteError, match="park: the server behind has gone"):
        call.result()
    gateway.until(lambda: not gateway.rpc.clients)


def test_a_server_lets_go_of_it(gateway):
    gateway.open(retry="idempotent")
    gateway.answer(gateway.client.add(n1=1, n2=1))
    gateway.rpc.fallback = None
    call = gateway.client.add(n1=1, n2=1)
    gateway.until(lambda: call.done)
    with pytest.raises(RemoteError, match="No sub"):
        call.result()
    gateway.fleet.hang_up(0)  # whose events are the client's own now
    own = gateway.back.add(n1=2, n2=2)
    assert own.result(PATIENCE)["sum"] == 4


class Doubling:
    """What is asked of both servers."""

    def __init__(self, gateway):
        self._gateway = gateway

    def rpc_add(self, caller, n1: int, n2: int):
        self._gateway.rpc.return_(caller, sum=n1 + n2)


def test_it_is_the_old_server_of_a_shadow(gateway):
    gateway.open(Doubling(gateway), behind=False)
    shadow = Shadow(gateway.mux, gateway.rpc, gateway.back)

    def count():
        return shadow.report()["procedures"].get("add", {}).get("equal", 0)

    for n in range(4):
        assert gateway.answer(gateway.client.add(n1=n, n2=1))["sum"] == n + 1
        gateway.until(lambda n=n: count() > n)
        gateway.fleet.hang_up(n % 2)
        gateway.until(lambda n=n: gateway.back._route.at != n % 2)
