"""What the mux knows about each handle: one channel for each.

`channel` is what all channels have in common, and `table` has them by handle. `streams`, `packets`,
`listeners`, `manual` and `nested` are the kinds, `secure` is a stream with TLS, and `fitting` says
which options fit them; `ports` is what they read from and write to, and `dialing` gets a connection
to a name.
"""
