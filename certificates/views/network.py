"""The Network tab: certificates in their order, and pins."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from certificates import actions, listing
from certificates.dialects import dialect_of
from certificates.views.fetching import get_certificate, page
from environments.access import Right, get_environment, sentence_for


@require_safe
def network(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    listed, pins = listing.rows(environment)
    query = request.GET.get("q", "").strip()[:200]
    sendable = sum(1 for row in listed if row.certificate.enabled and row.version and row.version.sealed_id)
    may_change = Right.CERTIFICATES in environment.rights
    return page(
        request,
        "network",
        environment=environment,
        rows=listing.search(listed, query),
        total=len(listed),
        q=query,
        pins=pins,
        any_other=dialect_of(environment.runtime).words_for_any_other(sendable),
        may_change=may_change,
        who_may="" if may_change else sentence_for(Right.CERTIFICATES, environment),
    )


@require_safe
def certificates_csv(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    listed, _pins = listing.rows(environment)
    text = listing.as_csv(listing.search(listed, request.GET.get("q", "")[:200]))
    name = f"{app}-{env}-certificates.csv"
    # The mark at the front tells spreadsheets that it is UTF-8.
    return HttpResponse(
        text.encode("utf-8-sig"),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@require_POST
def certificate_move(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    to = request.POST.get("to", "")
    if to.isdecimal() and len(to) < 6:
        actions.move(certificate=certificate, to=int(to), by=request.user)
        certificate.refresh_from_db(fields=["position"])
        listed = certificate.environment.certificates.filter(removed_at=None)
        place = listed.filter(position__lte=certificate.position).count()
        messages.success(request, _("Moved %(name)s to position %(n)d.") % {"name": certificate, "n": place})
    # The arrow that was pressed takes the focus again (page.js).
    arrow = request.POST.get("arrow")
    anchor = arrow if arrow in ("up", "down") else "certificate"
    return redirect(f"{certificate.environment.url('network')}#{anchor}-{certificate.pk}")
