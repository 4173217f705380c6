"""A program that prints without end and cares neither for its socket nor for SIGTERM."""

import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    os.write(1, b"x" * 65536)
