"""Calls that are passed on to another server: from a packet that came to the packet that leaves.

`relayed` is one such call; `fallback` knows the connections; `forwarding` says which call goes on.
"""
