"""Asking a partner for the next certificate, and what came of it."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from certificates import actions
from certificates.forms import AskForm, DiscardForm
from certificates.models import ClientCertificate, UploadLink
from certificates.views.fetching import get_certificate, page, posted
from environments.access import Right, get_environment
from environments.forms import refused
from environments.refusals import Refused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@get_or_post
def certificate_ask(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Makes a link and shows it in the answer itself, and never again: a redirect would have to keep it somewhere."""
    certificate = get_certificate(request.user, app, env, pk)
    before = UploadLink.objects.filter(
        certificate__environment__application=certificate.environment.application
    ).first()
    may_mail = settings.MAILS and bool(settings.ADDRESS)
    form = AskForm(certificate, posted(request), asked_by=before.asked_by if before else "", may_mail=may_mail)
    if form.is_bound and form.is_valid():
        try:
            return _link_once(request, certificate, form)
        except Refused as error:
            refused(form, error)
    return page(
        request,
        "ask",
        status=422 if form.is_bound else 200,
        environment=certificate.environment,
        certificate=certificate,
        form=form,
        wants_address=may_mail and not certificate.contact_mail,
    )


@sensitive_variables("token", "address")
def _link_once(request: HttpRequest, certificate: ClientCertificate, form: AskForm) -> HttpResponse:
    given = form.cleaned_data
    link, token = actions.create_link(
        certificate=certificate, asked_by=given["asked_by"], about=given["about"], by=request.user
    )
    path = reverse("partner", args=[token, given["language"]])
    address = f"{settings.ADDRESS}{path}" if settings.ADDRESS else request.build_absolute_uri(path)
    mailed, not_mailed = "", ""
    if given.get("mail"):
        try:
            actions.mail_link(link=link, address=address, language=given["language"], by=request.user)
            mailed = certificate.contact_mail
        except Refused as error:
            not_mailed = str(error)
    response = page(
        request,
        "link_once",
        environment=certificate.environment,
        certificate=certificate,
        link=link,
        address=address,
        mailed=mailed,
        not_mailed=not_mailed,
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@require_POST
def link_withdraw(request: HttpRequest, app: str, env: str, pk: UUID, link: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    found = get_object_or_404(certificate.upload_links.all(), pk=link)
    found.certificate = certificate
    try:
        actions.withdraw(link=found, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("Withdrawn. Nobody can send anything to this link any more."))
    return redirect(certificate)


@get_or_post
def draft_discard(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Destroys what a partner sent; nobody else's upload can be reached here."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    draft = get_object_or_404(actions.arrived().select_related("certificate", "sealed"), pk=pk, environment=environment)
    draft.environment = environment
    assert draft.certificate is not None
    draft.certificate.environment = environment
    form = DiscardForm(posted(request))
    if form.is_bound and form.is_valid():
        try:
            actions.discard(draft=draft, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            words = _("Discarded. Its key is destroyed; ask the partner anew if you still need one.")
            if draft.request_id:
                words = _("Discarded. The key that was made here waits on for its certificate.")
            messages.success(request, words)
            return redirect(draft.certificate)
    context = {"environment": environment, "certificate": draft.certificate, "draft": draft, "form": form}
    return page(request, "discard", status=422 if form.is_bound else 200, **context)
