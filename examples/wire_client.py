"""A client with callbacks, written from docs/wire-format.md and without the package.

usage: rpcasync listen -u tcp://127.0.0.1:7007 examples/jobs_server.py
       python wire_client.py 127.0.0.1 7007
"""

import json
import socket
import struct
import sys


class Client:
    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port))
        self.stream = self.sock.makefile("rb")
        self.next_id = 0
        self.pending = {}  # what to call with an answer, by the id of the call
        self.callbacks = {}  # what to call for the server, by the id of the callback

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def callback(self, function):
        number = self.new_id()
        self.callbacks[number] = function
        return {"RPC::Async::Coderef": {"id": number}}

    def call(self, done, procedure, *values):
        number = self.new_id()
        self.pending[number] = done
        body = json.dumps([number, procedure, *values]).encode()
        self.sock.sendall(struct.pack("!I", 4 + len(body)) + body)

    def read_packet(self):
        header = self.stream.read(4)
        if len(header) < 4:
            sys.exit("the server closed the connection")
        (length,) = struct.unpack("!I", header)
        number, *values = json.loads(self.stream.read(length - 4))
        if number in self.pending:
            self.pending.pop(number)(values)
        elif values[0] == "call":
            self.callbacks[number](values[1:])
        elif values[0] == "destroy":
            del self.callbacks[number]


def done(values):
    if values[:1] in (["error"], ["errors"]):
        print("error:", values[1])
    else:
        print("answer:", values)


client = Client(sys.argv[1], int(sys.argv[2]))
progress = client.callback(lambda values: print("progress:", values))
client.call(done, "count", "upto", "two", "progress", None)
client.call(done, "count", "upto", 2, "progress", progress)
while client.pending or client.callbacks:
    client.read_packet()
