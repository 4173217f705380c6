"""A board of notes, carried over from notes_server.pl. docs/porting-a-server.md goes through it.

usage: rpcasync listen -u URL examples/notes_server.py
"""

import subprocess

from eventmux import EventMux
from eventmux.buffers import Split
from rpcasync import Coderef, Fault, Server, init_clients

notes, parked, followers, imports = [], [], [], {}


def add_note(author, text):
    notes.append({"author": author, "text": text, "stars": None})
    followers[:] = [callback for callback in followers if callback.alive]
    for callback in followers:
        callback(author, text)
    while parked:
        rpc.return_(parked.pop(0), author=author, text=text)


def matching(words):
    return [note for note in notes if all(word in note["text"] for word in words)]


def rpc_add(caller, author, text):
    add_note(author, text)
    rpc.return_(caller)


def rpc_find(caller, *words):
    rpc.return_(caller, *(note["text"] for note in matching(words)))


def rpc_count(caller, *words):
    rpc.return_(caller, count=len(matching(words)))


def rpc_rate(caller, number: int, stars: float):
    if not -len(notes) <= number < len(notes):
        raise Fault(f"there is no note {number}")
    note = notes[number]
    note["stars"] = (stars + (note["stars"] or stars)) / 2
    rpc.return_(caller, stars=note["stars"])


def def_rate(_caller, is_in):
    return {"number_1": "int", "stars_2": "float"} if is_in else {"stars": "float"}


def rpc_next(caller):
    parked.append(caller)


def rpc_follow(caller, callback: Coderef):
    followers.append(callback)
    rpc.return_(caller, notes=notes)


def rpc_import(caller, author, *command: str):
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603
    assert process.stdout  # it is a pipe
    imports[process.stdout] = {"caller": caller, "author": author, "count": 0}
    mux.add(process.stdout, buffered=Split())
    mux.child(process)


mux = EventMux()
rpc = Server(mux)
rpc.set_limits(outstanding=100)
init_clients(rpc)

while rpc.has_clients():
    event = rpc.io(mux.mux())
    if event is None or event.fh not in imports:
        continue
    job = imports[event.fh]
    if event.type == "read":
        add_note(job["author"], event.data.decode())
        job["count"] += 1
    elif event.type == "closed":
        del imports[event.fh]
        rpc.return_(job["caller"], count=job["count"])
