"""Rows of long lists, quickly: fifty rows of a table must not cost five times what ten do.

A row's template is rendered once a page, with its words, icons and buttons; what differs from row to row stands in it
in single braces, and is filled in here, escaped, without the template engine. Two cells are left to tags of the page
(how long it lives, how it stands), so a certificate's row comes in three parts around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from django.template import Context
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.listing import PinRow, Row, Status, shortened
from certificates.models import Version

LIFE, STATUS = "{life}", "{status}"


def skeleton(context: Context, name: str, **choices: Any) -> str:
    """The row's template with its words, and everything in single braces still to be filled."""
    with context.push(**choices):
        return str(context.template.engine.get_template(name).render(context))  # type: ignore[union-attr]


Line = tuple[SafeString, Version | None, SafeString, Status, SafeString]


def lines(context: Context, rows: Iterable[Row], *, total: int, everywhere: bool = False) -> Iterator[Line]:
    """Each row in three parts, with the version whose life stands after the first, and the status after the second."""
    whole = skeleton(context, "certificates/certificate_row.html", everywhere=everywhere)
    head, rest = whole.split(LIFE)
    middle, tail = rest.split(STATUS)
    no_pin, production = (
        f"<small>{escape(_('no pin'))}</small>",
        f' <span class="badge">{escape(_("Production"))}</span>',
    )
    for row in rows:
        certificate, name = row.certificate, escape(row.name)
        place = certificate.environment
        cells = {
            "id": certificate.pk,
            "css": row.css,
            "address": escape(row.address),
            "number": row.number,
            "name": name,
            "title": f' title="{escape(certificate.name)}"' if row.name != certificate.name else "",
            "common_name": f' <span class="sub">CN={escape(row.common_name)}</span>' if row.common_name else "",
            "mark": row.mark,
            "issuer": escape(row.issuer),
            "issuer_name": escape(row.issuer_name),
            "targets": _targets(row) or no_pin,
            "before": row.number - 1,
            "after": row.number + 1,
            "first": " disabled" if row.number == 1 else "",
            "last": " disabled" if row.number == total else "",
        }
        if everywhere:
            cells["place"], cells["place_address"] = escape(str(place)), escape(place.url("network"))
            cells["production"] = production if place.production else ""
        before, between, after = (_safe(part.format_map(cells)) for part in (head, middle, tail))
        yield before, row.version, between, row.status, after


def _targets(row: Row) -> str:
    tags = "".join(f'<span class="tag">{escape(target)}</span>' for target in row.targets)
    if more := row.more_pins:
        words = ngettext("and %(n)d more", "and %(n)d more", more) % {"n": more}
        tags += f" <small>{escape(words)}</small>"
    return tags


def filled_pins(context: Context, rows: Iterable[PinRow]) -> SafeString:
    """The rows, whole."""
    skeletons: dict[tuple[Any, ...], str] = {}
    filled = []
    for row in rows:
        like = (row.sends, row.test, bool(row.tested))
        if like not in skeletons:
            skeletons[like] = skeleton(
                context, "certificates/pin_row.html", sends=row.sends, test=row.test, tested=row.tested
            )
        cells = {
            "id": row.pk,
            "css": row.css,
            "key": escape(row.key),
            "mark": row.mark,
            "note": f' <span class="sub">{escape(row.note)}</span>' if row.note else "",
            "kind": escape(row.kind),
            "when": escape(row.tested),
            "sent": escape(shortened(row.name or "", 80)),
            "sent_address": escape(f"{row.address}certificates/{row.certificate}/"),
            "address": escape(f"{row.address}pins/{row.pk}/"),
        }
        filled.append(skeletons[like].format_map(cells))
    return _safe("".join(filled))


def _safe(html: str) -> SafeString:
    return mark_safe(html)  # noqa: S308  # the template is ours, and every cell above is escaped
