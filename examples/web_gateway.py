"""A board of notes on the web. The notes are kept by a server that may be in Perl.

usage: python examples/web_gateway.py URL [PORT]
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

import rpcasync.aio
from rpcasync import CallTimeout, Disconnected, RemoteError

RPC = web.AppKey("RPC", rpcasync.aio.AsyncClient)
routes = web.RouteTableDef()
readers: set[asyncio.Queue[str]] = set()  # those of /follow


@routes.get("/notes")
async def find(request: web.Request) -> web.Response:
    rpc, words = request.app[RPC], request.query.getall("word", [])
    notes, count = await asyncio.gather(rpc.find(*words), rpc.count(*words))
    return web.json_response({"notes": notes, "count": count["count"]})


@routes.post("/notes")
async def add(request: web.Request) -> web.Response:
    note = await request.post()
    await request.app[RPC].add(author=note["author"], text=note["text"])
    return web.Response(status=201, text="added\n")


@routes.post("/notes/{number}/stars")
async def rate(request: web.Request) -> web.Response:
    stars = (await request.post())["stars"]
    reply = await request.app[RPC].rate(number=request.match_info["number"], stars=stars)
    return web.json_response(reply.pairs())


@routes.get("/follow")
async def follow(request: web.Request) -> web.StreamResponse:
    """Send each note as it is added, until the browser has gone."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    notes = asyncio.Queue[str]()
    readers.add(notes)
    try:
        while True:
            await response.write(f"data: {await notes.get()}\n\n".encode())
    except ConnectionError:
        return response
    finally:
        readers.discard(notes)


def tell_readers(author: str, text: str, /) -> None:
    """Be called by the server for each note."""
    for notes in readers:
        notes.put_nowait(f"{author}: {text}")


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RemoteError as error:
        return web.json_response({"error": str(error)}, status=422)
    except CallTimeout as error:
        return web.json_response({"error": str(error)}, status=504)
    except Disconnected as error:
        return web.json_response({"error": str(error)}, status=502)


async def connection(app: web.Application) -> AsyncIterator[None]:
    """Be connected as long as the application runs."""
    async with rpcasync.aio.connect(sys.argv[1], timeout=10) as rpc:
        app[RPC] = rpc
        await rpc.follow(callback=tell_readers)
        yield


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    app = web.Application(middlewares=[tell_errors])
    app.add_routes(routes)
    app.cleanup_ctx.append(connection)
    ready = f"listening on http://127.0.0.1:{port}"
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        shutdown_timeout=1,
        print=lambda _: print(ready, flush=True),
    )
