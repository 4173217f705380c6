"""How fast eventmux and rpcasync are, beside others; `run.py` runs it all.

run.py        the command; `__main__.py` is what it does
goals.py      what we want to reach, and what Perl reached elsewhere: data
meter.py      what is asked for, and the counting of right answers
peers/        one file for each way to make remote procedure calls
echoes.py     echo servers, for the multiplexer alone
child.py      the processes that are measured: servers and clients
processes.py  starting them
rounds.py     interleaved rounds, ratios, spread
*_table.py    the tables
report.py, chart.py    how they are shown
under_attack.py, siege.py, attacks.py    an honest client's wait while others attack; a command
profile_call.py        what one call costs, step by step; a command of its own
"""
