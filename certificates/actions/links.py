"""Links by which a partner sends the next version of one certificate: no account, one use, seven days.

The address has 256 random bits and our signature over them (HMAC-SHA-256 with SECRET_KEY). The database keeps only the
SHA-256 of the bits: who can read it can use no link, and who can write into it can make none. The signature also turns
away made-up addresses before any link is looked for.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import smtplib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.mail import EmailMessage
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.db.models import F, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates.actions import answers, drafts, sealing, slots
from certificates.diagnosis import Refusal
from certificates.intake import Upload
from certificates.models import ARRIVED, ClientCertificate, Draft, UploadLink
from environments.attempts import paused
from environments.models import Environment
from environments.names import checked_name
from environments.refusals import Refused

log = logging.getLogger(__name__)
LIVES = timedelta(days=7)
# How often files or passwords may be sent to one link.
TRIES = 20
# How long what came in waits for somebody who confirms or discards it.
WAITS = timedelta(days=14)
# A link that has ended is listed so long; the audit log tells of it for ever.
LISTED = timedelta(days=30)
LONGEST_REASON = 500


class Closed(Exception):
    """There is no such link, or none any more; or, `too_often`, whoever asks has to wait."""

    def __init__(self, *, too_often: bool = False) -> None:
        super().__init__("closed")
        self.too_often = too_often


def create_link(*, certificate: ClientCertificate, asked_by: str, about: str, by: Any) -> tuple[UploadLink, str]:
    """The link, and the last part of its address, which is kept nowhere. `asked_by` and `about` are what the partner
    reads of us."""
    asked_by, about = checked_name(asked_by, field="asked_by"), checked_name(about, field="about")
    random = secrets.token_urlsafe(32)
    with transaction.atomic():
        link = UploadLink.objects.create(
            mark=_mark_of(random),
            certificate=certificate,
            asked_by=asked_by,
            about=about,
            created_by=slots.called(by),
            expires_at=timezone.now() + LIVES,
        )
        _record("link.created", link, by, until=link.expires_at)
    return link, _signer().sign(random)


def mail_link(*, link: UploadLink, address: str, language: str, by: Any) -> None:
    """Sends the address to the contact at the partner, in this language. Raises Refused, and the link still holds."""
    to = link.certificate.contact_mail
    with translation.override(language):
        subject = render_to_string("partner/mail_subject.txt", {"link": link}).strip()
        body = render_to_string("partner/mail.txt", {"link": link, "address": address})
    try:
        EmailMessage(subject, body, to=[to]).send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("an upload link could not be mailed", exc_info=True)
        if isinstance(error, smtplib.SMTPException):
            raise Refused(_("The mail server did not take the mail; give the partner the link yourself.")) from None
        raise Refused(_("The mail server cannot be reached; give the partner the link yourself.")) from None
    with transaction.atomic():
        _record("link.mailed", link, by, to=to)


def withdraw(*, link: UploadLink, by: Any) -> None:
    """Nothing can be sent to it from now on."""
    with transaction.atomic():
        if not _end(open_links().filter(pk=link.pk), "withdrawn"):
            raise Refused(_("This link is not open any more."))
        _record("link.withdrawn", link, by)


# --- What a partner does ----------------------------------------------------------------------------------------------


def open_links() -> QuerySet[UploadLink]:
    """Those to which something can be sent now."""
    return UploadLink.objects.filter(
        ended_at=None,
        expires_at__gt=timezone.now(),
        certificate__removed_at=None,
        certificate__environment__archived_at=None,
        certificate__environment__application__archived_at=None,
    )


def open_link(*, token: str, by: Any) -> UploadLink:
    """The open link with this address. Raises Closed.

    Ten addresses within five minutes that are none, or none any more, and `by` waits as after wrong passwords.
    """
    if paused("link.refused", by):
        raise Closed(too_often=True)
    try:
        mark = _mark_of(_signer().unsign(token))
    except BadSignature:
        mark = ""
    known = UploadLink.objects.select_related("certificate__environment__application")
    link = known.filter(mark=mark).first() if mark else None
    if link is None or not open_links().filter(pk=link.pk).exists():
        if link is None:
            trail.refused("link.refused", by=by, subject=UploadLink(pk="", about=""))
        else:
            trail.refused("link.refused", by=by, subject=link.certificate, link=str(link.pk), end=link.ended_as)
        raise Closed
    return link


@contextmanager
def attempt(*, link: UploadLink, by: Any) -> Iterator[None]:
    """One of the link's tries, around whatever is done with what was sent. The last one that fails closes the link; one
    that fails because of us does not count. Raises Closed."""
    counted = open_links().filter(pk=link.pk, tries__lt=TRIES).update(tries=F("tries") + 1)
    if not counted:
        _close_if_spent(link, by)
        raise Closed
    try:
        yield
    except (Refusal, Refused) as error:
        if isinstance(error, sealing.VaultUnusable) or getattr(error, "code", "") == "busy":
            UploadLink.objects.filter(pk=link.pk).update(tries=F("tries") - 1)
        elif _close_if_spent(link, by):
            raise Closed from None
        raise


def _close_if_spent(link: UploadLink, by: Any) -> bool:
    with transaction.atomic():
        spent = _end(open_links().filter(pk=link.pk, tries__gte=TRIES), "limited")
        if spent:
            _record("link.limited", link, by, tries=TRIES)
    if spent:
        _forget_unread(link)
    return spent


@sensitive_variables("files")
def keep_from_link(*, link: UploadLink, files: Sequence[Upload], by: Any) -> Draft:
    """Seals what a partner sent, so that a wrong password does not need it to be sent again. Inside `attempt`. Raises
    Refusal or VaultUnusable."""
    draft = Draft(
        link=link,
        environment=link.environment,
        certificate=link.certificate,
        file_name=slots.visible(", ".join(file.name for file in files)),
        file_size=sum(len(file.content) for file in files),
        expires_at=timezone.now() + drafts.LIVES,
    )
    try:
        drafts.screen(draft, files)
    except Refusal as refusal:
        drafts.record_refusal(refusal, draft, by)
        raise
    # A partner who sends no key has forgotten it, unless it was made here and waits.
    draft.tracked = bool(answers.wanted_by(draft))
    drafts.save_draft(draft, files)
    return draft


def kept_by_link(*, link: UploadLink, draft_id: UUID | None) -> Draft | None:
    """What was sent to this link a moment ago and is not opened yet."""
    if draft_id is None:
        return None
    kept = link.drafts.select_related("sealed").filter(pk=draft_id, used_at=None, expires_at__gt=timezone.now())
    draft = kept.first()
    if draft is not None:
        draft.link, draft.certificate, draft.environment = link, link.certificate, link.environment
    return draft


@sensitive_variables("passwords", "identities")
def receive(*, link: UploadLink, draft: Draft, passwords: Sequence[str], by: Any) -> Draft:
    """Opens what was sent, keeps it sealed for whoever confirms it, and uses the link up. Inside `attempt`.

    Raises Refusal, VaultUnusable or AlreadyHere, and the link is as good as before; or Closed, where of two at once the
    other one was quicker. The passwords are kept nowhere.
    """
    here = Environment.objects.filter(pk=link.environment.pk)
    wanted = answers.wanted_by(draft)
    identities, choices = drafts.identities_in(draft, passwords, within=here, by=by)
    if draft.tracked and any(facts["spki_sha256"] not in wanted for facts in choices):
        refusal = Refusal("no_private_key", certificates=len(choices))
        drafts.record_refusal(refusal, draft, by)
        raise refusal

    def use_up() -> None:
        if not _end(open_links().filter(pk=link.pk), "used"):
            raise Closed
        _record("link.used", link, by, file=draft.file_name, sha256=[facts["sha256"] for facts in choices])

    try:
        drafts.replace_draft(draft, identities, choices, then=use_up, by=by, expires_at=timezone.now() + WAITS)
    except Refused:
        if not open_links().filter(pk=link.pk).exists():
            raise Closed from None
        raise
    _forget_unread(link)
    return draft


def _forget_unread(link: UploadLink) -> None:
    """What else was sent to it, and never opened."""
    for draft in link.drafts.select_related("sealed").filter(facts={}, choices__isnull=True):
        drafts.drop_draft(draft=draft, by=None)


# --- What came in -----------------------------------------------------------------------------------------------------


def arrived() -> QuerySet[Draft]:
    """What partners sent, and nobody has confirmed or discarded yet."""
    return Draft.objects.filter(ARRIVED, used_at=None, expires_at__gt=timezone.now())


def discard(*, draft: Draft, reason: str, by: Any) -> None:
    """Destroys what a partner sent."""
    reason = reason.strip()
    if not reason:
        raise Refused(_("Say why; it stands in the audit log."), field="reason")
    if len(reason) > LONGEST_REASON:
        raise Refused(_("Use at most %(n)d characters.") % {"n": LONGEST_REASON}, field="reason")

    def tell() -> None:
        trail.record("draft.discarded", by=by, subject=draft.certificate, file=draft.file_name, reason=reason)

    if not drafts.drop_draft(draft=draft, by=by, then=tell):
        raise Refused(_("Somebody confirmed or discarded it a moment ago."))


def tidy_links() -> None:
    """Closes links whose time is over, and forgets those that ended long ago."""
    for link in UploadLink.objects.filter(ended_at=None, expires_at__lte=timezone.now()).select_related("certificate"):
        with transaction.atomic():
            if _end(UploadLink.objects.filter(pk=link.pk, ended_at=None), "expired"):
                _record("link.expired", link, None)
        _forget_unread(link)
    UploadLink.objects.filter(ended_at__lt=timezone.now() - LISTED, drafts=None).delete()


def _end(links: QuerySet[UploadLink], how: str) -> bool:
    """Of two who end a link at once, one does."""
    return bool(links.update(ended_at=timezone.now(), ended_as=how))


def _record(action: str, link: UploadLink, by: Any, **details: Any) -> None:
    trail.record(action, by=by, subject=link.certificate, link=str(link.pk), **details)


def _signer() -> Signer:
    return Signer(sep=".", salt="certificates.upload-link")


def _mark_of(random: str) -> str:
    return hashlib.sha256(random.encode()).hexdigest()
