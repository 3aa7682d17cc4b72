"""Two environments of an application side by side: pins, certificates, trusted authorities and settings.

Nothing here parses a certificate or asks the database but `sides`; what it says of a thousand pins takes three queries.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.dialects import PROFILES, dialect_of, expressible
from certificates.models import ClientCertificate, Pin, TrustedAuthority
from certificates.targets import WORDS, Interpretation
from environments.models import Environment

# What a row says of the two sides.
SAME, HERE, THERE, OTHER, KEY = "same", "here", "there", "other", "key"
TESTS = {
    "block": gettext_lazy("A refusal stops an apply"),
    "warn": gettext_lazy("A refusal is shown"),
    "skip": gettext_lazy("Not tested"),
}


@dataclass
class Side:
    """One environment as its Network tab and Settings show it: certificates in their order, pins by key, authorities by
    name."""

    environment: Environment
    certificates: list[ClientCertificate] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    authorities: list[TrustedAuthority] = field(default_factory=list)

    @property
    def sendable(self) -> list[ClientCertificate]:
        """Those that a pin can be set to: none that is tracked without its key."""
        return [c for c in self.certificates if not (c.in_use is not None and c.in_use.is_tracked_only)]

    def named(self, name: str) -> ClientCertificate | None:
        """The certificate of this name, in any case."""
        return next((c for c in self.certificates if c.name.casefold() == name.strip().casefold()), None)


def sides(source: Environment, target: Environment) -> tuple[Side, Side]:
    """Both, read in three queries."""
    places = [source, target]
    found = {place.pk: Side(place) for place in places}
    certificates: dict[UUID, ClientCertificate] = {}
    columns = ("sealed", "number", "sha256", "spki_sha256", "not_before", "not_after", "warnings")
    listed = ClientCertificate.objects.filter(environment__in=places, removed_at=None).select_related("in_use")
    seen = ("environment", "name", "slug", "position", "enabled", *(f"in_use__{column}" for column in columns))
    for certificate in listed.only(*seen).order_by("position", "created_at"):
        side = found[certificate.environment_id]
        certificate.environment = side.environment
        certificates[certificate.pk] = certificate
        side.certificates.append(certificate)
    for pin in Pin.objects.filter(environment__in=places).order_by("key"):
        side = found[pin.environment_id]
        pin.environment = side.environment
        if pin.certificate_id is not None:
            pin.certificate = certificates[pin.certificate_id]
        side.pins.append(pin)
    authorities = TrustedAuthority.objects.filter(environment__in=places, removed_at=None).defer("certificate")
    for authority in authorities:
        side = found[authority.environment_id]
        authority.environment = side.environment
        side.authorities.append(authority)
    return found[source.pk], found[target.pk]


def digest(*compared: Side) -> str:
    """SHA-256 (hex) over what a comparison shows, so that whoever acts on it acts on what they saw."""
    shown = [
        [
            [getattr(side.environment, name) for name in ("runtime", "runtime_version", "profile", "base_folder")],
            [[c.slug, c.name, c.enabled, c.in_use and c.in_use.sha256] for c in side.certificates],
            [[p.kind, p.key, p.certificate and p.certificate.slug, p.note] for p in side.pins],
            [a.sha256 for a in side.authorities],
        ]
        for side in compared
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def counterparts(
    here: Iterable[ClientCertificate], there: Iterable[ClientCertificate]
) -> dict[UUID, ClientCertificate]:
    """For each certificate here, the one there that is meant by it: of the same name, else of the same slug, else with
    the same key. No two have the same one."""
    free = {c.pk: c for c in there}
    found: dict[UUID, ClientCertificate] = {}
    here = list(here)
    for mark in (_name, _slug, _key):
        known: dict[str, ClientCertificate] = {}
        for certificate in free.values():
            known.setdefault(mark(certificate), certificate)
        known.pop("", None)
        for certificate in here:
            other = known.get(mark(certificate)) if certificate.pk not in found else None
            if other is not None and other.pk in free:
                found[certificate.pk] = free.pop(other.pk)
    return found


def _name(certificate: ClientCertificate) -> str:
    return certificate.name.casefold()


def _slug(certificate: ClientCertificate) -> str:
    return certificate.slug


def _key(certificate: ClientCertificate) -> str:
    return certificate.in_use.spki_sha256 if certificate.in_use else ""


@dataclass
class PinLine:
    """A target, and what it is sent on either side; None where it is not pinned there.

    `untold` says why the runtime there cannot be told about the pin here; "" where it can.
    """

    key: str
    here: Pin | None
    there: Pin | None
    difference: str
    untold: str = ""

    @property
    def kinds(self) -> str:
        """“host”, or “service → identifier” where the sides differ in it."""
        kinds = dict.fromkeys(pin.kind for pin in (self.here, self.there) if pin is not None)
        return " → ".join(WORDS.get(kind, kind).lower() for kind in kinds)


def pin_lines(here: Side, there: Side) -> list[PinLine]:
    """Every target that is pinned on either side, by key."""
    meant = counterparts(here.certificates, there.certificates)
    ours, theirs = {p.key: p for p in here.pins}, {p.key: p for p in there.pins}
    dialect, version = dialect_of(there.environment.runtime), there.environment.runtime_version
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        line = PinLine(key, ours.get(key), theirs.get(key), _difference(ours.get(key), theirs.get(key), meant))
        if line.here is not None and line.difference != SAME:
            target, never = Interpretation(line.here.kind, key), line.here.certificate_id is None
            line.untold = expressible(target, dialect=dialect, never=never, runtime_version=version).reason
        found.append(line)
    return found


def _difference(here: Pin | None, there: Pin | None, meant: Mapping[UUID, ClientCertificate]) -> str:
    if here is None or there is None:
        return THERE if here is None else HERE
    counterpart = meant.get(here.certificate_id) if here.certificate_id else None
    sent_there = counterpart.pk if counterpart is not None else None
    same = sent_there == there.certificate_id and (here.certificate_id is None) == (there.certificate_id is None)
    return SAME if same and here.kind == there.kind else OTHER


@dataclass(frozen=True)
class CertificateLine:
    """A certificate on either side. Where both have one, `difference` is `same` (the very same one), `key` (another
    certificate of the same key) or `other` (a key of its own)."""

    here: ClientCertificate | None
    there: ClientCertificate | None
    difference: str

    @property
    def name(self) -> str:
        one = self.here or self.there
        return one.name if one is not None else ""


def certificate_lines(here: Side, there: Side) -> list[CertificateLine]:
    """In their order here, then those that are only there."""
    meant = counterparts(here.certificates, there.certificates)
    lines = [CertificateLine(c, meant.get(c.pk), _compared(c, meant.get(c.pk))) for c in here.certificates]
    taken = {c.pk for c in meant.values()}
    return lines + [CertificateLine(None, c, THERE) for c in there.certificates if c.pk not in taken]


def _compared(here: ClientCertificate, there: ClientCertificate | None) -> str:
    if there is None:
        return HERE
    ours, theirs = here.in_use, there.in_use
    if ours is None or theirs is None:
        return OTHER if ours is not theirs else SAME
    if ours.sha256 == theirs.sha256:
        return SAME
    return KEY if ours.spki_sha256 == theirs.spki_sha256 != "" else OTHER


@dataclass(frozen=True)
class AuthorityLine:
    """A trusted authority, by its certificate."""

    here: TrustedAuthority | None
    there: TrustedAuthority | None

    @property
    def any(self) -> Any:
        return self.here or self.there

    @property
    def difference(self) -> str:
        return SAME if self.here and self.there else HERE if self.here else THERE


def authority_lines(here: Side, there: Side) -> list[AuthorityLine]:
    both: dict[str, list[TrustedAuthority | None]] = defaultdict(lambda: [None, None])
    for place, side in enumerate((here, there)):
        for authority in side.authorities:
            both[authority.sha256][place] = authority
    return sorted((AuthorityLine(*pair) for pair in both.values()), key=lambda line: str(line.any).casefold())


@dataclass(frozen=True)
class SettingLine:
    """A setting in words on either side; `different` where the setting itself differs."""

    about: str
    here: str
    there: str

    @property
    def difference(self) -> str:
        return SAME if self.here == self.there else OTHER


def setting_lines(here: Side, there: Side) -> list[SettingLine]:
    """What the two run on, and what a server without a pin may be sent."""
    return [SettingLine(about, *(say(side) for side in (here, there))) for about, say in _settings().items()]


def _settings() -> dict[str, Any]:
    profiles = {profile.kind: profile.title for profile in PROFILES}
    none = _("not set")
    return {
        _("Runs on"): lambda side: dialect_of(side.environment.runtime).title,
        _("Runtime version"): lambda side: side.environment.runtime_version or none,
        _("Profile"): lambda side: profiles.get(side.environment.profile, side.environment.profile) or none,
        _("Base folder"): lambda side: side.environment.base_folder or none,
        _("Connection tests"): lambda side: str(
            TESTS.get(side.environment.connection_tests, side.environment.connection_tests)
        ),
        _("Any other server"): lambda side: dialect_of(side.environment.runtime).words_for_any_other(
            sum(1 for c in side.sendable if c.enabled and c.in_use is not None)
        ),
    }
