"""The client's side where threads wait: who of them leads, and the connection that they share.

What programs use is `blocking.py`, above.
"""
