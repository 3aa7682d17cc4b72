"""Services that take messages for people, through Apprise, and through our own door.

Apprise knows how a hundred services want to be spoken to, and connects to them by itself. So it runs in a process of
its own, which connects to nothing but a small proxy on loopback (notices/relay.py). The proxy belongs to this process
and goes through the outbound door, as everything does that leaves the portal. The address, which holds a secret,
travels by standard input, and comes back in no word.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from notices.relay import Relay
from rollouts.outbound import Door

# Seconds for one message, with everything that belongs to it.
SECONDS = 20.0
HERE = Path(__file__).resolve().parent


class NotTaken(Exception):
    """One sentence: why a service did not take a message, or why an address cannot be meant."""


def kind_of(address: str) -> str:
    """What kind of service an address is of, as people call it. Raises NotTaken."""
    return _asked({"do": "name", "address": address}, 0)


def say(address: str, *, title: str, text: str, door: Door) -> None:
    """Raises NotTaken."""
    with Relay(door, seconds=SECONDS) as relay:
        try:
            _asked({"do": "say", "address": address, "title": title, "text": text}, relay.port)
        except NotTaken as error:
            # What the door said is more than what the other side of it saw.
            raise NotTaken(relay.refusal or str(error)) from None


def _asked(order: dict[str, str], port: int) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(HERE / "messenger.py"), str(port)],
            input=json.dumps(order), capture_output=True, text=True, timeout=SECONDS + 5, cwd="/", env={},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotTaken("The service did not take the message in time.") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {}
    if "refused" in answer:
        raise NotTaken(str(answer["refused"])[:300])
    if "answer" not in answer:
        raise NotTaken("The service was not spoken to; the program that speaks to services failed.")
    return str(answer["answer"])
