"""`rpcasync listen --workers N`: one program that runs in several processes.

`supervisor` is the parent, which never runs the program; `membership` is what a worker knows of it.
"""
