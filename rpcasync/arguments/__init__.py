"""How one flat list of values meets the signature of a Python function, and what that tells peers.

`signatures` has the rule, `conversions` what annotations do, and `reflection` how a signature is
described to those who ask for `methods`.
"""
