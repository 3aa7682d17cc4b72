"""The filters of *all certificates*, as they stand in the address of the page: read, applied, and written back.

What cannot be a filter (an unknown word, a date that is none, a place that the reader may not see) is ignored, so that
an old or mistyped address shows a list and not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.models import ClientCertificate, Pin
from environments.models import Environment

# Issuers that are proposed, the most frequent; any other can be typed.
ISSUERS_PROPOSED = 50
KEYS_OFFERED = 50

EXPIRIES: dict[str, str | Promise] = {
    "": gettext_lazy("Any time"),
    "expired": gettext_lazy("Expired"),
    "valid": gettext_lazy("Not expired"),
    "7": gettext_lazy("Within 7 days"),
    "30": gettext_lazy("Within 30 days"),
    "60": gettext_lazy("Within 60 days"),
    "90": gettext_lazy("Within 90 days"),
}
STATES: dict[str, str | Promise] = {
    "": gettext_lazy("Any"),
    "enabled": gettext_lazy("Enabled"),
    "disabled": gettext_lazy("Disabled"),
}
FLAGS: dict[str, str | Promise] = {
    "production": gettext_lazy("Production only"),
    "unpinned": gettext_lazy("Not pinned"),
    "weak": gettext_lazy("Weak"),
    "tracked": gettext_lazy("Tracked only"),
}
ORDERS: dict[str, tuple[str | Promise, tuple[str, ...]]] = {
    "": (gettext_lazy("Expiry"), ("expires_at", "pk")),
    "name": (gettext_lazy("Name"), ("sought", "pk")),
    "application": (
        gettext_lazy("Application"),
        ("environment__application__name", "environment__position", "environment__name", "expires_at", "pk"),
    ),
}


@dataclass(frozen=True)
class Chip:
    """One filter that is active, and the address of the list without it."""

    text: str
    without: str


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to, and its order; every field is "", None or False where it does not narrow. Days are
    whole ones of the installation's time zone, both included."""

    q: str = ""
    issuer: str = ""
    key: str = ""
    expiry: str = ""
    since: date | None = None
    until: date | None = None
    place: str = ""
    state: str = ""
    production: bool = False
    unpinned: bool = False
    weak: bool = False
    tracked: bool = False
    sort: str = ""

    @classmethod
    def read(cls, asked: Mapping[str, str], places: Iterable[Environment]) -> Filters:
        """Of a query string; `places` are the environments that the reader may see."""
        known = {"": ""} | {mark: mark for place in places for mark in marks_of(place)}
        return cls(
            q=_line(asked.get("q", "")),
            issuer=_line(asked.get("issuer", "")),
            key=_line(asked.get("key", ""))[:60],
            expiry=_one_of(EXPIRIES, asked.get("expiry", "")),
            since=_day(asked.get("from", "")),
            until=_day(asked.get("to", "")),
            place=_one_of(known, asked.get("in", "")),
            state=_one_of(STATES, asked.get("state", "")),
            sort=_one_of(ORDERS, asked.get("sort", "")),
            **{flag: asked.get(flag, "") in ("1", "on") for flag in FLAGS},
        )

    @property
    def narrow(self) -> bool:
        return self != Filters(sort=self.sort)

    @property
    def query(self) -> str:
        """As a query string, only what differs from the whole list."""
        told = {
            "q": self.q,
            "issuer": self.issuer,
            "key": self.key,
            "expiry": self.expiry,
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "in": self.place,
            "state": self.state,
            **{flag: "1" if getattr(self, flag) else "" for flag in FLAGS},
            "sort": self.sort,
        }
        return urlencode({name: value for name, value in told.items() if value})

    @property
    def address(self) -> str:
        return f"{reverse('all-certificates')}{f'?{self.query}' if self.query else ''}"

    @property
    def order(self) -> tuple[str, ...]:
        return ORDERS[self.sort][1]

    def sorted_by(self, sort: str) -> str:
        """The same list in another order."""
        return replace(self, sort=sort).address

    def chips(self, places: Iterable[Environment]) -> list[Chip]:
        words: dict[str, str] = {}
        if self.q:
            words["q"] = _("“%(text)s”") % {"text": self.q}
        if self.issuer:
            words["issuer"] = _("Issued by %(name)s") % {"name": self.issuer}
        if self.key:
            words["key"] = self.key
        if self.expiry:
            words["expiry"] = str(EXPIRIES[self.expiry])
        if self.since:
            words["since"] = _("From %(day)s") % {"day": date_format(self.since, "j M Y")}
        if self.until:
            words["until"] = _("Until %(day)s") % {"day": date_format(self.until, "j M Y")}
        if self.place:
            words["place"] = _("In %(place)s") % {"place": _name_of(self.place, places)}
        if self.state:
            words["state"] = str(STATES[self.state])
        words |= {flag: str(title) for flag, title in FLAGS.items() if getattr(self, flag)}
        whole = Filters()
        return [Chip(text, replace(self, **{name: getattr(whole, name)}).address) for name, text in words.items()]

    def environments(self, places: Iterable[Environment]) -> list[UUID] | None:
        """Those that are left of all that the reader may see; None where all are."""
        if not (self.place or self.production):
            return None
        return [
            place.pk
            for place in places
            if (not self.place or self.place in marks_of(place)) and (place.production or not self.production)
        ]

    def narrowed(self, listed: QuerySet[ClientCertificate], now: datetime) -> QuerySet[ClientCertificate]:
        """By everything but text and place."""
        if self.issuer:
            # A whole name means that issuer alone; a part of one, all that have it.
            whole = listed.filter(issued_by=self.issuer)
            listed = whole if whole.exists() else listed.filter(issued_by__icontains=self.issuer)
        if self.key:
            listed = listed.filter(public_key=self.key)
        if self.expiry == "expired":
            listed = listed.filter(expires_at__lte=now)
        elif self.expiry:
            listed = listed.filter(expires_at__gt=now)
            if self.expiry != "valid":
                listed = listed.filter(expires_at__lte=now + timedelta(days=int(self.expiry)))
        if self.since:
            listed = listed.filter(expires_at__gte=begin_of(self.since))
        if self.until:
            listed = listed.filter(expires_at__lt=begin_of(self.until + timedelta(days=1)))
        if self.state:
            listed = listed.filter(enabled=self.state == "enabled")
        if self.weak:
            listed = listed.filter(weak=True)
        if self.tracked:
            listed = listed.filter(tracked_only=True)
        if self.unpinned:
            listed = listed.filter(~Exists(Pin.objects.filter(certificate=OuterRef("pk"))))
        return listed


def marks_of(place: Environment) -> tuple[str, str]:
    """What may stand in an address for a place: its application, or itself."""
    return place.application.slug, f"{place.application.slug}/{place.slug}"


def _name_of(mark: str, places: Iterable[Environment]) -> str:
    found = next(place for place in places if mark in marks_of(place))
    return str(found) if "/" in mark else found.application.name


def begin_of(day: date) -> datetime:
    """The first moment of a day, in the installation's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def _line(text: str) -> str:
    return text.strip()[:200].replace("\0", "")


def _one_of(known: Mapping[str, Any], text: str) -> str:
    return text if text in known else ""


def _day(text: str) -> date | None:
    """A day of this or the neighbouring centuries, so that a day more or an hour less is one, too."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1900 <= day.year <= 9000 else None


class FilterForm(forms.Form):
    """The filters as fields. It is never read: what stands in an address is (Filters.read); this shows it."""

    issuer = forms.CharField(
        label=gettext_lazy("Issued by"),
        max_length=200,
        widget=forms.TextInput(attrs={"list": "issuers", "autocomplete": "off"}),
    )
    key = forms.ChoiceField(label=gettext_lazy("Key"))
    expiry = forms.ChoiceField(label=gettext_lazy("Expires"), choices=list(EXPIRIES.items()))
    since = forms.DateField(label=gettext_lazy("From"), widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=gettext_lazy("Until"), widget=forms.DateInput(attrs={"type": "date"}))
    place = forms.ChoiceField(label=gettext_lazy("In"))
    state = forms.ChoiceField(label=gettext_lazy("State"), choices=list(STATES.items()))
    sort = forms.ChoiceField(label=gettext_lazy("Sorted by"), choices=[(name, one[0]) for name, one in ORDERS.items()])
    production = forms.BooleanField()
    unpinned = forms.BooleanField()
    weak = forms.BooleanField()
    tracked = forms.BooleanField()

    # None has to be filled in; but then every label would say “(optional)”.
    use_required_attribute = False
    # What each is called in an address, where a field cannot be.
    CALLED = {"since": "from", "until": "to", "place": "in"}

    def __init__(self, shown: Filters, places: Iterable[Environment], keys: Iterable[str]) -> None:
        initial = {name: getattr(shown, name) for name in self.base_fields}
        for day in ("since", "until"):
            initial[day] = initial[day].isoformat() if initial[day] else ""
        super().__init__(initial=initial)
        offered = dict.fromkeys([*keys, *([shown.key] if shown.key else [])])
        choices: dict[str, list[tuple[Any, Any]]] = {
            "key": [("", _("Any")), *((key, key) for key in offered)],
            "place": [("", _("Everywhere")), *_offered(places)],
        }
        for name, offers in choices.items():
            self.fields[name].choices = offers  # type: ignore[attr-defined]
        for name, title in FLAGS.items():
            self.fields[name].label = title  # type: ignore[assignment]

    def add_prefix(self, field_name: str) -> str:
        return self.CALLED.get(field_name, field_name)


def _offered(places: Iterable[Environment]) -> list[tuple[Any, Any]]:
    """Each application as a whole, and under it its environments."""
    by_application: dict[str, list[Environment]] = {}
    for place in places:
        by_application.setdefault(place.application.slug, []).append(place)
    offered: list[tuple[Any, Any]] = []
    for slug, group in by_application.items():
        name = group[0].application.name
        inside = [(f"{slug}/{place.slug}", str(place)) for place in group]
        offered.append((name, [(slug, _("%(name)s, everywhere") % {"name": name}), *inside]))
    return offered


def issuers(listed: QuerySet[ClientCertificate]) -> list[str]:
    """The issuers of most of these certificates, the most frequent first."""
    named = listed.exclude(issued_by="").order_by().values("issued_by").annotate(n=Count("pk"))
    return [row["issued_by"] for row in named.order_by("-n", "issued_by")[:ISSUERS_PROPOSED]]


def keys(listed: QuerySet[ClientCertificate]) -> list[str]:
    """The kinds of their keys."""
    kinds = listed.exclude(public_key="").order_by("public_key").values_list("public_key", flat=True).distinct()
    return list(kinds[:KEYS_OFFERED])
