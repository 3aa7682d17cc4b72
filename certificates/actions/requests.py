"""Asking for a certificate whose private key is made here and never leaves: made, mailed, withdrawn, expired.

The answer comes as a draft like any other upload (`answers`).
"""

from __future__ import annotations

import smtplib
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates import pkcs10
from certificates.actions import sealing
from certificates.actions.slots import called
from certificates.facts import Parts
from certificates.models import CertificateRequest, ClientCertificate, Version
from environments.models import Environment
from environments.names import checked_name
from environments.refusals import Refused
from vault import safe
from vault.models import SealedObject
from vault.transactions import refuse_inside_transaction

LIVES: Final = timedelta(days=90)
# In one environment, so that making keys does not become somebody's pastime.
MOST: Final = 50


def waiting(environment: Environment) -> QuerySet[CertificateRequest]:
    """Those whose keys wait for a certificate, the oldest first."""
    return CertificateRequest.objects.filter(environment=environment, ending="", expires_at__gt=timezone.now())


def subject_of(version: Version | None) -> Parts:
    """The subject of a version, part by part."""
    if version is None:
        return ()
    parts: Parts = version.subject_parts
    return parts or pkcs10.parts_of(version.subject)


@sensitive_variables("made")
def request_certificate(
    *,
    environment: Environment,
    certificate: ClientCertificate | None = None,
    name: str = "",
    subject: str,
    names: str,
    key: str,
    by: Any,
) -> CertificateRequest:
    """Makes a key of this kind (of pkcs10.KEYS) and the request for its certificate: the next version of
    `certificate`, or a new one with this name. `subject` and `names` are typed one a line; a part of the subject that
    the version in use has, too, keeps its string type.

    Raises Refused, VaultUnusable.
    """
    title = certificate.name if certificate else checked_name(name)
    if certificate is None and environment.certificates.filter(name__iexact=title, removed_at=None).exists():
        raise Refused(
            _("There is already a certificate “%(name)s” here; choose another name, or request a new one on its page.")
            % {"name": title},
            field="name",
        )
    if waiting(environment).count() >= MOST:
        raise Refused(_("%(n)d keys wait here already; withdraw those that nobody will answer.") % {"n": MOST})
    try:
        like = subject_of(certificate.in_use if certificate else None)
        made = pkcs10.make(key, pkcs10.subject_from(subject, like), pkcs10.names_from(names))
    except pkcs10.RequestError as error:
        raise Refused(str(error), field=error.field) from None
    sealed = sealing.put(made.key, environment=environment, field="request")
    with safe.kept(sealed), transaction.atomic():
        sealed.save()
        request = CertificateRequest.objects.create(
            environment=environment,
            certificate=certificate,
            name=title,
            sealed=sealed,
            request=made.request,
            subject=made.subject,
            names=list(made.names),
            kind=key,
            spki_sha256=made.spki_sha256,
            created_by=called(by),
            expires_at=timezone.now() + LIVES,
        )
        trail.record(
            "request.created", by=by, subject=request, kind=key, certificate=certificate and certificate.slug,
            names=request.names, spki_sha256=request.spki_sha256,
        )  # fmt: skip
    return request


def file_name(request: CertificateRequest) -> str:
    return f"{slugify(request.name)[:60] or 'certificate'}.csr"


def letter(request: CertificateRequest, by: Any) -> str:
    """What is written to the partner, as a start."""
    return _(
        "Hello,\n\n"
        "please issue a client certificate for the attached request.\n\n"
        "For: %(name)s\n"
        "Subject: %(subject)s\n"
        "SHA-256 of its public key: %(key)s\n\n"
        "Please send back the certificate with the issuers above it: as .p7b, or as .cer or .pem. It holds nothing"
        " secret and needs no password; the private key was made here and stays here.\n\n"
        "We wait for it until %(day)s.\n\n"
        "Thank you.\n%(who)s\n"
    ) % {
        "name": request.name,
        "subject": request.subject,
        "key": request.spki_sha256,
        "day": date_format(timezone.localtime(request.expires_at), "j F Y"),
        "who": called(by),
    }


def mail_request(*, request: CertificateRequest, to: str, message: str, by: Any) -> None:
    """Sends the request to the partner. Raises Refused where the mail server does not take it; that is recorded, too.

    The answer goes to the address of whoever sends it, where that is known.
    """
    refuse_inside_transaction("The mail server")
    if not settings.MAILS:
        raise Refused(_("This portal has no mail server; download the request and send it yourself."))
    _insist(request)
    reply_to = [by.email] if getattr(by, "email", "") else None
    subject = _("Certificate request: %(name)s") % {"name": request.name}
    sent = EmailMessage(subject, message, to=[to], reply_to=reply_to)
    sent.attach(file_name(request), pkcs10.text_of(bytes(request.request)), "application/pkcs10")
    try:
        sent.send()
    except (OSError, smtplib.SMTPException) as error:
        reason = _why_not(error)
        trail.refused("request.mailed", by=by, subject=request, to=to, failure=reason)
        sentence = _("Nothing was sent: %(reason)s. The request waits as before; try again, or download it.")
        raise Refused(sentence % {"reason": reason}, field="to") from None
    with transaction.atomic():
        request.mailed_at, request.mailed_to = timezone.now(), to
        request.save(update_fields=["mailed_at", "mailed_to"])
        trail.record("request.mailed", by=by, subject=request, to=to)


def _why_not(error: OSError | smtplib.SMTPException) -> str:
    """Without the error's own text, which may hold what the server was told."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return _("the mail server does not take mails to this address")
        case smtplib.SMTPAuthenticationError():
            return _("the mail server does not let this portal in")
        case smtplib.SMTPResponseException():
            return _("the mail server refused it (%(code)s)") % {"code": error.smtp_code}
    return _("the mail server cannot be reached")


def withdraw_request(*, request: CertificateRequest, by: Any) -> None:
    """Destroys its key: a certificate that is issued for it can be used by nobody."""
    _end(request, "withdrawn", by)


def tidy_requests() -> int:
    """Destroys the keys that waited too long; returns how many."""
    expired = CertificateRequest.objects.filter(ending="", expires_at__lte=timezone.now())
    ended = 0
    for request in expired.select_related("sealed", "environment__application"):
        try:
            _end(request, "expired", None)
        except Refused:
            continue  # it ended at the same moment in another way
        ended += 1
    return ended


def _end(request: CertificateRequest, ending: str, by: Any) -> None:
    with transaction.atomic():
        sealed = end(request, ending, by=by)
        trail.record(f"request.{ending}", by=by, subject=request, spki_sha256=request.spki_sha256)
    sealing.forget(sealed)


def end(request: CertificateRequest, ending: str, *, version: Version | None = None, by: Any) -> SealedObject:
    """Inside the caller's transaction: of two who end it at once, one is Refused. Returns the key, whose row is gone
    and whose file is to be forgotten after the commit."""
    rows = CertificateRequest.objects.filter(pk=request.pk, ending="")
    if ending != "expired":
        rows = rows.filter(expires_at__gt=timezone.now())
    now = timezone.now()
    ended = {"ending": ending, "ended_at": now, "ended_by": called(by), "version": version, "sealed": None}
    sealed = request.sealed
    if not rows.update(**ended) or sealed is None:
        raise Refused(became(CertificateRequest.objects.get(pk=request.pk)))
    SealedObject.objects.filter(pk=sealed.pk).delete()
    for column, value in ended.items():
        setattr(request, column, value)
    return sealed


def _insist(request: CertificateRequest) -> None:
    if not request.waits:
        raise Refused(became(request))


def became(request: CertificateRequest) -> str:
    """Why nothing can be done with a request any more."""
    words = {"name": request.name, "who": request.ended_by}
    words["day"] = date_format(timezone.localtime(request.ended_at or request.expires_at), "j F Y")
    match request.ending:
        case "answered":
            return _("The request for “%(name)s” was answered on %(day)s.") % words
        case "withdrawn":
            return (
                _("The request for “%(name)s” was withdrawn by %(who)s, and its key is gone; make a new one.") % words
            )
    return _("The request for “%(name)s” expired on %(day)s, and its key is gone; make a new one.") % words
