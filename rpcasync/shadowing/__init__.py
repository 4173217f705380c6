"""Calls that are asked of two servers, and where their answers differ.

`book` counts, `reports` is the file of what was counted, `copies` are the calls that nobody waits
for, `pairs` has those that are under way, and `shadow` joins them with a server.
"""
