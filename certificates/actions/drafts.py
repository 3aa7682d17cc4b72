"""A file between its upload and its confirmation (DESIGN: the way of one .pfx)."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates import intake, one_shot, shared_keys
from certificates.actions import answers, sealing, slots
from certificates.actions.sealing import forget
from certificates.comparison import disagreements
from certificates.diagnosis import Refusal
from certificates.facts import facts as facts_of
from certificates.identities import Identity, pack, unpack
from certificates.intake import Upload
from certificates.known_issuers import complete
from certificates.models import ARRIVED, CertificateRequest, ClientCertificate, Draft, Incoming, Version
from certificates.question import Question
from certificates.remarks import ABOUT_CHAINS, chain_completed
from environments.access import visible_environments
from environments.attempts import refusals
from environments.models import Environment
from environments.refusals import Refused
from vault import safe
from vault.models import SealedObject

LIVES = timedelta(minutes=15)
# What one person may have read: enough for some evenings' renewals at once.
FILES_IN_A_WHILE, A_WHILE = 200, timedelta(minutes=5)


def session_mark(session_key: str) -> str:
    return hashlib.sha256(session_key.encode()).hexdigest()


@sensitive_variables("files")
def keep_draft(
    *,
    environment: Environment,
    certificate: ClientCertificate | None,
    files: Sequence[Upload],
    session_key: str,
    request: CertificateRequest | None = None,
    by: Any,
) -> Draft:
    """Seals what was uploaded for one certificate, or as the answer to one request, so that a wrong password or a
    preview does not need it to be sent again.

    Raises Refusal (certificates.diagnosis) for files that no password could open, Refused for a key where only a
    certificate is wanted, VaultUnusable where nothing can be sealed.
    """
    refuse_too_many(by)
    draft = new_draft(environment, files, session_key, by, certificate=certificate, request=request)
    try:
        screen(draft, files)
        if request is not None and not draft.tracked:
            raise Refused(
                _("This file may hold a private key; the one of this request waits here, and only its certificate is"
                  " wanted."),
                field="file",
            )  # fmt: skip
    except Refusal as refusal:
        record_refusal(refusal, draft, by)
        raise
    save_draft(draft, files)
    return draft


@sensitive_variables("files")
def give_back(*, request: CertificateRequest, files: Sequence[Upload], session_key: str, by: Any) -> Draft:
    """The certificate that was issued for a request, read and ready to be confirmed or chosen.

    Raises Refused or Refusal, and keeps nothing, where it is another one, or none.
    """
    environment, certificate = request.environment, request.slot
    try:
        draft = keep_draft(
            environment=environment,
            certificate=certificate,
            files=files,
            session_key=session_key,
            request=request,
            by=by,
        )
        try:
            return read_draft(draft=draft, passwords=[""], by=by)
        except BaseException:
            drop_draft(draft=draft, by=by)
            raise
    except Refusal as refusal:
        if refusal.code == "not_pkcs12" and refusal.looks_like == "request":
            sentence = _("This is a request; choose the certificate that was issued for it (.cer, .pem or .p7b).")
        elif refusal.code in ("not_pkcs12", "no_certificate"):
            sentence = _("There is no certificate in this file; choose the .cer, .pem or .p7b that was sent back.")
        elif refusal.code == "no_private_key":
            sentence = _("None of the certificates in this file belongs to the key that waits here.")
        else:
            raise
        raise Refused(sentence, field="file") from None


def refuse_too_many(by: Any, coming: int = 1) -> None:
    """Raises Refused where one person has had so many files read that others would wait for it. Each file that is read
    is for some minutes a draft, or a refusal in the audit log."""
    since = timezone.now() - A_WHILE
    kept = Draft.objects.filter(person=by, created_at__gt=since).count()
    if kept + refusals(by, "certificate.refused", since) + coming > FILES_IN_A_WHILE:
        raise Refused(
            _("You have uploaded %(n)d files within five minutes; wait as long, then go on.") % {"n": FILES_IN_A_WHILE},
            field="file",
        )


def new_draft(environment: Environment, files: Sequence[Upload], session_key: str, by: Any, **columns: Any) -> Draft:
    """Not yet sealed, nor saved."""
    return Draft(
        person=by,
        session=session_mark(session_key),
        environment=environment,
        file_name=slots.visible(", ".join(file.name for file in files)),
        file_size=sum(len(file.content) for file in files),
        expires_at=timezone.now() + LIVES,
        **columns,
    )


def screen(draft: Draft, files: Sequence[Upload]) -> bool:
    """What can be seen without a password, and whether anything is encrypted. Raises Refusal."""
    seen = intake.screen(files)
    draft.tracked = not seen.keys
    return seen.closed


@sensitive_variables("files")
def save_draft(draft: Draft, files: Sequence[Upload]) -> None:
    """With its files sealed. Raises VaultUnusable."""
    draft.sealed = sealing.put(Question(tuple(files), ()).pack(), environment=draft.environment, field="draft")
    with safe.kept(draft.sealed), transaction.atomic():
        draft.sealed.save()
        draft.save(force_insert=True)


def open_draft(*, draft_id: Any, environment: Environment, session_key: str, by: Any) -> Draft:
    """The draft, for the person, session and environment that it is bound to, while it lives; what a partner sent, for
    everybody who may confirm it there."""
    theirs = Q(person=by, session=session_mark(session_key)) | ARRIVED
    draft = (
        Draft.objects.select_related("sealed", "certificate", "environment", "link", "request__sealed")
        .filter(theirs, pk=draft_id, environment=environment)
        .first()
    )
    if draft is None or draft.sealed is None or draft.used_at is not None or draft.expires_at <= timezone.now():
        raise Refused(_("This upload has expired or was already confirmed; choose the file again."), field="file")
    return draft


@sensitive_variables()
def read_draft(*, draft: Draft, passwords: Sequence[str], beside: Sequence[Upload] = (), by: Any) -> Draft:
    """Opens the files with these passwords, in a child process; keeps what was read, sealed, in the files' place.

    `beside` are other files with certificates of the chain. What is then missing is completed from what this person may
    see here. Raises Refusal or VaultUnusable, which leave the draft as it was, or Refused for a renewal that is already
    here and a certificate that is given back in the wrong place. The passwords are kept nowhere.
    """
    identities, choices = identities_in(draft, passwords, beside, within=visible_environments(by), by=by)
    return replace_draft(draft, identities, choices, by=by)


@sensitive_variables()
def identities_in(
    draft: Draft,
    passwords: Sequence[str],
    beside: Sequence[Upload] = (),
    *,
    within: QuerySet[Environment],
    by: Any,
) -> tuple[list[Identity], list[dict[str, Any]]]:
    """What these passwords open, completed from chains in environments `within`, and the columns of each. Raises
    Refusal or VaultUnusable."""
    files = (*files_of(draft), *beside)
    wanted = answers.wanted_by(draft)
    try:
        reading = one_shot.read(Question(files, tuple(passwords), track=draft.tracked, wanted=wanted))
    except Refusal as refusal:
        record_refusal(refusal, draft, by)
        raise
    identities, choices = [], []
    for identity, remarks in reading.identities:
        whole = complete(identity, within)
        if added := len(whole.chain) - len(identity.chain):
            remarks = (*remarks, chain_completed([facts_of(one).subject for one in whole.chain[-added:]]))
        if beside:
            remarks = tuple(remark for remark in remarks if remark.code != "strangers")
        identities.append(whole)
        choices.append(slots.columns(whole, remarks, completed=added))
    return identities, choices


@sensitive_variables()
def choose_in_draft(*, draft: Draft, sha256: str, by: Any) -> Draft:
    """Keeps the one identity whose certificate has this fingerprint, of several that the files hold."""
    for number, facts in enumerate(draft.choices or ()):
        if facts["sha256"] == sha256:
            return replace_draft(draft, [unpack(_opened(draft).split(b"\n")[number])], [facts], by=by)
    raise Refused(_("Choose one of the certificates."), field="sha256")


def _opened(draft: Draft) -> bytes:
    assert draft.sealed is not None
    return sealing.opened(draft.sealed, record=lambda _sealed: None)


@sensitive_variables("kept")
def files_of(draft: Draft) -> tuple[Upload, ...]:
    """The files as they came. Raises VaultUnusable."""
    kept = _opened(draft)
    try:
        return Question.unpack(kept).files
    except (ValueError, KeyError, TypeError):
        return (Upload(draft.file_name, kept),)  # as 0.1.0 kept it


def certificates_of(draft: Draft) -> tuple[Upload, ...]:
    """The certificates of a draft that has no key, as files. Raises VaultUnusable."""
    if not draft.is_read:
        return files_of(draft)
    identity = unpack(_opened(draft))
    text = "".join(ssl.DER_cert_to_PEM_cert(der) for der in (identity.certificate, *identity.chain))
    return (Upload(draft.file_name, text.encode()),)


@sensitive_variables()
def replace_draft(
    draft: Draft,
    identities: list[Identity],
    choices: list[dict[str, Any]],
    *,
    then: Callable[[], object] = lambda: None,
    by: Any,
    **columns: Any,
) -> Draft:
    """These identities instead of what the draft has; the facts are those of the only one, or wait for a choice. `then`
    is the end of the transaction, and `columns` change with it."""
    facts = choices[0] if len(choices) == 1 else {}
    kept = answers.match(draft, facts, by) if facts else {}
    if facts and (certificate := kept.get("certificate", draft.certificate)) is not None:
        slots.refuse_known_version(certificate, facts, tracked=kept.get("tracked", draft.tracked))
    field = "identity" if facts else "draft"
    packed = b"\n".join(pack(identity) for identity in identities)
    before, sealed = draft.sealed, sealing.put(packed, environment=draft.environment, field=field)
    assert before is not None
    kept |= {"sealed": sealed, "facts": facts, "choices": None if facts else choices, "refusal": None, **columns}
    with safe.kept(sealed), transaction.atomic():
        sealed.save()
        # Of two readings at once one finds the files gone; what the other one read is the same.
        if not Draft.objects.filter(pk=draft.pk, sealed=before).update(**kept):
            raise Refused(_("This upload was opened a moment ago; look at it again."), field="file")
        SealedObject.objects.filter(pk=before.pk).delete()
        then()
    for name, value in kept.items():
        setattr(draft, name, value)
    forget(before)
    return draft


def turn_draft(*, draft: Draft, certificate: ClientCertificate, by: Any) -> None:
    """Makes an upload the renewal of another certificate of its environment than the one that it was uploaded for.
    Nothing is added yet, so nothing is recorded. Raises Refused for one that is already there."""
    if certificate.environment_id != draft.environment.pk or certificate.removed_at is not None:
        raise Refused(_("Choose a certificate of this environment."))
    slots.refuse_known_version(certificate, draft.facts, tracked=draft.tracked)
    Draft.objects.filter(pk=draft.pk, used_at=None).update(certificate=certificate)
    draft.certificate = certificate


def drop_draft(*, draft: Draft, by: Any, then: Callable[[], object] = lambda: None) -> bool:
    """Forgets an upload that will not be confirmed, and its sealed file; False where somebody was quicker. Nothing was
    added, so nothing is recorded, but for what a partner sent: `then` is the end of the transaction."""
    with transaction.atomic():
        gone, _rows = Draft.objects.filter(pk=draft.pk, sealed=draft.sealed_id, used_at=None).delete()
        if gone and draft.sealed is not None:
            SealedObject.objects.filter(pk=draft.sealed.pk).delete()
        if gone:
            then()
    if gone and draft.sealed is not None:
        forget(draft.sealed)
    return bool(gone)


def record_refusal(refusal: Refusal, draft: Draft, by: Any) -> None:
    trail.refused("certificate.refused", by=by, subject=draft.environment, code=refusal.code, file=draft.file_name)


def add_draft(*, draft: Draft, name: str, links: int | None = None, confirmed: bool, by: Any) -> ClientCertificate:
    """Confirms a draft as a new certificate of its environment, with the first `links` certificates of its chain."""
    check_confirmed(draft, confirmed, by)
    taken = take(draft, links, by=by)
    with using_up([taken]):
        certificate = add_taken(taken, name=name, by=by)
        assert certificate.in_use is not None
        answer(draft, certificate.in_use, by)
    return certificate


def answer(draft: Draft, version: Version, by: Any) -> None:
    """Inside the transaction: the key that waited is now the version's, and nowhere else."""
    if draft.request is not None:
        waited = answers.answer(draft.request, version, by=by)
        transaction.on_commit(lambda: forget(waited))


@dataclass(frozen=True)
class Taken:
    """A draft as it is to be stored: its facts, and the sealed identity, None for what is tracked only."""

    draft: Draft
    facts: dict[str, Any]
    sealed: SealedObject | None


@sensitive_variables("identity")
def take(draft: Draft, links: int | None = None, *, by: Any = None) -> Taken:
    """Seals the identity anew where less of its chain is wanted, or where its key waited. Raises VaultUnusable."""
    if draft.tracked:
        return Taken(draft, draft.facts, None)
    shorter = links is not None and links < len(draft.facts["chain"])
    if not shorter and draft.request is None:
        return Taken(draft, draft.facts, draft.sealed)
    identity, facts = identity_of(draft, links, by=by), draft.facts
    if shorter:
        facts = with_shorter_chain(draft.facts, slots.columns(identity))
    return Taken(draft, facts, sealing.put(pack(identity), environment=draft.environment, field="identity"))


@sensitive_variables("identity")
def identity_of(draft: Draft, links: int | None = None, *, by: Any) -> Identity:
    """What was read, with the first `links` certificates of its chain, and with the key that waited for it here. Raises
    VaultUnusable."""
    identity = unpack(_opened(draft))
    if links is not None:
        identity = replace(identity, chain=identity.chain[:links])
    return identity if draft.request is None else answers.joined(draft, identity, by)


def add_taken(taken: Taken, *, name: str, by: Any) -> ClientCertificate:
    """Inside `using_up`."""
    draft = taken.draft
    return slots.add_sealed(
        environment=draft.environment,
        name=name,
        facts=taken.facts,
        sealed=taken.sealed,
        file_name=draft.file_name,
        by=by,
    )


@contextmanager
def using_up(all_taken: Sequence[Taken]) -> Iterator[None]:
    """One transaction for what is done with these drafts; afterwards they are used, and no copy of a key is left."""
    try:
        with transaction.atomic():
            for taken in all_taken:
                _use_up(taken.draft)
            yield
            replaced = [taken.draft for taken in all_taken if taken.sealed is not taken.draft.sealed]
            SealedObject.objects.filter(pk__in=[draft.sealed_id for draft in replaced]).delete()
    except BaseException:
        for taken in all_taken:
            if taken.sealed is not None and taken.sealed is not taken.draft.sealed:
                forget(taken.sealed)
        raise
    for draft in replaced:
        if draft.sealed is not None:
            forget(draft.sealed)


def with_shorter_chain(facts: dict[str, Any], shorter: dict[str, Any]) -> dict[str, Any]:
    """The facts of an identity without the end of its chain; what was said of its files stays."""
    said = [warning for warning in facts["warnings"] if warning["code"] not in ABOUT_CHAINS]
    new = [warning for warning in shorter["warnings"] if warning["code"] in ABOUT_CHAINS]
    return {**shorter, "warnings": [*said, *new]}


def check_confirmed(draft: Draft, confirmed: bool, by: Any, *, also: Sequence[str] = ()) -> None:
    """Raises Refused where the files were not opened yet, or somebody has to say yes to a warning first: one of its
    own, or one of what else is to be done with it."""
    if not draft.is_read:
        raise Refused(_("Enter the password of this file first."), field="password")
    if not confirmed and (also or warnings_of_draft(draft, by)):
        raise unconfirmed()


def unconfirmed() -> Refused:
    return Refused(_("Read the warnings and tick the box to go on."), field="confirmed")


def warnings_of_draft(draft: Draft, reader: Any) -> list[dict[str, Any]]:
    """Those of the version that it would become, what a renewal would change although the partner goes by it, and that
    a test's key would enter production."""
    version, of = draft.version(), draft.certificate
    found = warnings_of(version)
    if draft.tracked:
        return found
    if of is not None:
        agreed = disagreements(of.identified_by, of.in_use, version)
        found += [{"code": one.code, "sentence": one.sentence} for one in agreed]
    in_tests = shared_keys.also_in_tests(draft.environment, [version], reader)
    return found + [{"code": shared_keys.CODE, "sentence": sentence} for sentence in in_tests.values()]


def warnings_of(version: Version) -> list[dict[str, Any]]:
    """The warnings of a version that a person has to confirm, those of the day and of its key among them."""
    found = [w for w in version.warnings if w.get("confirm", True)]
    status = version.status()
    if status == "expired":
        found.insert(0, {"code": "expired", "sentence": _("It has expired; partners will refuse it.")})
    if status == "not-yet-valid":
        found.insert(
            0, {"code": "not_yet_valid", "sentence": _("It is not valid yet; partners will refuse it until then.")}
        )
    if version.key_is_compromised:
        sentence = _("Its private key is compromised: others may have it. Ask the partner for one with a new key.")
        found.insert(0, {"code": "compromised", "sentence": sentence})
    return found


def _use_up(draft: Draft) -> None:
    """Single use: of two confirmations at once, one finds the draft used. Its row goes; its sealed object lives on."""
    if not Draft.objects.filter(pk=draft.pk, used_at=None).update(used_at=timezone.now()):
        raise Refused(_("This upload was already confirmed."), field="file")
    Draft.objects.filter(pk=draft.pk).delete()


def tidy_drafts() -> int:
    """Removes expired drafts with their sealed files; returns how many. Of what a partner sent, and nobody confirmed,
    the audit log tells."""
    expired = list(Draft.objects.filter(expires_at__lte=timezone.now()).select_related("sealed", "certificate", "link"))
    for draft in expired:
        drop_draft(draft=draft, by=None, then=partial(_tell_expiry, draft))
    Incoming.objects.filter(expires_at__lte=timezone.now()).delete()
    return len(expired)


def _tell_expiry(draft: Draft) -> None:
    if draft.link is not None and draft.link.ended_as == "used" and (draft.facts or draft.choices):
        trail.record("draft.expired", by=None, subject=draft.certificate, file=draft.file_name)
