"""What every page may use: icons, chips, bars of life, and times as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

register = template.Library()

# Drawn in a box of 16 by 16, stroked in the text's colour.
ICONS = {
    "check": '<path d="M3 8.5l3.2 3.2L13 4.8"/>',
    "clock": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.4 1.6"/>',
    "alert": '<path d="M8 2.5v7M8 12.6v.9"/>',
    "circle": '<circle cx="8" cy="8" r="5"/>',
    "progress": '<path d="M8 2.2a5.8 5.8 0 1 1-5.8 5.8"/>',
    "never": '<circle cx="8" cy="8" r="5.5"/><path d="M4.2 11.8l7.6-7.6"/>',
    "up": '<path d="M8 12.5v-9M4 7.2l4-4 4 4"/>',
    "down": '<path d="M8 3.5v9M4 8.8l4 4 4-4"/>',
    "key": '<circle cx="5.2" cy="8" r="2.7"/><path d="M7.9 8h6M11.6 8v2.4M13.9 8v1.8"/>',
    "cross": '<path d="M4.5 4.5l7 7M11.5 4.5l-7 7"/>',
    "pause": '<path d="M5.5 3.5v9M10.5 3.5v9"/>',
}


@register.simple_tag
@cache
def icon(name: str) -> SafeString:
    """An icon beside words; it says nothing to a screen reader, because the words do."""
    return format_html(
        '<svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.8" '
        'aria-hidden="true">{}</svg>',
        mark_safe(ICONS[name]),  # noqa: S308  # constants above
    )


@register.simple_tag
def chip(text: Any, tone: str = "plain", name: str = "") -> SafeString:
    """Icon, word and colour. Tones: good, warn, bad, info, plain."""
    return _chip(str(text), tone, name)


@lru_cache(maxsize=512)
def _chip(text: str, tone: str, name: str) -> SafeString:
    # Lists say the same few chips fifty times a page. (A text that is marked safe is equal to one that is not, so it is
    # escaped all the same.)
    return format_html('<span class="chip {}">{}{}</span>', tone, icon(name) if name else "", str(text))


STATUS = {
    "ok": ("good", "check", lambda: _("OK")),
    "expiring": ("warn", "clock", lambda: _("Expiring")),
    "expired": ("bad", "alert", lambda: _("Expired")),
    "not-yet-valid": ("bad", "alert", lambda: _("Not yet valid")),
    "disabled": ("plain", "pause", lambda: _("Disabled")),
    "not-pinned": ("plain", "circle", lambda: _("Not pinned")),
}


@register.simple_tag
def status_chip(status: str) -> SafeString:
    """A certificate's status as a chip."""
    tone, name, words = STATUS[status]
    return chip(words(), tone, name)


@register.simple_tag
def life(version: Any) -> SafeString:
    """The rest of a certificate's life as a bar with its date: “5 Dec 2026 · 12 d”; nothing for no version."""
    if version is None:
        return SafeString()
    now, ends = timezone.now(), version.not_after
    share = max(0.0, min(1.0, (ends - now) / (ends - version.not_before or timedelta(days=1))))
    tone = {"ok": "good", "expiring": "warn"}.get(version.status(now), "bad")
    at, day = _dates(ends, get_language(), timezone.get_current_timezone_name())
    # Not format_html: of fifty bars on a page, that would be half the work, and only words of ours need escaping.
    return mark_safe(  # noqa: S308
        '<span class="life"><svg viewBox="0 0 130 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="life-rail" width="130" height="6"/>'
        f'<rect class="life-{tone}" width="{max(round(130 * share), 4)}" height="6"/></svg>'
        f'<span class="num"><time datetime="{ends.isoformat()}" title="{at}">{day}</time>'
        f" <small>· {escape(left(ends))}</small></span></span>"
    )


@lru_cache(maxsize=4096)
def _dates(when: datetime, language: str | None, zone: str) -> tuple[str, str]:
    """The moment and the day in words of this language and zone, escaped; lists show the same ones again and again."""
    return escape(moment(when)), escape(date_format(timezone.localtime(when), "j M Y"))


@register.filter
def left(when: datetime) -> str:
    """Time until then in the one unit that matters: “12 d”, “5 h”, “expired 3 d ago”."""
    seconds = (when - timezone.now()).total_seconds()
    if seconds < 0:
        return _("%(time)s ago") % {"time": _one_unit(-seconds)}
    return _one_unit(seconds)


@register.filter
def ago(when: datetime | None) -> str:
    """“just now”, “4 min ago”, “2 h ago”, “3 d ago”."""
    if when is None:
        return _("never")
    seconds = (timezone.now() - when).total_seconds()
    return _("just now") if seconds < 45 else _("%(time)s ago") % {"time": _one_unit(seconds)}


def _one_unit(seconds: float) -> str:
    if seconds < 5400:
        unit, count = "min", max(1, round(seconds / 60))
    elif seconds < 172_800:
        unit, count = "h", round(seconds / 3600)
    else:
        unit, count = "d", round(seconds / 86_400)
    return _in_words(unit, count, get_language())


@lru_cache(maxsize=4096)
def _in_words(unit: str, count: int, language: str | None) -> str:
    return {"min": _("%(n)d min"), "h": _("%(n)d h"), "d": _("%(n)d d")}[unit] % {"n": count}


@register.filter
def moment(when: datetime | None) -> str:
    """“19 Nov 2026 22:04 UTC”: a point in time without doubt."""
    if when is None:
        return ""
    local = timezone.localtime(when)
    return f"{date_format(local, 'j M Y H:i')} {local.tzname()}"


@register.filter
def seconds(span: timedelta | None) -> str:
    """“0.4 s”, “41 s”, “2 min 5 s”."""
    if span is None:
        return ""
    total = span.total_seconds()
    if total < 10:
        return _("%(n).1f s") % {"n": total}
    if total < 90:
        return _("%(n)d s") % {"n": round(total)}
    return _("%(min)d min %(s)d s") % {"min": total // 60, "s": total % 60}


@register.filter
def size(count: int) -> str:
    """Bytes as people read them: “3.4 kB”, “12.0 GB”."""
    if count < 1000:
        return ngettext("%(n)d byte", "%(n)d bytes", count) % {"n": count}
    if count < 1_000_000:
        return _("%(n).1f kB") % {"n": count / 1000}
    if count < 1_000_000_000:
        return _("%(n).1f MB") % {"n": count / 1_000_000}
    return _("%(n).1f GB") % {"n": count / 1_000_000_000}


@register.filter
def fingerprint(hexadecimal: str) -> str:
    """Pairs with colons, as other tools print them."""
    return ":".join(hexadecimal[i : i + 2] for i in range(0, len(hexadecimal), 2))


@register.filter
def short(hexadecimal: str) -> str:
    """The first and last of a fingerprint: “9f31…c2a0”."""
    return f"{hexadecimal[:4]}…{hexadecimal[-4:]}" if len(hexadecimal) > 12 else hexadecimal


@register.inclusion_tag("parts/field.html")
def field(bound: Any, hint: str = "") -> dict[str, Any]:
    """One field of a form with its label, hint and errors, joined for screen readers."""
    return {"field": bound, "hint": hint}
