"""What the Network pages say about what runs; they are of a lower layer and cannot ask for it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from certificates.content import PinnedTarget
from certificates.dialects import dialect_of
from certificates.listing import Status, status_of
from certificates.models import ClientCertificate
from certificates.targets import WORDS, Interpretation
from environments.models import Environment
from rollouts import connections, exporters, scheduled
from rollouts.models import Destination
from rollouts.standing import Standing

register = template.Library()

MARKS = {"new": lambda: _("New"), "changed": lambda: _("Changed"), "gone": lambda: _("Removed")}


@register.simple_tag
def mark(standing: Standing, what: str, key: str) -> SafeString | str:
    """“New”, “Changed” or “Left out” beside what differs from what runs; nothing where nothing does."""
    found = _mark(standing, what, key)
    if not found:
        return ""
    # Listed, and yet gone from what will run: it is disabled, or its certificate is.
    words = _("Left out") if found == "gone" else MARKS[found]()
    return format_html('<span class="mark {}">{}</span>', found, words)


@register.simple_tag
def row_mark(standing: Standing, what: str, key: str) -> str:
    """The class of a row with a mark."""
    found = _mark(standing, what, key)
    return f"row-{found}-left" if found else ""


@register.simple_tag
def mark_rows(standing: Standing, what: str, rows: Any) -> str:
    """Gives the rows of a list of certificates or pins their marks and classes, before they are said."""
    for row in rows:
        key = row.key if what == "pin" else row.certificate.slug
        row.mark, row.css = mark(standing, what, key), row_mark(standing, what, key)
    return ""


@register.simple_tag
def turned_away_rows(rows: Any, standing: Standing | None = None) -> str:
    """Gives the certificates of a list what servers said to them last; without a standing, of any environments."""
    if standing is not None:
        away = {standing.environment.pk: standing.turned_away}
    else:
        places = {row.certificate.environment_id for row in rows}
        known = {d.pk: d for d in Destination.objects.filter(pk__in=places)}
        away = connections.turned_away({pk: known.get(pk) for pk in places})
    for row in rows:
        row.turned_away = row.certificate.pk in away.get(row.certificate.environment_id, {})
    return ""


@register.simple_tag
def status_now(standing: Standing, certificate: ClientCertificate, pins: Any) -> Status:
    """The status of one certificate, the last tests of its pins among it."""
    return status_of(certificate, pinned=bool(pins), turned_away=certificate.pk in standing.turned_away)


@register.simple_tag
def test_rows(standing: Standing, rows: Any) -> str:
    """Gives each pin of a list what the last test of its connection said."""
    environment = standing.environment
    asked = connections.of_pins(environment, standing.destination, [row.pk for row in rows])
    found = connections.newest(environment, asked)
    testable = {one.key for one in asked}
    for row in rows:
        if test := found.get(row.key):
            row.test, row.tested = connections.verdict(test), connections.age(test)
        elif row.key in testable:
            row.test = (_("Not tested"), "plain", "circle")
    return ""


def _mark(standing: Standing, what: str, key: str) -> str:
    if standing.destination is None:
        return ""  # nothing runs from here, so nothing differs from it
    found = standing.mark(what, key)
    return "gone" if found == "out" else found


@register.simple_tag
def scheduled_with(standing: Standing, certificate: ClientCertificate) -> str:
    """What happens to this certificate all the same, where something that contains it is scheduled; "" otherwise."""
    return scheduled.holding(certificate, standing.scheduled)


@register.simple_tag
def order_changed(standing: Standing) -> bool:
    return bool(_mark(standing, "order", ""))


@dataclass(frozen=True)
class Gone:
    """A removed pin that still runs: its target, the kind in words, and the name of what is still sent."""

    key: str
    kind: str
    sent: str


# Of what was removed and still runs, as many as a list names; the page of all changes has the rest.
GONE_SHOWN = 20


@register.simple_tag
def gone_pins(standing: Standing) -> list[Gone]:
    """Pins that run and are on the list no more, at most GONE_SHOWN."""
    pins = standing.marked.gone_pins if standing.destination is not None else {}
    keys = [key for key in pins if standing.mark("pin", key) == "gone"][:GONE_SHOWN] if pins else []
    # A pin that waits for its certificate to be enabled is still on the list; so is one to a removed certificate.
    listed = set(standing.environment.pins.filter(key__in=keys).values_list("key", flat=True)) if keys else set()
    gone = [(key, *pins[key]) for key in keys if key not in listed]
    names = _names(standing.environment, {slug for _key, _kind, slug in gone})
    return [Gone(key, WORDS.get(kind, kind), names.get(slug or "", "")) for key, kind, slug in gone]


@register.simple_tag
def gone_certificates(standing: Standing) -> list[ClientCertificate]:
    """Removed certificates that still run, at most GONE_SHOWN."""
    marks = standing.marked.marks.get("certificate", {}) if standing.destination is not None else {}
    gone = [slug for slug, mark in marks.items() if mark == "gone"][:GONE_SHOWN]
    if not gone:
        return []
    found = list(
        standing.environment.certificates.filter(slug__in=gone).exclude(removed_at=None).select_related("in_use")
    )
    for certificate in found:
        certificate.environment = standing.environment
    return found


def _names(environment: Environment, slugs: set[str | None]) -> dict[str, str]:
    if not slugs - {None}:
        return {}
    return dict(environment.certificates.filter(slug__in=slugs - {None}).values_list("slug", "name"))


@register.simple_tag
def running_fingerprint(standing: Standing, slug: str) -> str:
    """SHA-256 (hex) of what runs at this place, "" where nothing of it runs."""
    running = standing.destination.running if standing.destination else None
    entry = running.entries.filter(slug=slug).values_list("version__sha256", flat=True).first() if running else None
    return entry or ""


@register.simple_tag
def words_for_any_other(standing: Standing) -> str:
    """What a server without a pin may be sent, in the words of the dialect."""
    return dialect_of(standing.environment.runtime).words_for_any_other(standing.comparison.sendable)


@register.simple_tag
def exported_pin(environment: Environment, target: Interpretation, certificate: ClientCertificate | None) -> str:
    """The key and value that a pin to this certificate (None: never) becomes in the settings of the runtime."""
    slug = certificate.slug if certificate else None
    if certificate is not None and not (certificate.enabled and certificate.in_use_id):
        return ""
    try:
        return exporters.usual(environment.runtime).spelled(
            PinnedTarget(target.kind, target.key, slug), environment.base_folder
        )
    except exporters.ExportError:
        return ""
