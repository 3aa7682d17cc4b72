"""The Network tab: certificates in their order, and pins; and the certificates of all environments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from certificates import actions, listing
from certificates.models import CertificateRequest, TrustedAuthority
from certificates.views.fetching import get_certificate, page
from environments.access import Right, get_environment, sentence_for, visible_environments
from environments.models import Environment


@require_safe
def network(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    query = request.GET.get("q", "").strip()[:200]
    certificates = listing.certificates_of(environment, query, listing.page_number(request.GET.get("page", "")))
    may_change = Right.CERTIFICATES in environment.rights
    return page(
        request,
        "network",
        environment=environment,
        certificates=certificates,
        rows=certificates.items,
        q=query,
        authorities=authorities_of(environment),
        waiting=waiting_in(environment) if not query else [],
        pins=listing.pins_of(environment, query, listing.page_number(request.GET.get("pins", ""))),
        may_change=may_change,
        comparable=has_another(request.user, environment),
        orders=may_change and not query and certificates.total > 1,
        who_may="" if may_change else sentence_for(Right.CERTIFICATES, environment),
    )


def has_another(person: Any, environment: Environment) -> bool:
    """Whether this person may see another environment of the same application, to compare this one with."""
    others = visible_environments(person).filter(application=environment.application_id, archived_at=None)
    return environment.archived_at is None and others.exclude(pk=environment.pk).exists()


def authorities_of(environment: Environment) -> list[TrustedAuthority]:
    """The trusted authorities, by name; without their certificates, which the list does not show."""
    listed = list(environment.authorities.filter(removed_at=None).defer("certificate"))
    for authority in listed:
        authority.environment = environment
    return listed


def waiting_in(environment: Environment) -> list[CertificateRequest]:
    """The keys that wait for a certificate; without their requests, which the list does not show."""
    listed = list(actions.waiting(environment).defer("request"))
    for one in listed:
        one.environment = environment
    return listed


@require_safe
def certificates_csv(request: HttpRequest, app: str, env: str) -> StreamingHttpResponse:
    environment = get_environment(request.user, app, env)
    listed = environment.certificates.filter(removed_at=None).order_by("position", "created_at")
    if query := request.GET.get("q", "").strip()[:200]:
        listed = listing.search(listed, query, within=Q(certificate__environment=environment))
    return download(listing.as_csv(listing.all_rows(listed)), f"{app}-{env}-certificates.csv")


def download(parts: Iterator[bytes], name: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(parts, content_type="text/csv; charset=utf-8", headers=headers)


@require_POST
def certificate_move(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    # By which arrow; the same takes the focus again (page.js).
    arrow = next((arrow for arrow in ("up", "down") if arrow in request.POST), "")
    to, number = request.POST.get(arrow or "to", ""), 1
    if to.isdecimal() and len(to) < 6:
        actions.move(certificate=certificate, to=int(to), by=request.user)
        certificate.refresh_from_db(fields=["position"])
        listed = certificate.environment.certificates.filter(removed_at=None)
        place = listed.filter(position__lte=certificate.position).count()
        number = -(-place // listing.A_PAGE)
        messages.success(request, _("Moved %(name)s to position %(n)d.") % {"name": certificate, "n": place})
    anchor = arrow or "certificate"
    turned = f"?page={number}" if number > 1 else ""
    return redirect(f"{certificate.environment.url('network')}{turned}#{anchor}-{certificate.pk}")
