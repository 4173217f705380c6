"""Clients of all three kinds that connect again, by TLS, and servers that nobody trusts."""

import asyncio
import logging

import pytest
from support import certificates
from support.fleets import Fleet
from support.pump import PATIENCE

import rpcasync
from eventmux import EventMux
from rpcasync import Backoff, CallTimeout, Client, aio

QUICK = Backoff(0.001, 0.01)


def by_client(urls, timeout, **options):
    with EventMux() as mux, Client(mux, urls, timeout=timeout, **options) as rpc:
        return [rpc.add(n1=n, n2=1).result()["sum"] for n in range(2)]


def by_blocking(urls, timeout, **options):
    with rpcasync.connect(urls, timeout=timeout, **options) as rpc:
        return [rpc.add(n1=n, n2=1)["sum"] for n in range(2)]


def by_asyncio(urls, timeout, **options):
    async def run():
        async with aio.connect(urls, timeout=timeout, **options) as rpc:
            return [(await rpc.add(n1=n, n2=1))["sum"] for n in range(2)]

    return asyncio.run(run())


@pytest.fixture(params=[by_client, by_blocking, by_asyncio])
def reach(request):
    context = certificates.client_context()
    return lambda urls, timeout: request.param(urls, timeout, tls=context, reconnect=QUICK)


@pytest.fixture
def fleet():
    fleet = Fleet(2)
    fleet.urls = [url.replace("tcp:", "tls:") for url in fleet.urls]
    yield fleet
    fleet.stop()


def test_the_next_one_is_taken_if_one_is_not_to_be_trusted(fleet, reach, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    fleet.up(0, tls=certificates.server_context("foreign"))
    fleet.up(1, tls=certificates.server_context())
    assert reach(fleet.urls, PATIENCE) == [1, 2]
    [text] = {text for text in caplog.messages if "; connecting to" in text}
    assert text.startswith(f"{fleet.urls[0]}: ")
    assert "certificate" in text


def test_what_is_told_if_there_is_no_other(fleet, reach):
    fleet.up(0, tls=certificates.server_context("foreign"))
    with pytest.raises(TimeoutError, match=f"there is no connection: {fleet.urls[0]}: .*certifi"):
        reach(fleet.urls[0], 0.2)


def test_a_server_without_tls(fleet, reach):
    url, fleet.urls[0] = fleet.urls[0], fleet.urls[0].replace("tls:", "tcp:")
    fleet.up(0)
    with pytest.raises(TimeoutError, match=f"there is no connection: {url}: "):
        reach(url, 0.2)


def test_calls_wait_for_the_certificate_to_be_renewed(fleet):
    fleet.up(0, tls=certificates.server_context("foreign"))
    with EventMux() as mux:
        context = certificates.client_context()
        rpc = Client(mux, fleet.urls[0], tls=context, reconnect=QUICK)
        call = rpc.add(n1=1, n2=2)
        with pytest.raises(CallTimeout):
            call.result(0.05)
        fleet.down(0)
        fleet.up(0, tls=certificates.server_context())
        assert call.result(PATIENCE)["sum"] == 3
        rpc.disconnect()
