"""A file between its upload and its confirmation (DESIGN: the way of one .pfx)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates import intake, one_shot
from certificates.actions import slots
from certificates.diagnosis import Refusal
from certificates.identities import Identity, pack, unpack
from certificates.intake import Upload
from certificates.models import ClientCertificate, Draft, Version
from certificates.question import Question
from environments.models import Environment
from environments.refusals import Refused
from vault import safe
from vault.errors import VaultError
from vault.models import SealedObject

LIVES = timedelta(minutes=15)


class VaultUnusable(Refused):
    """The vault could not seal or open an upload: a matter for whoever runs the server. The upload itself stays."""

    def __init__(self, error: VaultError) -> None:
        super().__init__(str(error), field="file")


def session_mark(session_key: str) -> str:
    return hashlib.sha256(session_key.encode()).hexdigest()


@sensitive_variables("files")
def keep_draft(
    *,
    environment: Environment,
    certificate: ClientCertificate | None,
    files: Sequence[Upload],
    session_key: str,
    by: Any,
) -> Draft:
    """Seals what was uploaded for one certificate, so that a wrong password or a preview does not need it to be sent
    again.

    Raises Refusal (certificates.diagnosis) for files that no password could open, VaultUnusable where nothing can be
    sealed.
    """
    file_name = ", ".join(file.name for file in files)
    try:
        intake.screen(files)
    except Refusal as refusal:
        _record_refusal(refusal, environment, file_name, by)
        raise
    try:
        sealed = safe.put(Question(tuple(files), ()).pack(), environment_id=environment.pk, field="draft")
    except VaultError as error:
        raise VaultUnusable(error) from None
    try:
        with transaction.atomic():
            sealed.save()
            return Draft.objects.create(
                person=by,
                session=session_mark(session_key),
                environment=environment,
                certificate=certificate,
                sealed=sealed,
                file_name=slots.visible(file_name),
                file_size=sum(len(file.content) for file in files),
                expires_at=timezone.now() + LIVES,
            )
    except BaseException:
        _forget(sealed)
        raise


def open_draft(*, draft_id: Any, environment: Environment, session_key: str, by: Any) -> Draft:
    """The draft, for the person, session and environment that it is bound to, while it lives."""
    draft = (
        Draft.objects.select_related("sealed", "certificate", "environment")
        .filter(pk=draft_id, person=by, session=session_mark(session_key), environment=environment)
        .first()
    )
    if draft is None or draft.used_at is not None or draft.expires_at <= timezone.now():
        raise Refused(_("This upload has expired or was already confirmed; choose the file again."), field="file")
    return draft


@sensitive_variables()
def read_draft(*, draft: Draft, passwords: Sequence[str], by: Any) -> Draft:
    """Opens the files with these passwords, in a child process; keeps what was read, sealed, in the files' place.

    Raises Refusal or VaultUnusable, which leave the draft as it was, or Refused for a renewal that is already here. The
    passwords are kept nowhere.
    """
    kept = _opened(draft)
    try:
        reading = one_shot.read(Question(_files(kept, draft), tuple(passwords)))
    except Refusal as refusal:
        _record_refusal(refusal, draft.environment, draft.file_name, by)
        raise
    choices = [slots.columns(identity, remarks) for identity, remarks in reading.identities]
    return _replace(draft, [identity for identity, _remarks in reading.identities], choices)


@sensitive_variables()
def choose_in_draft(*, draft: Draft, sha256: str, by: Any) -> Draft:
    """Keeps the one identity whose certificate has this fingerprint, of several that the files hold."""
    for number, facts in enumerate(draft.choices or ()):
        if facts["sha256"] == sha256:
            return _replace(draft, [unpack(_opened(draft).split(b"\n")[number])], [facts])
    raise Refused(_("Choose one of the certificates."), field="sha256")


def _opened(draft: Draft) -> bytes:
    try:
        return safe.open_sealed(draft.sealed, record=lambda _sealed: None)
    except VaultError as error:
        raise VaultUnusable(error) from None


def _files(kept: bytes, draft: Draft) -> tuple[Upload, ...]:
    try:
        return Question.unpack(kept).files
    except (ValueError, KeyError, TypeError):
        return (Upload(draft.file_name, kept),)  # as 0.1.0 kept it


def _replace(draft: Draft, identities: list[Identity], choices: list[dict[str, Any]]) -> Draft:
    """These identities instead of what the draft has; the facts are those of the only one, or wait for a choice."""
    facts = choices[0] if len(choices) == 1 else {}
    if draft.certificate is not None and facts:
        slots.refuse_known_version(draft.certificate, facts)
    field = "identity" if facts else "draft"
    packed = b"\n".join(pack(identity) for identity in identities)
    try:
        before, sealed = draft.sealed, safe.put(packed, environment_id=draft.environment.pk, field=field)
    except VaultError as error:
        raise VaultUnusable(error) from None
    try:
        with transaction.atomic():
            sealed.save()
            # Of two readings at once one finds the files gone; what the other one read is the same.
            changed = Draft.objects.filter(pk=draft.pk, sealed=before)
            if not changed.update(sealed=sealed, facts=facts, choices=None if facts else choices):
                raise Refused(_("This upload was opened a moment ago; look at it again."), field="file")
            SealedObject.objects.filter(pk=before.pk).delete()
    except BaseException:
        _forget(sealed)
        raise
    draft.sealed, draft.facts, draft.choices = sealed, facts, None if facts else choices
    _forget(before)
    return draft


def drop_draft(*, draft: Draft, by: Any) -> None:
    """Forgets an upload that will not be confirmed, and its sealed file. Nothing was added, so nothing is recorded."""
    with transaction.atomic():
        gone, _rows = Draft.objects.filter(pk=draft.pk, sealed=draft.sealed_id, used_at=None).delete()
        if gone:
            SealedObject.objects.filter(pk=draft.sealed_id).delete()
    if gone:
        _forget(draft.sealed)


def _forget(sealed: SealedObject) -> None:
    """The row decides, and it is gone; a file that the storage does not let go of now is the sweep's."""
    with contextlib.suppress(VaultError):
        safe.destroy(sealed)


def _record_refusal(refusal: Refusal, environment: Environment, file_name: str, by: Any) -> None:
    trail.refused("certificate.refused", by=by, subject=environment, code=refusal.code, file=slots.visible(file_name))


def add_draft(*, draft: Draft, name: str, confirmed: bool, by: Any) -> ClientCertificate:
    """Confirms a draft as a new certificate of its environment."""
    _check_confirmed(draft, confirmed)
    with transaction.atomic():
        _use_up(draft)
        return slots.add_sealed(
            environment=draft.environment,
            name=name,
            facts=draft.facts,
            sealed=draft.sealed,
            file_name=draft.file_name,
            by=by,
        )


def renew_with_draft(*, draft: Draft, in_use: bool, confirmed: bool, by: Any) -> Version:
    """Confirms a draft as the renewal of the certificate that it was uploaded for."""
    assert draft.certificate is not None
    _check_confirmed(draft, confirmed)
    with transaction.atomic():
        _use_up(draft)
        return slots.renew_sealed(
            certificate=draft.certificate,
            facts=draft.facts,
            sealed=draft.sealed,
            in_use=in_use,
            file_name=draft.file_name,
            by=by,
        )


def _check_confirmed(draft: Draft, confirmed: bool) -> None:
    if not draft.is_read:
        raise Refused(_("Enter the password of this file first."), field="password")
    check_warnings(draft.version(), confirmed)


def check_warnings(version: Version, confirmed: bool) -> None:
    """Raises Refused where somebody has to say yes to a warning first."""
    if warnings_of(version) and not confirmed:
        raise Refused(_("Read the warnings and tick the box to go on."), field="confirmed")


def warnings_of(version: Version) -> list[dict[str, Any]]:
    """The warnings of a version that a person has to confirm, those of the day among them."""
    found = [w for w in version.warnings if w.get("confirm", True)]
    status = version.status()
    if status == "expired":
        found.insert(0, {"code": "expired", "sentence": _("It has expired; partners will refuse it.")})
    if status == "not-yet-valid":
        found.insert(
            0, {"code": "not_yet_valid", "sentence": _("It is not valid yet; partners will refuse it until then.")}
        )
    return found


def _use_up(draft: Draft) -> None:
    """Single use: of two confirmations at once, one finds the draft used. Its row goes; its sealed object lives on."""
    if not Draft.objects.filter(pk=draft.pk, used_at=None).update(used_at=timezone.now()):
        raise Refused(_("This upload was already confirmed."), field="file")
    Draft.objects.filter(pk=draft.pk).delete()


def tidy_drafts() -> int:
    """Removes expired drafts with their sealed files; returns how many."""
    expired = list(Draft.objects.filter(expires_at__lte=timezone.now()).select_related("sealed"))
    for draft in expired:
        drop_draft(draft=draft, by=None)
    return len(expired)
