"""The wait: the selector, what it is asked for, and a look around before the process sleeps."""
