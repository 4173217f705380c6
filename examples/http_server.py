"""A small server of HTTP/1.1: pages, and an echo of what is posted.

usage: python http_server.py [URL [CERTIFICATE]]       try it with: curl 127.0.0.1:7007/

A client may ask for the next page on the same connection, or for several at once. CERTIFICATE is a
file with a certificate and its private key; the URL is then one such as tls://127.0.0.1:7007.
"""

import re
import ssl
import sys
from contextlib import suppress

from eventmux import BufferOverflow, EventMux, HeaderOverflow, MalformedRecord
from eventmux.buffers import HTTP

LONGEST_REQUEST = 1024 * 1024  # bytes, with its head
LONGEST_HEAD = 16 * 1024
PAGES = {b"/": b"This is all there is: / /hello /echo\n", b"/hello": b"Hello, world\n"}
REFUSALS = {
    HeaderOverflow: b"431 Request Header Fields Too Large",  # first: it is a BufferOverflow, too
    BufferOverflow: b"413 Content Too Large",
    MalformedRecord: b"400 Bad Request",
}


def response(status, body=None, *fields):
    """Return a head for this body; without one, the text is the status."""
    text = status + b"\n" if body is None else body
    return b"\r\n".join(
        [
            b"HTTP/1.1 " + status,
            b"Content-Type: text/plain",
            b"Content-Length: %d" % len(text),
            *fields,
            b"",
            text,
        ]
    )


def answer(method, path, body):
    """Return status, body, and more fields for what a client wants."""
    if path == b"/echo":
        return (b"200 OK", body) if method == b"POST" else not_allowed(b"POST")
    if path not in PAGES:
        return (b"404 Not Found",)
    return (b"200 OK", PAGES[path]) if method in (b"GET", b"HEAD") else not_allowed(b"GET, HEAD")


def not_allowed(methods):
    return b"405 Method Not Allowed", None, b"Allow: " + methods


def serve(request):
    """Return the response to a request, and whether it is the last one."""
    head, body = re.split(rb"\r?\n\r?\n", request, maxsplit=1)
    start, *lines = head.splitlines()
    method, target, version = start.split(b" ", 2)
    pairs = (line.split(b":", 1) for line in lines)
    fields = {name.lower(): value.strip().lower() for name, value in pairs}
    if method.startswith(b"HTTP/") or (version == b"HTTP/1.1" and b"host" not in fields):
        return response(b"400 Bad Request", None, b"Connection: close"), True
    options = fields.get(b"connection", b"").replace(b" ", b"").split(b",")
    is_last = b"close" in options or (version == b"HTTP/1.0" and b"keep-alive" not in options)
    status, *rest = answer(method, target.partition(b"?")[0], body)
    rest = rest or [None]
    data = response(status, *rest, b"Connection: " + (b"close" if is_last else b"keep-alive"))
    if method == b"HEAD":  # the length is told, and the body is not
        data = data[: data.index(b"\r\n\r\n") + 4]
    return data, is_last


def context(certificate):
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(certificate)
    except OSError as error:  # which names no file
        sys.exit(f"{certificate}: {error}")
    return made


def main(url="tcp://127.0.0.1:7007", certificate=None):
    requests = HTTP(max_size=LONGEST_REQUEST, max_header=LONGEST_HEAD)
    with EventMux() as mux, suppress(KeyboardInterrupt):
        tls = context(certificate) if certificate else None
        try:
            listener = mux.listen(
                url, buffered=requests, tls=tls, idle_timeout=60, high_water=65536
            )
        except (OSError, ValueError) as error:
            sys.exit(f"cannot listen: {error}")
        print("listening on", listener.getsockname(), flush=True)
        for event in mux:
            if event.type == "read":
                data, is_last = serve(event.data)
                mux.send(event.fh, data, later=True)  # with those of other requests, if there are
                if is_last:
                    mux.close(event.fh)
            elif event.type == "error":
                for kind, status in REFUSALS.items():
                    if isinstance(event.exception, kind):  # it leaves before the connection ends
                        mux.send(event.fh, response(status, None, b"Connection: close"))
                        break


if __name__ == "__main__":
    main(*sys.argv[1:])
