"""The client's side in a loop of asyncio: one connection, the functions passed with its calls.

What programs use is `aio.py`, above. None of this is loaded with the package, as asyncio takes
longer to load than all the rest.
"""
