"""A key is compromised: said on a certificate's page, then one page of all that is to be done."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import actions as certificates
from certificates.models import Incident
from certificates.views.fetching import get_certificate, posted
from environments.access import Right, get_environment
from environments.forms import refused
from environments.refusals import Refused
from rollouts import actions
from rollouts.forms import CloseForm, CompromisedForm
from rollouts.incidents import Course, course


@require_http_methods(["GET", "HEAD", "POST"])
def compromised(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Saying so; also of a certificate that was removed, which may still run."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    certificate = get_object_or_404(environment.certificates.select_related("in_use"), pk=pk)
    certificate.environment = environment
    versions = list(certificate.versions.filter(sealed__isnull=False))
    form = CompromisedForm(versions, certificate.in_use_id, posted(request))
    if form.is_bound and form.is_valid():
        version = next(one for one in versions if str(one.number) == form.cleaned_data["version"])
        try:
            incident = actions.open_incident(
                certificate=certificate, version=version, reason=form.cleaned_data["reason"], by=request.user
            )
        except Refused as error:
            refused(form, error)
        else:
            return redirect(incident)
    context = {"environment": environment, "certificate": certificate, "form": form, "versions": versions}
    status = 422 if form.is_bound else 200
    return render(request, "rollouts/compromised.html", {"section": "applications", **context}, status=status)


def _course(request: HttpRequest, pk: UUID) -> Course:
    """As far as this person may see; a stranger gets 404."""
    found = get_object_or_404(Incident.objects.select_related("certificate__environment__application"), pk=pk)
    told = course(found, request.user)
    if told is None:
        raise Http404
    return told


def _page(request: HttpRequest, told: Course, form: CloseForm | None = None) -> HttpResponse:
    context: dict[str, Any] = {"section": "certificates", "course": told, "form": form or CloseForm()}
    status = 422 if form is not None else 200
    return render(request, "rollouts/incident.html", context, status=status)


@require_safe
def incident(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _page(request, _course(request, pk))


@require_safe
def places(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Polled while something is under way in one of them."""
    told = _course(request, pk)
    context = {"course": told, "polled": True}
    return render(request, "rollouts/incident_places.html", context, status=200 if told.under_way else 286)


@require_POST
def take_out(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Disables a certificate that has the key, or uses the version with another key that waits."""
    told = _course(request, pk)
    place = next((one for one in told.places if str(one.certificate.pk) == request.POST.get("certificate")), None)
    if place is None:
        raise Http404
    where = place.row.environment
    certificate = get_certificate(request.user, where.application.slug, where.slug, place.certificate.pk)
    try:
        if "use" in request.POST:
            if place.instead is None:
                raise Refused(_("There is no version with another key here; upload a renewal, or disable it."))
            certificates.use_version(version=place.instead, by=request.user)
            said = _("%(name)s: version %(n)d goes with the next apply.")
            messages.success(request, said % {"name": certificate, "n": place.instead.number})
        else:
            certificates.disable(certificate=certificate, by=request.user)
            messages.success(request, _("Disabled %(name)s. The next apply leaves it out.") % {"name": certificate})
    except Refused as error:
        messages.error(request, str(error))
    return redirect(told.incident)


@require_POST
def announce(request: HttpRequest, pk: UUID) -> HttpResponse:
    told = _course(request, pk)
    kind = request.POST.get("kind", "")
    one = next((one for one in told.concerned if one.version.sha256 == request.POST.get("sha256")), None)
    if one is None or kind not in actions.ANNOUNCEMENTS:
        raise Http404
    if not one.may_change:
        where = one.slot.environment
        get_environment(request.user, where.application.slug, where.slug, to=Right.CERTIFICATES)
    try:
        actions.announce(
            incident=told.incident, kind=kind, version=one.version, certificate=one.slot,
            note=request.POST.get("note", ""), by=request.user,
        )  # fmt: skip
    except Refused as error:
        messages.error(request, str(error))
    return redirect(f"{told.incident.get_absolute_url()}#{kind}")


@require_POST
def close(request: HttpRequest, pk: UUID) -> HttpResponse:
    told = _course(request, pk)
    if not told.known:
        raise Http404
    if not told.may_close:
        where = told.incident.environment
        get_environment(request.user, where.application.slug, where.slug, to=Right.CERTIFICATES)
    form = CloseForm(request.POST)
    if form.is_valid():
        end = actions.withdraw_incident if request.POST.get("false_alarm") else actions.close_incident
        try:
            end(incident=told.incident, note=form.cleaned_data["note"], by=request.user)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Closed."))
            return redirect(told.incident)
    return _page(request, told, form)
