"""The portal's settings in a year that passes while a test looks on: the time is what a file says."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from django.utils import timezone

from portal.settings import *  # noqa: F403
from rollouts.outbound import Door

WORLD = Path(os.environ["YEAR_WORLD"])


def now() -> datetime:
    return datetime.fromisoformat((WORLD / "time").read_text())


# Before any model is imported, so that their defaults ask the same clock.
timezone.now = now
_host, _port = os.environ["YEAR_RECEIVER"].split(":")
DOORS = {name: Door(()) for name in DOORS}  # noqa: F405
DOORS["notices"] = Door((), {(_host, int(_port)): ("127.0.0.1", int(_port))})
EMAIL_TIMEOUT = 5
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
