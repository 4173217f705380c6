"""Bytes from strangers, by the million: does anything escape, stop, or grow?

run.py        the command; `campaign.py` is what it does
targets.py    what is given bytes, and what has to be true of it
decoding.py   targets: thaw, the codecs
cutting.py    targets: the protocols, and the buffers
proxied.py    targets: PROXY headers
endpoints.py  targets: whole servers, clients and streams, over socketpairs
procedures.py what the servers have
packets.py    inputs with a structure: streams of packets; words.py, what is in them
images.py     Storable images by their opcodes
texts.py      JSON, HTTP, lines
mutators.py   damage to inputs, whatever is in them
judge.py      one input: what escaped, how long, how much memory
campaign.py   many inputs in processes of their own, and the table

An input is all that a target depends on, so that a file of it shows the same again. That it was
made from a seed matters to nobody but who repeats a whole run.
"""
