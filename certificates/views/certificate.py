"""One certificate: its page, and what can be done to it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import actions, listing
from certificates.activity import activity
from certificates.compromised import CompromisedKey, look_up
from certificates.dialects import dialect_of
from certificates.forms import DescribeForm, PlacesForm
from certificates.models import ClientCertificate, Incident, Renewal, Version
from certificates.renewals import behind
from certificates.views.fetching import get_certificate, page, posted
from certificates.views.network import waiting_in
from environments.access import Right, sentence_for, visible_environments
from environments.forms import refused
from environments.refusals import Refused

# The newest; the audit log has all.
LINKS_SHOWN = 5
get_or_post = require_http_methods(["GET", "HEAD", "POST"])

RENEWALS_SHOWN = 3


@require_safe
def certificate(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    shown = get_certificate(request.user, app, env, pk, to=Right.VIEW)
    environment, version = shown.environment, shown.in_use
    pins, versions = list(shown.pins.all()), list(shown.versions.all())
    others = environment.certificates.filter(removed_at=None)
    may_change = Right.CERTIFICATES in environment.rights and shown.removed_at is None
    newest, left_behind = behind(request.user, shown, versions) if may_change else (None, None)
    compromised = look_up([*([version] if version else []), *versions])
    shown.compromised = bool(version and version.key_is_compromised)  # type: ignore[attr-defined]
    return page(
        request,
        "certificate",
        environment=environment,
        certificate=shown,
        version=version,
        versions=versions,
        pins=pins,
        position=others.filter(position__lte=shown.position).count(),
        total=others.count(),
        warnings=listing.warned(version) if version else [],
        incident=Incident.of_keys([one.spki_sha256 for one in compromised[:1]]).first() if compromised else None,
        has_key=any(one.sealed_id for one in versions),
        renewals=list(Renewal.objects.filter(versions__certificate=shown)[:RENEWALS_SHOWN]),
        newest=newest,
        left_behind=left_behind,
        elsewhere=_elsewhere(request, shown, version) if version else [],
        activity=activity(shown),
        waiting=[one for one in waiting_in(environment) if one.certificate_id == shown.pk],
        arrived=list(actions.arrived().filter(certificate=shown).order_by("-created_at")) if may_change else [],
        links=list(shown.upload_links.all()[:LINKS_SHOWN]),
        may_change=may_change,
        who_may="" if may_change else sentence_for(Right.CERTIFICATES, environment),
    )


def _elsewhere(request: HttpRequest, shown: ClientCertificate, version: Version) -> list[ClientCertificate]:
    """Other certificates that this person may see and that use the same file, at most twenty."""
    found = ClientCertificate.objects.filter(
        in_use__sha256=version.sha256, removed_at=None, environment__in=visible_environments(request.user)
    ).exclude(pk=shown.pk)
    return list(
        found.select_related("environment__application").order_by("environment__application__name", "name")[:20]
    )


@get_or_post
def certificate_elsewhere(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Brings the newest version to the places that still use its predecessors."""
    shown = get_certificate(request.user, app, env, pk)
    version, elsewhere = behind(request.user, shown, list(shown.versions.select_related("sealed")))
    if version is None or not elsewhere:
        messages.info(request, _("No other place uses what was replaced here."))
        return redirect(shown)
    version.certificate = shown
    form = PlacesForm(elsewhere.places, posted(request))
    if form.is_bound and not form.is_only_set and form.is_valid():
        try:
            confirmed = form.cleaned_data.get("confirmed", False)
            made = actions.replace_elsewhere(version=version, places=form.chosen, confirmed=confirmed, by=request.user)
        except Refused as error:
            refused(form, error)
        else:
            return redirect(made)
    context = {"environment": shown.environment, "certificate": shown, "version": version, "elsewhere": elsewhere}
    status = 422 if form.is_bound and not form.is_only_set else 200
    return page(request, "elsewhere", status=status, form=form, **context)


@get_or_post
def certificate_rename(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    form = DescribeForm(certificate, posted(request))
    if form.is_bound and form.is_valid():
        try:
            actions.edit(certificate=certificate, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
            certificate.refresh_from_db(fields=["name"])
        else:
            messages.success(request, _("Saved. What runs does not change."))
            return redirect(certificate)
    context = {"environment": certificate.environment, "certificate": certificate, "form": form}
    return page(request, "describe", status=422 if form.is_bound else 200, **context)


@require_POST
def certificate_switch(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    pins = certificate.pins.count()
    if request.POST.get("enabled") == "yes":
        despite = request.POST.get("despite", "")
        try:
            actions.enable(certificate=certificate, despite=despite, by=request.user)
        except CompromisedKey as error:
            return _ask_why(request, certificate, error)
        messages.success(request, _("Enabled %(name)s. It is not running yet.") % {"name": certificate})
    else:
        actions.disable(certificate=certificate, by=request.user)
        words = ngettext(
            "Disabled %(name)s. The next apply leaves it and its pin out.",
            "Disabled %(name)s. The next apply leaves it and its %(n)d pins out.",
            pins,
        )
        messages.success(
            request,
            (words if pins else _("Disabled %(name)s. The next apply leaves it out."))
            % {"name": certificate, "n": pins},
        )
    return redirect(certificate)


@require_POST
def version_use(request: HttpRequest, app: str, env: str, pk: UUID, number: int) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    version: Version = get_object_or_404(certificate.versions, number=number)
    version.certificate = certificate
    try:
        actions.use_version(version=version, despite=request.POST.get("despite", ""), by=request.user)
    except CompromisedKey as error:
        return _ask_why(request, certificate, error)
    except Refused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("Version %(n)d goes with the next apply.") % {"n": version.number})
    return redirect(certificate)


def _ask_why(request: HttpRequest, certificate: ClientCertificate, error: CompromisedKey) -> HttpResponse:
    """The same once more, with why a compromised key has to be used; answers to the address that was posted to."""
    context = {"environment": certificate.environment, "certificate": certificate, "sentence": str(error)}
    return page(request, "insist", status=422, enabled=request.POST.get("enabled", ""), **context)


@get_or_post
def certificate_remove(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    sentence = ""
    if request.method == "POST":
        try:
            actions.remove(certificate=certificate, by=request.user)
        except Refused as error:
            sentence = str(error)
        else:
            messages.success(request, _("Removed %(name)s. The next apply takes it out.") % {"name": certificate})
            return redirect("network", app, env)
    return page(
        request,
        "remove",
        status=422 if sentence else 200,
        environment=certificate.environment,
        certificate=certificate,
        pins=list(certificate.pins.all()),
        sentence=sentence,
        order_matters=dialect_of(certificate.environment.runtime).order_matters,
    )
