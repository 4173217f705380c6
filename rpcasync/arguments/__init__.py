"""How one flat list of values meets the signature of a Python function, and what that tells peers.

`signatures` has the rule, `shortcuts` quicker ways for the lists that come most often, `known`
the signatures that are kept, `conversions` what annotations do, and `reflection` how a signature is
described to those who ask for `methods`. What is said of a list that does not fit is in `wanted`
for procedures, and in `misfits` for callbacks.
"""
