"""PID namespaces, in which a program is the first process, as in a container."""

from __future__ import annotations

import shutil
import subprocess

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


def why_no_namespace() -> str:
    """Return why there can be no PID namespace here, "" if there can be one."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    result = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return result.stderr.strip() if result.returncode else ""
