"""Pages of what reaches further than one environment: a certificate, a key, an issuer, a person. Each has its CSV."""

from __future__ import annotations

import re
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from certificates.models import Incident, Version
from certificates.views.network import download
from environments.models import Membership, Person
from environments.views import Member, installation_owners
from rollouts import reach
from rollouts.reach import Reach

# Rows of a page; the list for a spreadsheet has all.
ROWS_SHOWN = 200


def _page(request: HttpRequest, found: Reach, file: str, **context: Any) -> HttpResponseBase:
    """The page; or, where the address ends in `.csv`, its list."""
    if request.path.endswith(".csv"):
        return download(reach.as_csv(found), f"{file}.csv")
    rows, more = found.rows[:ROWS_SHOWN], max(0, len(found.rows) - ROWS_SHOWN)
    query = f"?{request.GET.urlencode()}" if request.GET else ""
    csv = f"{request.path.removesuffix('/')}.csv{query}"
    context = {"section": "certificates", "reach": found, "rows": rows, "more": more, "csv": csv, **context}
    return render(request, "rollouts/reach.html", context)


def _found(request: HttpRequest, mark: str, of: Q) -> tuple[Reach, Version]:
    """What it is about, by one of its versions; a stranger gets 404, and so does who made the mark up."""
    found = reach.reach(request.user, of) if re.fullmatch(r"[0-9a-f]{64}", mark) else Reach()
    if not found.rows:
        raise Http404
    return found, found.rows[0].ends


@require_safe
def certificate(request: HttpRequest, sha256: str) -> HttpResponseBase:
    found, version = _found(request, sha256, reach.of_certificate(sha256))
    return _page(
        request, found, f"certificate-{sha256[:12]}", version=version, of="certificate", incident=_incident(found)
    )


@require_safe
def key(request: HttpRequest, spki: str) -> HttpResponseBase:
    found, version = _found(request, spki, reach.of_key(spki))
    return _page(request, found, f"key-{spki[:12]}", version=version, of="key", incident=_incident(found))


def _incident(found: Reach) -> Incident | None:
    """About the key that all of these have, where it is here at all."""
    keys = {version.spki_sha256 for version in found.versions if version.has_key}
    return Incident.of_keys(keys).first() if keys else None


@require_safe
def issuer(request: HttpRequest) -> HttpResponseBase:
    name = request.GET.get("name", "")
    found = reach.of_issuer(request.user, name) if name else Reach()
    if not found.rows:
        raise Http404
    return _page(request, found, "issuer", of="issuer", name=name)


@require_safe
@installation_owners
def person(request: HttpRequest, pk: int) -> HttpResponseBase:
    who = get_object_or_404(Person, pk=pk)
    memberships = Membership.objects.filter(person=who, application__archived_at=None).order_by("application__name")
    return _page(
        request,
        reach.of_person(request.user, who),
        f"{who.username}-depends",
        section="people",
        of="person",
        person=who,
        members=[Member(one) for one in memberships.select_related("application", "environment__application")],
    )
