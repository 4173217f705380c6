"""Bytes from strangers, by the million: does anything escape, stop, or grow?

run.py        the command; `campaign.py` is what it does
targets.py    what is given bytes, and what it has to keep
endpoints.py  the same for whole servers and clients, over socketpairs
grammar.py    inputs with a structure: images, JSON, packets
mutators.py   damage to inputs, whatever is in them
judge.py      one input: what escaped, how long, how much memory
campaign.py   many inputs in processes of their own, and the table

An input is all that a target depends on, so that a file of it shows the same again. That it was
made from a seed matters to nobody but who repeats a whole run.
"""
