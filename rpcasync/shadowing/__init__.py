"""Calls that are asked of two servers, and where their answers differ.

`book` counts, `reports` is the file of what was counted, `copies` are the calls that nobody waits
for, and `shadow` joins them with a server.
"""
