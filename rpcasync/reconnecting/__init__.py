"""One client over several connections, one after the other."""
