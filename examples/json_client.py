"""A client in ten lines without this package: what it takes in any language that has JSON.

usage: python json_client.py HOST PORT
"""

import json
import socket
import struct
import sys

if len(sys.argv) != 3:
    sys.exit(__doc__)
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
stream = sock.makefile("rb")

body = json.dumps([1, "add_numbers", "n1", 2, "n2", 3]).encode()
sock.sendall(struct.pack("!I", len(body) + 4) + body)

(length,) = struct.unpack("!I", stream.read(4))
print(json.loads(stream.read(length - 4)))
