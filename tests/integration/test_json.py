"""A client in ten lines of any language, and a Perl client, at one listener at one time."""

import json
import shutil
import socket
import struct
import sys

import pytest
from support.programs import PERL, listening, run

PYTHON_CLIENT = """
import json, socket, struct, sys
host, port = sys.argv[1].removeprefix("tcp://").split(":")
sock = socket.create_connection((host, int(port)))
def call(*packet):
    body = json.dumps(packet).encode()
    sock.sendall(struct.pack("!I", len(body) + 4) + body)
    stream = sock.makefile("rb")
    return json.loads(stream.read(struct.unpack("!I", stream.read(4))[0] - 4))
replies = [call(1, "add_numbers", "n1", 2, "n2", 3)]
replies += [call(2, "echo", "v", ["\\u263a", None, 1.5, {}])]
print(json.dumps(replies))
"""
NODE_CLIENT = """
const [host, port] = process.argv[1].replace("tcp://", "").split(":");
const sock = require("net").connect(port, host);
const send = packet => {
  const body = Buffer.from(JSON.stringify(packet)), head = Buffer.alloc(4);
  head.writeUInt32BE(body.length + 4); sock.write(Buffer.concat([head, body]));
};
let data = Buffer.alloc(0), replies = [];
send([1, "add_numbers", "n1", 2, "n2", 3]); send([2, "echo", "v", ["\\u263a", null, 1.5, {}]]);
sock.on("data", chunk => {
  data = Buffer.concat([data, chunk]);
  while (data.length >= 4 && data.length >= data.readUInt32BE(0)) {
    const end = data.readUInt32BE(0);
    replies.push(JSON.parse(data.slice(4, end))); data = data.slice(end);
  }
  if (replies.length == 2) { console.log(JSON.stringify(replies)); sock.end(); }
});
"""
REPLIES = [[1, "sum", 5], [2, "v", ["\u263a", None, 1.5, {}]]]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([sys.executable, "-c", PYTHON_CLIENT], id="python"),
        pytest.param(
            ["node", "-e", NODE_CLIENT],
            id="node",
            marks=pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here"),
        ),
    ],
)
def test_a_client_by_hand(command):
    with listening() as (address, _):
        result = run(*command, address)
        assert result.stderr == ""
        assert json.loads(result.stdout) == REPLIES


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_perl_and_json_at_the_same_listener_at_the_same_time():
    with listening() as (address, _):
        host, _, port = address.removeprefix("tcp://").partition(":")
        with socket.create_connection((host, int(port))) as sock:
            body = b'[1,"park"]'
            sock.sendall(struct.pack("!I", len(body) + 4) + body)
            perl = run("perl", PERL / "rpc_client.pl", address)
            assert perl.stdout.endswith("done\n")
            assert "not ok" not in perl.stdout
            body = b'[2,"release"]'
            sock.sendall(struct.pack("!I", len(body) + 4) + body)
            wanted = b'\0\0\0\x14[1,"released",1]' + b'\0\0\0\x18[2,"released","all"]'
            received = b""
            while len(received) < len(wanted):
                received += sock.recv(1000)
            assert received == wanted
