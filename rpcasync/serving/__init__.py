"""The inside of a server: from a packet of a peer to the program's procedure, and the answer back.

A *peer* is what the server knows of one client; a *caller* is one call of it that is to be
answered.
"""
