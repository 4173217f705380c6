"""TLS: the layer between plain bytes and a socket, and what belongs to it.

`layer` is one connection, `hello` what is read of its first message, `sessions` what the next one
may begin with, `texts` what is said when it fails, and `usual` what a URL asks for. Nothing here
knows of channels, events and options: `secure` in `_channels` is a stream that has such a layer.
"""
