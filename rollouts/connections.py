"""Tests of the connections that pins are for: which there are, what their results depend on, and what was found last.

A test sends exactly what a bundle carries. Its result says something only while nothing that it depends on has changed:
the certificate and its chain, the address, and whom the environment trusts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates import addresses, current
from certificates.addresses import AddressError, TestAddress
from certificates.content import Content, PinnedTarget, Slot
from certificates.identities import Identity
from certificates.models import Pin, TrustedAuthority, Version
from certificates.targets import HOST
from environments.models import Environment
from rollouts import outbound, probing
from rollouts.models import ConnectionTest, Destination, Rollout
from rollouts.probing import Finding, Trial

log = logging.getLogger(__name__)

AT_ONCE = 8
# Seconds for all tests of one rollout; what was not tried by then is not waited for.
ALTOGETHER = 240.0


@dataclass(frozen=True)
class Connection:
    """One pin's: where it is tried, or why it cannot be; `slot` is None where a certificate is never sent."""

    kind: str
    key: str
    slot: Slot | None
    typed: str
    address: TestAddress | None
    why_not: str = ""
    trust: str = ""

    @property
    def basis(self) -> str:
        """SHA-256 (hex) over what the result depends on."""
        sent = [self.slot.sha256, *self.slot.chain] if self.slot else None
        return hashlib.sha256(json.dumps([str(self.address or ""), sent, self.trust]).encode()).hexdigest()


def of_content(environment: Environment, destination: Destination | None, content: Content) -> list[Connection]:
    """Those of the content's pins to certificates; `destination` is where the environment runs."""
    pins = [pin for pin in content.pins if pin.slug is not None]
    slots = {slot.slug: slot for slot in content.slots}
    typed = dict(
        Pin.objects.filter(environment=environment).exclude(test_address="").values_list("key", "test_address")
    )
    trust = _digest_of_trust(destination, content.authorities)
    return [_connection(pin, slots.get(pin.slug or ""), typed.get(pin.key, ""), trust) for pin in pins]


def of_pins(environment: Environment, destination: Destination | None, pins: Iterable[Any]) -> list[Connection]:
    """Those of these pins (by their primary keys) as they are now. Of a pin to a disabled certificate there is none.
    Two queries, for any number of certificates elsewhere."""
    found = _of_pins(Pin.objects.filter(pk__in=pins), {environment.pk: destination})
    return [connection for *_ids, connection in found]


def _of_pins(
    pins: QuerySet[Pin], destinations: Mapping[UUID, Destination | None]
) -> Iterator[tuple[UUID, UUID, UUID | None, Connection]]:
    """Environment, pin, certificate and connection of each; `destinations`: of each of their environments."""
    authorities: dict[UUID, list[str]] = defaultdict(list)
    trusted = TrustedAuthority.objects.filter(environment__in=list(destinations), removed_at=None)
    for environment, sha256 in trusted.order_by("sha256").values_list("environment", "sha256"):
        authorities[environment].append(sha256)
    trust = {pk: _digest_of_trust(destination, authorities[pk]) for pk, destination in destinations.items()}
    columns = (
        "environment", "pk", "certificate", "kind", "key", "test_address", "certificate__slug",
        "certificate__enabled", "certificate__in_use__sealed", "certificate__in_use__sha256",
        "certificate__in_use__chain",
    )  # fmt: skip
    for row in pins.values_list(*columns):
        environment, pin, certificate, kind, key, typed, slug, enabled, sealed, sha256, chain = row
        if slug and not (enabled and sealed):
            continue
        slot = Slot(slug, sha256, tuple(link["sha256"] for link in chain)) if slug else None
        yield environment, pin, certificate, _connection(PinnedTarget(kind, key, slug), slot, typed, trust[environment])


class TurnedAway(NamedTuple):
    """By which server: its pin, and the target."""

    pin: UUID
    key: str


def turned_away(destinations: Mapping[UUID, Destination | None]) -> dict[UUID, dict[UUID, TurnedAway]]:
    """The certificates that a server turned away, or that would not be shown to it, when they were last tested, as
    they are now: by environment, then by certificate. `destinations`: of each environment asked about. One query; two
    more where there are any."""
    last = ConnectionTest.objects.filter(
        environment__in=list(destinations), is_last=True, verdict__in=IN_THE_WAY, version__isnull=False
    )
    basis = {(environment, key): basis for environment, key, basis in last.values_list("environment", "key", "basis")}
    found: dict[UUID, dict[UUID, TurnedAway]] = {}
    if basis:
        places = {environment: destinations[environment] for environment, _key in basis}
        pins = Pin.objects.filter(environment__in=list(places), key__in={key for _environment, key in basis})
        for environment, pin, certificate, connection in _of_pins(pins.order_by("-key"), places):
            if certificate and basis.get((environment, connection.key)) == connection.basis:
                found.setdefault(environment, {})[certificate] = TurnedAway(pin, connection.key)
    return found


def _digest_of_trust(destination: Destination | None, authorities: Iterable[str]) -> str:
    own = _place_trusts(destination)
    try:
        changed_at = Path(own).stat().st_mtime_ns if own else 0
    except OSError:
        changed_at = 0
    return hashlib.sha256("\n".join([own, str(changed_at), *authorities]).encode()).hexdigest()


def _connection(pin: PinnedTarget, slot: Slot | None, typed: str, trust: str) -> Connection:
    if not typed and pin.kind != HOST:
        why = "Say on its pin which address to test; the name alone does not tell."
        return Connection(pin.kind, pin.key, slot, "", None, why, trust)
    try:
        address = addresses.read(typed or pin.key)
    except AddressError as error:
        return Connection(pin.kind, pin.key, slot, typed, None, str(error), trust)
    return Connection(pin.kind, pin.key, slot, typed, address, "", trust)


def _place_trusts(destination: Destination | None) -> str:
    """The file with the authorities that the app trusts by itself, "" where the server's settings name none."""
    return str(destination.settings.get("trust", "")) if destination else ""


def trusted(environment: Environment, destination: Destination | None, content: Content) -> list[bytes]:
    """DER of whom the app believes, beside the public authorities."""
    found = list(current.authorities(environment, content).values())
    if file := _place_trusts(destination):
        try:
            own = x509.load_pem_x509_certificates(Path(file).read_bytes())
        except (OSError, ValueError):
            own = []  # then a server of theirs is not trusted, which the test says
        found += [one.public_bytes(Encoding.DER) for one in own]
    return found


def tried(
    asked: Sequence[Connection], identities: Mapping[str, Identity], authorities: Sequence[bytes]
) -> Iterator[tuple[Connection, Finding]]:
    """Tries each, several at once, and yields each as it ends. `identities` by slug."""
    door: outbound.Door = settings.DOORS["tests"]
    until = time.monotonic() + ALTOGETHER

    def one(connection: Connection) -> Finding:
        if connection.address is None:
            return Finding("untestable", connection.why_not)
        if connection.slot is not None and connection.slot.slug not in identities:
            return Finding("untestable", "What this export would send is not known; apply again to write a new one.")
        if time.monotonic() > until:
            return Finding("untestable", "There were too many connections to test in time.")
        identity = identities[connection.slot.slug] if connection.slot else None
        try:
            return probing.probe(Trial(connection.address, identity, authorities), door=door)
        except Exception:
            # A key that the library cannot use, for one; a test that cannot be made must not stop an apply.
            log.exception("the connection to %s could not be tested", connection.key)
            return Finding("untestable", "The test met an error of its own, which the portal's log describes.")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = {pool.submit(one, connection): connection for connection in asked}
        try:
            for ended in as_completed(begun):
                yield begun[ended], ended.result()
        finally:
            for waiting in begun:
                waiting.cancel()


def kept(
    environment: Environment,
    connection: Connection,
    finding: Finding,
    *,
    version: Version | None,
    by: Any,
    rollout: Rollout | None = None,
    moment: str = "",
) -> ConnectionTest:
    """Keeps a result; of one target those that nobody can look at any more go."""
    of_target = ConnectionTest.objects.filter(environment=environment, key=connection.key)
    of_target.filter(is_last=True).update(is_last=False)
    made = ConnectionTest.objects.create(
        environment=environment,
        rollout=rollout,
        moment=moment,
        kind=connection.kind,
        key=connection.key,
        version=version,
        address=str(connection.address or connection.typed),
        basis=connection.basis,
        verdict=finding.verdict,
        sentence=finding.sentence,
        caution=finding.caution,
        facts=finding.as_json(),
        tested_at=timezone.now(),
        tested_by=str(by),
    )
    if rollout is None:
        old = of_target.filter(rollout=None).order_by("-tested_at").values_list("pk", flat=True)[KEPT:]
        ConnectionTest.objects.filter(pk__in=list(old)).delete()
    return made


# Of the tests of one target that no rollout made, as many are kept.
KEPT = 10


def newest(environment: Environment, asked: Sequence[Connection]) -> dict[str, ConnectionTest]:
    """The last result of each pin's connection, by key, where it still says something. One query, one row a pin,
    however many tests there were."""
    basis = {connection.key: connection.basis for connection in asked}
    tests = ConnectionTest.objects.filter(environment=environment)
    last = tests.filter(key=OuterRef("key")).order_by("-tested_at").values("pk")[:1]
    pins = Pin.objects.filter(environment=environment, key__in=basis).order_by().values_list(Subquery(last), flat=True)
    found = tests.filter(pk__in=pins).defer("facts")
    return {test.key: test for test in found if test.basis == basis[test.key]}


def age(test: ConnectionTest) -> str:
    """“3 minutes ago”."""
    if timezone.now() - test.tested_at < timedelta(minutes=1):
        return _("just now")
    return _("%(span)s ago") % {"span": timesince(test.tested_at, depth=1)}


def verdict(test: ConnectionTest) -> tuple[str, str, str]:
    """As a chip says it: text, tone and icon."""
    text, tone, icon = CHIPS[test.verdict]
    return str(text), "warn" if tone == "good" and test.caution else tone, icon


CHIPS = {
    "accepted": (gettext_lazy("Accepted"), "good", "check"),
    "not-asked": (gettext_lazy("Not asked"), "plain", "circle"),
    "refused": (gettext_lazy("Refused"), "bad", "alert"),
    "untrusted": (gettext_lazy("Server not trusted"), "bad", "alert"),
    "unreachable": (gettext_lazy("Unreachable from here"), "warn", "alert"),
    "untestable": (gettext_lazy("Cannot be tested from here"), "plain", "circle"),
}


@dataclass(frozen=True)
class Told:
    """A test as pages show it."""

    test: ConnectionTest
    chip: tuple[str, str, str]
    age: str

    @property
    def turned_away(self) -> bool:
        return self.test.verdict in IN_THE_WAY


def told(test: ConnectionTest) -> Told:
    return Told(test, verdict(test), age(test))


def in_words(tests: Iterable[ConnectionTest]) -> str:
    """“3 accepted, 1 refused”."""
    counted: dict[str, int] = {}
    for test in tests:
        counted[test.verdict] = counted.get(test.verdict, 0) + 1
    return ", ".join(f"{counted[verdict]} {WORDS[verdict]}" for verdict in probing.VERDICTS if verdict in counted)


WORDS = {
    "accepted": "accepted",
    "not-asked": "not asked for a certificate",
    "refused": "refused",
    "untrusted": "by a server that is not trusted",
    "unreachable": "unreachable from here",
    "untestable": "not testable from here",
}
# An app with this configuration would be turned away, or would turn away.
IN_THE_WAY = ("refused", "untrusted")
