"""What an upload is to the certificate that it is to follow: its renewal, and in what it differs. No Django."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from certificates.spelled import key_of, name_parts

Kind = Literal["same", "renewal", "same-key", "other-issuer", "other-subject", "stranger"]
KINDS: Final[tuple[Kind, ...]] = ("same", "renewal", "same-key", "other-issuer", "other-subject", "stranger")


class Certificate(Protocol):
    """What is compared: the facts that a version has as columns."""

    subject: str
    common_name: str
    issuer: str
    sha256: str
    spki_sha256: str
    key_kind: str
    key_bits: int
    names: Any
    not_before: datetime.datetime
    not_after: datetime.datetime
    chain: Any  # [{sha256, …}], leaf's issuer first


@dataclass(frozen=True)
class Difference:
    """One respect in which the two differ, and how:

    subject, issuer     `spelling` (the same parts, written otherwise) or `parts`
    key                 `same` (also no difference), `new` or `kind` (new, and of another kind or length)
    names               `lost` where one is missing, `added` where there are only more
    lifetime            `earlier`, `same-day` or `later` end, with `days`
    chain               `links` (the same issuer by name, under another certificate)

    `lost` and `added` are parts of a name, or names.
    """

    about: str
    how: str
    lost: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    days: int = 0


@dataclass(frozen=True)
class Recognised:
    """`kind` says what it is:

    same            the very same certificate
    renewal         same subject and issuer, a new key
    same-key        same subject and issuer, the same key
    other-issuer    same subject, another issuer
    other-subject   another subject, yet the same key, the same common name or one of the same names
    stranger        nothing of these: hardly a renewal of this one
    """

    kind: Kind
    differences: tuple[Difference, ...] = field(default=())

    def of(self, about: str) -> Difference | None:
        """The difference in this respect, None where they agree."""
        return next((one for one in self.differences if one.about == about), None)


def recognised(old: Certificate, new: Certificate) -> Recognised:
    """What `new` is to `old`, and each difference."""
    found = [
        _name("subject", old.subject, new.subject),
        _name("issuer", old.issuer, new.issuer),
        _names(old.names, new.names),
        _key(old, new),
        _lifetime(old, new),
        _chain(old, new),
    ]
    differences = tuple(one for one in found if one is not None)
    return Recognised(_kind(old, new), differences)


def _kind(old: Certificate, new: Certificate) -> Kind:
    if old.sha256 == new.sha256:
        return "same"
    same_key = is_same_key(old, new)
    if old.subject == new.subject:
        if old.issuer != new.issuer:
            return "other-issuer"
        return "same-key" if same_key else "renewal"
    alike = old.common_name and old.common_name.casefold() == new.common_name.casefold()
    if same_key or alike or {str(name).lower() for name in old.names} & {str(name).lower() for name in new.names}:
        return "other-subject"
    return "stranger"


def is_same_key(old: Certificate, new: Certificate) -> bool:
    return bool(old.spki_sha256) and old.spki_sha256 == new.spki_sha256


def _name(about: str, old: str, new: str) -> Difference | None:
    if old == new:
        return None
    before, after = name_parts(old), name_parts(new)
    lost, added = _beyond(before, after), _beyond(after, before)
    if sorted(map(_folded, before)) == sorted(map(_folded, after)):
        return Difference(about, "spelling", lost, added)
    return Difference(about, "parts", lost, added)


def _beyond(some: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in some if one not in others)


def _folded(part: str) -> str:
    return " ".join(part.casefold().split())


def _names(old: Sequence[str], new: Sequence[str]) -> Difference | None:
    lost, added = _beyond(old, new), _beyond(new, old)
    return Difference("names", "lost" if lost else "added", lost, added) if lost or added else None


def _key(old: Certificate, new: Certificate) -> Difference | None:
    if is_same_key(old, new):
        return None
    return Difference("key", "new" if key_of(old) == key_of(new) else "kind", (key_of(old),), (key_of(new),))


def _lifetime(old: Certificate, new: Certificate) -> Difference | None:
    """Of the end; of two on the same day the renewal brings no time."""
    if old.sha256 == new.sha256:
        return None
    days = (new.not_after - old.not_after).days
    return Difference("lifetime", "earlier" if days < 0 else "later" if days else "same-day", days=days)


def _chain(old: Certificate, new: Certificate) -> Difference | None:
    """Only where the issuer has the same name: another issuer has another chain anyway."""
    before, after = ([link["sha256"] for link in one.chain] for one in (old, new))
    if old.issuer != new.issuer or not before or not after or before[0] == after[0]:
        return None
    return Difference("chain", "links")
