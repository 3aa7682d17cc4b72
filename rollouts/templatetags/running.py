"""What the Network pages say about what runs; they are of a lower layer and cannot ask for it themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from certificates import current
from certificates.content import PinnedTarget
from certificates.models import ClientCertificate
from certificates.targets import WORDS, Interpretation
from environments.models import Environment
from rollouts.changes import Change
from rollouts.exporters import mendix_settings
from rollouts.standing import Standing

register = template.Library()

MARKS = {"new": lambda: _("New"), "changed": lambda: _("Changed"), "gone": lambda: _("Removed")}


@register.simple_tag
def mark(standing: Standing, what: str, key: str) -> SafeString | str:
    """“New”, “Changed” or “Left out” beside what differs from what runs; nothing where nothing does."""
    change = _change(standing, what, key)
    if change is None:
        return ""
    # Listed, and yet gone from what will run: it is disabled, or its certificate is.
    words = _("Left out") if change.mark == "gone" else MARKS[change.mark]()
    return format_html('<span class="mark {}">{}</span>', change.mark, words)


@register.simple_tag
def row_mark(standing: Standing, what: str, key: str) -> str:
    """The class of a row with a mark."""
    change = _change(standing, what, key)
    return f"row-{change.mark}-left" if change else ""


def _change(standing: Standing, what: str, key: str) -> Change | None:
    if standing.destination is None:
        return None  # nothing runs from here, so nothing differs from it
    return next((c for c in standing.changes if (c.what, c.key) == (what, key)), None)


@register.simple_tag
def order_changed(standing: Standing) -> bool:
    return _change(standing, "order", "") is not None


@dataclass(frozen=True)
class Gone:
    """A removed pin that still runs: its target, the kind in words, and the name of what is still sent."""

    key: str
    kind: str
    sent: str


@register.simple_tag
def gone_pins(standing: Standing, listed: Any) -> list[Gone]:
    """Pins that run and are on the list no more."""
    keys = {pin.key for pin in listed}
    gone = [c.key for c in standing.changes if (c.what, c.mark) == ("pin", "gone") and c.key not in keys]
    running = {pin.key: pin for pin in standing.running.pins}
    names = _names(standing.environment, {running[key].slug for key in gone})
    return [
        Gone(key, WORDS.get(running[key].kind, running[key].kind), names.get(running[key].slug or "", ""))
        for key in gone
    ]


@register.simple_tag
def gone_certificates(standing: Standing, listed: Any) -> list[ClientCertificate]:
    """Removed certificates that still run."""
    if standing.destination is None:
        return []
    gone = [c.key for c in standing.changes if (c.what, c.mark) == ("certificate", "gone")]
    if not gone:
        return []
    found = standing.environment.certificates.filter(slug__in=gone).exclude(removed_at=None)
    return list(found.select_related("in_use"))


def _names(environment: Environment, slugs: set[str | None]) -> dict[str, str]:
    if not slugs - {None}:
        return {}
    return dict(environment.certificates.filter(slug__in=slugs - {None}).values_list("slug", "name"))


@register.simple_tag
def running_fingerprint(standing: Standing, slug: str) -> str:
    """SHA-256 (hex) of what runs at this place, "" where nothing of it runs."""
    if standing.destination is None:
        return ""
    return next((slot.sha256 for slot in standing.running.slots if slot.slug == slug), "")


@register.simple_tag
def exported_pin(environment: Environment, target: Interpretation, certificate: ClientCertificate | None) -> str:
    """The key and value that a pin to this certificate (None: never) becomes in the settings of the runtime."""
    slug = certificate.slug if certificate else None
    content = replace(current.content(environment), pins=(PinnedTarget(target.kind, target.key, slug),))
    names = {
        slot.slug: mendix_settings.file_name(position, slot.slug)
        for position, slot in enumerate(content.slots, start=1)
    }
    if slug is not None and slug not in names:
        return ""
    folder = content.base_folder.rstrip("/\\")
    separator = "\\" if "\\" in folder else "/"
    paths = {s: f"{folder}{separator}{name.replace('/', separator)}" if folder else name for s, name in names.items()}
    return mendix_settings.settings(content, paths, [])["ClientCertificateUsages"]
