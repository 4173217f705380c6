"""Servers that are started as child processes: how they begin, and how they end."""
