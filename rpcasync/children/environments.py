"""The environment of a program that is started: what it is told, and where it looks for modules.

A Python program learns its socket from RPCASYNC_FDS, and who has started it from RPCASYNC_PARENT;
`startup.py` reads them. What was meant for us is not passed on.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

__all__ = [
    "FDS_VARIABLE",
    "NOTIFY_VARIABLE",
    "OPTIONS_VARIABLE",
    "PARENT_VARIABLE",
    "WATCHDOG_VARIABLES",
    "WORKER_VARIABLE",
    "own_environment",
    "perl_environment",
    "python_environment",
]

FDS_VARIABLE = "RPCASYNC_FDS"
OPTIONS_VARIABLE = "RPCASYNC_OPTIONS"
PARENT_VARIABLE = "RPCASYNC_PARENT"
NOTIFY_VARIABLE = "NOTIFY_SOCKET"
WORKER_VARIABLE = "RPCASYNC_WORKER"
WATCHDOG_VARIABLES = ("WATCHDOG_USEC", "WATCHDOG_PID")
_FOR_US = (
    *(FDS_VARIABLE, OPTIONS_VARIABLE, PARENT_VARIABLE, WORKER_VARIABLE),
    *(NOTIFY_VARIABLE, *WATCHDOG_VARIABLES),
)

_PERL_PATHS = ("PERL5LIB", "PERLLIB")  # Perl looks at the second where the first is not set


def own_environment() -> dict[str, str]:
    """Return our environment without what was meant for us."""
    environment = dict(os.environ)
    for variable in _FOR_US:
        environment.pop(variable, None)
    return environment


def python_environment(descriptor: int) -> dict[str, str]:
    """Return the environment of a Python program: it tells of its socket and this package."""
    environment = own_environment()
    environment[FDS_VARIABLE] = str(descriptor)
    environment[PARENT_VARIABLE] = str(os.getpid())
    import_path = _import_path(environment.get("PYTHONPATH"))
    if import_path is not None:
        environment["PYTHONPATH"] = import_path
    return environment


def perl_environment() -> dict[str, str]:
    """Return the environment of a Perl program, which finds its modules though it runs elsewhere.

    Its current folder is that of its file. A relative folder to look for modules in is meant from
    ours, as for a `perl` that is run by hand; RPC::Async took it for one beside the file, so that
    is looked at, too.
    """
    environment = own_environment()
    for variable in _PERL_PATHS:
        if paths := environment.get(variable):
            environment[variable] = _seen_from_here(paths)
    return environment


def _seen_from_here(paths: str) -> str:
    folders: list[str] = []
    for folder in filter(None, paths.split(os.pathsep)):
        folders += dict.fromkeys((os.path.abspath(folder), folder))
    return os.pathsep.join(folders)


def _import_path(current: str | None) -> str | None:
    """Return the PYTHONPATH with which a child finds this package; None if it will anyway.

    In a checkout that is not installed it would not: its first place to look is the folder of
    the program, not the current one.
    """
    root = str(Path(__file__).resolve().parents[2])
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return None
    return root if not current else os.pathsep.join([current, root])
