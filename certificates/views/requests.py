"""Asking for a certificate whose key is made here: the request, its way to the partner, and the answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import actions, pkcs10
from certificates.actions.requests import became, file_name
from certificates.diagnosis import Refusal
from certificates.forms import AnswerForm, MailForm, RequestForm
from certificates.models import CertificateRequest, ClientCertificate
from certificates.views.fetching import get_certificate, get_request, page, posted
from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused

# What a partner can run on the file that they got.
CHECK = (
    "openssl req -in {file} -noout -text -verify\n"
    "openssl req -in {file} -noout -pubkey | openssl pkey -pubin -outform DER | openssl sha256"
)
get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@get_or_post
def request_new(request: HttpRequest, app: str, env: str) -> HttpResponse:
    return _ask(request, get_environment(request.user, app, env, to=Right.CERTIFICATES), None)


@get_or_post
def request_renewal(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    return _ask(request, certificate.environment, certificate)


def _ask(request: HttpRequest, environment: Environment, certificate: ClientCertificate | None) -> HttpResponse:
    form = RequestForm(certificate, posted(request))
    if form.is_bound and form.is_valid():
        try:
            asked = actions.request_certificate(
                environment=environment, certificate=certificate, by=request.user, **form.cleaned_data
            )
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("The key is made and waits here. Send the request to the partner."))
            return redirect(asked)
    waiting = actions.waiting(environment).filter(certificate=certificate) if certificate else []
    context = {"environment": environment, "certificate": certificate, "form": form, "waiting": waiting}
    return page(request, "request_new", status=422 if form.is_bound else 200, **context)


@get_or_post
def request_page(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """The request, to look at and to take along; its certificate is given back here."""
    to = Right.CERTIFICATES if request.method == "POST" else Right.VIEW
    asked = get_request(request.user, app, env, pk, to=to)
    if request.method == "POST" and not asked.waits:
        return _too_late(request, asked)
    form = AnswerForm(posted(request), request.FILES or None)
    if form.is_bound and form.is_valid():
        try:
            draft = actions.give_back(
                request=asked,
                files=form.cleaned_data["file"],
                session_key=request.session.session_key or "",
                by=request.user,
            )
        except (Refused, Refusal) as error:
            form.add_error("file", str(error))
        else:
            return redirect(asked.environment.url("draft", draft.pk))
    return _shown(request, asked, answer=form, status=422 if form.is_bound else 200)


def _too_late(request: HttpRequest, asked: CertificateRequest) -> HttpResponse:
    """Of a page that is older than the end of the request."""
    messages.error(request, became(asked))
    return redirect(asked)


def _shown(request: HttpRequest, asked: CertificateRequest, *, status: int = 200, **forms: Any) -> HttpResponse:
    environment = asked.environment
    may_change = Right.CERTIFICATES in environment.rights
    certificate = asked.certificate
    address = asked.mailed_to or (certificate.contact_mail if certificate else "")
    mail = MailForm(initial={"to": address, "message": actions.letter(asked, request.user)})
    return page(
        request,
        "request",
        status=status,
        environment=environment,
        asked=asked,
        pem=pkcs10.text_of(bytes(asked.request)),
        file_name=file_name(asked),
        check=CHECK.format(file=file_name(asked)),
        answered=answered_by(asked),
        may_change=may_change and asked.waits,
        who_may="" if may_change else sentence_for(Right.CERTIFICATES, environment),
        mails=settings.MAILS,
        **{"answer": AnswerForm(), "mail": mail} | forms,
    )


def answered_by(asked: CertificateRequest) -> ClientCertificate | None:
    """The new certificate that a request became."""
    if asked.version is None:
        return None
    certificate = asked.version.certificate
    certificate.environment = asked.environment
    return certificate


@require_safe
def request_download(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    asked = get_request(request.user, app, env, pk, to=Right.VIEW)
    if not asked.waits:
        return _too_late(request, asked)
    headers = {"Content-Disposition": f'attachment; filename="{file_name(asked)}"'}
    return HttpResponse(pkcs10.text_of(bytes(asked.request)), content_type="application/pkcs10", headers=headers)


@require_POST
def request_mail(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    asked = get_request(request.user, app, env, pk)
    if not asked.waits:
        return _too_late(request, asked)
    form = MailForm(request.POST)
    if form.is_valid():
        try:
            actions.mail_request(request=asked, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Mailed to %(to)s.") % {"to": asked.mailed_to})
            return redirect(asked)
    return _shown(request, asked, mail=form, status=422)


@get_or_post
def request_withdraw(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    asked = get_request(request.user, app, env, pk)
    if not asked.waits:
        return _too_late(request, asked)
    if request.method == "POST":
        try:
            actions.withdraw_request(request=asked, by=request.user)
        except Refused as error:
            messages.error(request, str(error))
            return redirect(asked)
        messages.success(request, _("Withdrew the request for %(name)s; its key is gone.") % {"name": asked})
        return redirect("network", app, env)
    return page(request, "request_withdraw", environment=asked.environment, asked=asked)
