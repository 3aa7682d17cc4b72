"""The certificates of all environments on one page, narrowed by its address, and the same list for a spreadsheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from certificates import filters, listing
from certificates.filters import FilterForm, Filters
from certificates.models import ClientCertificate
from certificates.views.network import download
from environments.access import visible_environments
from environments.models import Environment


@dataclass(frozen=True)
class Asked:
    """What an address asks for: of the certificates `listed` that the reader may see, those `found`. `places` are the
    environments that they are in, by application."""

    filters: Filters
    places: list[Environment]
    listed: QuerySet[ClientCertificate]
    found: QuerySet[ClientCertificate]


def everything(person: Any, places: list[Environment]) -> tuple[QuerySet[ClientCertificate], Q]:
    """The certificates in these environments, all that this person may see; and, of a version or pin, whether it
    belongs to one of them."""
    listed = ClientCertificate.objects.filter(removed_at=None)
    if person.is_superuser:
        # By what is left out, which is little: the index that they are sorted by is then all that is read.
        hidden = list(Environment.objects.exclude(pk__in=visible_environments(person).filter(archived_at=None)))
        if not hidden:
            return listed, Q()
        return listed.exclude(environment__in=hidden), ~Q(certificate__environment__in=hidden)
    seen = [place.pk for place in places]
    return listed.filter(environment__in=seen), Q(certificate__environment__in=seen)


def asked_by(request: HttpRequest) -> Asked:
    visible = visible_environments(request.user).filter(archived_at=None)
    places = sorted(visible, key=lambda place: (place.application.name.casefold(), place.position, place.name))
    listed, within = everything(request.user, places)
    chosen = Filters.read(request.GET, places)
    found = listed
    if (here := chosen.environments(places)) is not None:
        found, within = found.filter(environment__in=here), Q(certificate__environment__in=here)
    found = chosen.narrowed(found, timezone.now())
    if chosen.q:
        found = listing.search(found, chosen.q, within=within)
    return Asked(chosen, places, listed, found)


@require_safe
def all_certificates(request: HttpRequest) -> HttpResponse:
    """Every certificate that the reader may see, in whatever application: the next to expire first."""
    asked = asked_by(request)
    chosen = asked.filters
    certificates = listing.certificates_in(
        asked.found,
        listing.page_number(request.GET.get("page", "")),
        order=chosen.order,
        total=asked.listed.count() if chosen.narrow else None,
        at_once=bool(chosen.q),
    )
    context = {
        "section": "certificates",
        "certificates": certificates,
        "rows": certificates.items,
        "filters": chosen,
        "chips": chosen.chips(asked.places),
        "form": FilterForm(chosen, asked.places, filters.keys(asked.listed)),
        "issuers": filters.issuers(asked.listed),
        "in_order": {sort or "expiry": chosen.sorted_by(sort) for sort in filters.ORDERS},
    }
    return render(request, "certificates/all.html", context)


@require_safe
def all_certificates_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The list as the same address shows it, whole."""
    asked = asked_by(request)
    rows = listing.all_rows(asked.found.order_by(*asked.filters.order), "environment__application")
    return download(listing.as_csv(rows, where=True), "certificates.csv")
