"""Ready, degraded, or not: what each part means for those who use the portal.

Not ready: without database, storage or vault key no page can do its work, so nobody should be sent here.
Degraded: without broker, worker or clock every page works and rollouts wait; nothing is lost, so people should still be
sent here, and somebody should be told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from portal.health import probes
from rollouts.models import Pulse
from rollouts.pulses import CLOCK, WORKER
from rollouts.standing import WORKER_SILENT

log = logging.getLogger("portal.health")

NEEDED = ("database", "storage", "vault_key")
WAITED_FOR = ("broker", "worker", "clock")
# The clock sends something every three seconds.
CLOCK_SILENT = timedelta(seconds=20)
SILENT = {WORKER: WORKER_SILENT, CLOCK: CLOCK_SILENT}


@dataclass(frozen=True)
class Readiness:
    """Each part by its name in NEEDED and WAITED_FOR, with whether it is ok."""

    parts: Mapping[str, bool]

    @property
    def ready(self) -> bool:
        return all(self.parts[name] for name in NEEDED)


def readiness() -> Readiness:
    """Returns within probes.LIMIT seconds, whatever hangs."""
    found = probes.outcomes((*NEEDED, "broker", "sample"))
    pulses: list[Pulse] = found["database"].facts.get("pulses", [])
    parts = {name: outcome.ok for name, outcome in found.items()}
    del parts["sample"]
    # A volume that is not mounted takes and gives, too. What the sample cannot be asked for is the other parts' to say.
    parts["storage"] = parts["storage"] and not nothing_is_there(found["sample"])
    now = timezone.now()
    for kind, silent in SILENT.items():
        at = last(pulses, kind)
        parts[kind] = at is not None and now - at <= silent
    return Readiness(parts)


def nothing_is_there(sample: probes.Outcome) -> bool:
    """Objects are known, and none of those looked for is in the storage: it is another one, or an empty one."""
    return sample.ok and 0 < sample.facts["looked_for"] == len(sample.facts["missing"])


def last(pulses: list[Pulse], kind: str) -> datetime | None:
    return max((pulse.at for pulse in pulses if pulse.kind == kind), default=None)


class Changes:
    """Writes a line into the log when what is not ok changes, and no line for each time it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bad: tuple[str, ...] = ()

    def note(self, found: Readiness) -> None:
        bad = tuple(name for name, ok in found.parts.items() if not ok)
        with self._lock:
            if bad == self._bad:
                return
            self._bad = bad
        if not bad:
            log.info("ready: everything is ok")
        elif found.ready:
            log.warning("degraded: not ok: %s", ", ".join(bad))
        else:
            log.error("not ready: not ok: %s", ", ".join(bad))


CHANGES = Changes()
