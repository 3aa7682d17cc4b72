"""Who did something: a person at a page, a person at a command line, a partner without an account, or the portal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Actor:
    """`id` is the person's id as text, "" for the portal; `address` is the network address a request came from, which
    is also all that is known of a partner."""

    kind: Literal["person", "command", "partner", "portal"]
    name: str
    id: str = ""
    address: str = ""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, who: Any) -> Actor:
        """An actor from an Actor, a request's user, or None for the portal's own work."""
        if isinstance(who, Actor):
            return who
        if who is None:
            return PORTAL
        return cls("person", str(who.get_username()), str(who.pk), getattr(who, "address", ""))

    @classmethod
    def partner(cls, address: str) -> Actor:
        """Somebody who has an upload link, or tries to have one."""
        return cls("partner", "Partner (upload link)", address[:40], address)


PORTAL = Actor("portal", "Countersign")
