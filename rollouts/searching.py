"""The search at the top of every page: a host, an address, a service, or the text of an error, and what is known here
of whom it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from certificates.models import Pin
from certificates.targets import HOST, LONGEST_KEY, TargetError, interpret
from environments.access import visible_environments
from environments.models import Environment
from rollouts.models import Destination, Rollout

LONGEST = 20_000
MOST = 50
# What stands in an error's text and may be a target: what is between blanks, quotation marks and brackets.
_WORD = re.compile(r"[^\s\"'`<>(){}\[\]|,;«»“”]+")
# What TLS programs say, in small letters, and what it means here.
MEANINGS: tuple[tuple[tuple[str, ...], str | Promise], ...] = (
    (
        ("pkix path building failed", "unable to find valid certification path", "self-signed certificate",
         "self signed certificate", "unable to get local issuer certificate", "unable to get issuer certificate"),
        _("The app does not believe the server’s certificate; add the authority that signed it under Trusted"
          " authorities."),
    ),
    (
        ("certificate_expired", "certificate expired", "certificate has expired"),
        _("A certificate has expired: look at the expiry of the one that is sent, then at the server’s own."),
    ),
    (
        ("unknown_ca", "unknown ca", "certificate_unknown", "certificate unknown"),
        _("The server does not know the authority of the certificate that it was sent: is it the right one, and is its"
          " chain complete?"),
    ),
    (
        ("bad_certificate", "bad certificate", "certificate_revoked", "certificate revoked"),
        _("The server refuses the certificate that it was sent: ask the partner whether they have this one on file."),
    ),
    (
        ("certificate_required", "certificate required", "no required ssl certificate", "handshake_failure",
         "handshake failure"),
        _("The server wants a certificate and was perhaps sent none: look at what its host is sent."),
    ),
    (
        ("keystore password was incorrect", "mac verify failure", "failed to decrypt safe contents"),
        _("The runtime could not open an exported file; choose another way to encrypt them under Settings."),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Hit:
    """A pin that the text names: what its target is sent in this environment, and what ran last there."""

    pin: Pin
    environment: Environment
    running: int | None
    changed_at: datetime | None
    earlier: int | None  # a revision that ran before, to roll back to


@dataclass(frozen=True)
class Findings:
    """`unpinned` are the hosts in the text that no pin names."""

    hits: tuple[Hit, ...]
    unpinned: tuple[str, ...]
    meanings: tuple[str, ...]
    words: str  # for a search of certificates; "" where the text is too long for one


def search(text: str, person: Any) -> Findings:
    """What is known of the text, in what this person may see. Four queries, whatever it says."""
    text = text.strip()
    if len(text) > LONGEST:
        # Not in the middle of a word: half a host is another host.
        text = text[:LONGEST].rsplit(None, 1)[0]
    names = candidates(text)
    environments = visible_environments(person).filter(archived_at=None)
    pins = Pin.objects.filter(environment__in=environments, key__in=names).select_related(
        "certificate__in_use", "environment__application"
    )
    found = list(pins.order_by("key", "environment__application__name", "environment__position")[:MOST])
    hits = _hits(found)
    keys = {pin.key for pin in found}
    hosts = tuple(name for name, kind in names.items() if kind == HOST)
    lowered = text.lower()
    return Findings(
        hits=hits,
        unpinned=tuple(host for host in hosts if host not in keys),
        meanings=tuple(str(words) for marks, words in MEANINGS if any(mark in lowered for mark in marks)),
        words=text if len(text) <= 200 and "\n" not in text else "",
    )


def candidates(text: str) -> dict[str, str]:
    """The keys that the words of a text could be, each with its kind: at most 500. The whole text is one too, if it is
    short, because identifiers may have blanks."""
    found: dict[str, str] = {text: ""} if 0 < len(text) <= LONGEST_KEY else {}
    for word in [text, *_WORD.findall(text)][:2000]:
        for one in (word, word.strip(".:!?")):
            try:
                read = interpret(one)
            except TargetError:
                continue
            # A number with a dot, a class of Java or a file name is no host, unless somebody pinned it.
            kind = read.kind if is_host(read.key) or read.kind != HOST else ""
            found[read.key] = found.get(read.key) or kind
            found.setdefault(one, "")
        if len(found) >= 500:
            break
    return found


def is_host(key: str) -> bool:
    """Whether a text that could be a host is likely one: not `java.net.SocketException` nor `App.java`."""
    labels = key.split(".")
    return len(labels) > 1 and labels[0] not in ("java", "javax", "sun", "org", "com", "jdk") and labels[-1] != "java"


def _hits(pins: list[Pin]) -> tuple[Hit, ...]:
    places = {pin.environment_id for pin in pins}
    verified = Rollout.objects.filter(state="verified", kind__in=("apply", "roll-back"), revision__isnull=False)
    newest = verified.filter(environment=OuterRef("environment")).order_by("-finished_at")
    earlier = newest.exclude(revision=OuterRef("running"))
    standing = {
        d.environment_id: d
        for d in Destination.objects.filter(environment__in=places)
        .select_related("running")
        .defer("running__content")
        .annotate(
            changed_at=Subquery(newest.values("finished_at")[:1]),
            earlier=Subquery(earlier.values("revision__number")[:1]),
        )
    }
    hits = []
    for pin in pins:
        d: Any = standing.get(pin.environment_id)
        if pin.certificate is not None:
            pin.certificate.environment = pin.environment
        running = d.running.number if d is not None and d.running is not None else None
        hits.append(
            Hit(pin, pin.environment, running, d.changed_at if d else None, d.earlier if d and running else None)
        )
    return tuple(hits)
