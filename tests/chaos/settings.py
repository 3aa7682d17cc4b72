"""The portal's settings for a world of many small apps, in which every wait is short."""

from __future__ import annotations

import json
import os
from pathlib import Path

from portal.settings import *  # noqa: F403
from rollouts.outbound import Door

WORLD = Path(os.environ["CHAOS_WORLD"])
LOCAL_PROCESSES = json.loads((WORLD / "places.json").read_text())
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A partner that nobody can reach: its tests are made, kept and told, and stand in nobody's way.
DOORS = {"tests": Door(()), "connectors": Door(()), "health": Door(())}
# Platforms that stand in for real ones are on loopback, each under a name.
if (_reach := WORLD / "reach.json").exists():
    _named = {(host, port): ("127.0.0.1", port) for host, port in json.loads(_reach.read_text())}
    DOORS |= {"connectors": Door((), _named), "health": Door((), _named)}

# Seconds that a statement waits for a lock; a death by “locked” holds one for longer.
PATIENCE = 0.7
_options = DATABASES["default"].setdefault("OPTIONS", {})  # noqa: F405
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    _options["timeout"] = PATIENCE
else:
    _options["options"] = f"-c lock_timeout={int(PATIENCE * 1000)}"
