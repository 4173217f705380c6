"""The framings of examples/framings.py, which is no module of a package."""

import runpy

from support.programs import ROOT

__all__ = ["MQTT", "NETSTRINGS", "RESP", "SYSLOG"]

_names = runpy.run_path(str(ROOT / "examples" / "framings.py"))
MQTT, NETSTRINGS, RESP, SYSLOG = (_names[name] for name in ("MQTT", "NETSTRINGS", "RESP", "SYSLOG"))
