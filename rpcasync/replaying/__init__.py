"""Plays a recording against a server.

`codecs` writes what clients wrote; `connections` has a client for each that was recorded; `tally`
counts what came of the calls; `replay` says which call is made when.
"""
