"""Adding, renewing and arranging client certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from audit import trail
from audit.actors import Actor
from certificates.compromised import insist_on_why
from certificates.content import Content
from certificates.facts import facts, warnings
from certificates.identities import Identity, pack
from certificates.known_issuers import remember
from certificates.models import IDENTIFIED_BY, ClientCertificate, Pin, Renewal, TrustedAuthority, Version
from certificates.remarks import Remark
from environments.actions import take_turns
from environments.meanwhile import insist_on
from environments.models import Environment, Person
from environments.names import checked_name
from environments.refusals import Refused
from vault import safe
from vault.models import SealedObject

# What one form of a certificate edits.
PARTNER = ("contact", "contact_mail", "how_to_renew", "ticket_queue", "identified_by", "notes", "responsible")
DESCRIPTION = ("name", *PARTNER)
# Warnings that follow from the dates; a Version derives them each day anew, so they are not stored.
OF_THE_DAY = {"expired", "not_yet_valid"}


def columns(identity: Identity, remarks: Iterable[Remark] = (), *, completed: int = 0) -> dict[str, Any]:
    """The columns of a Version for this identity, with values that JSON can express (dates as ISO 8601), and in each
    link of the chain its `certificate` (base64 of DER). `remarks` are those on the files that it came in, which lacked
    the last `completed` links."""
    read = facts(identity.certificate, identity.chain, now=timezone.now())
    return {
        "friendly_name": visible(identity.friendly_name or ""),
        "subject": read.subject,
        "subject_parts": read.subject_parts,
        "common_name": visible(read.common_name),
        "issuer": read.issuer,
        "issuer_common_name": visible(read.issuer_common_name),
        "serial": read.serial[:60],
        "not_before": read.not_before.isoformat(),
        "not_after": read.not_after.isoformat(),
        "sha1": read.sha1,
        "sha256": read.sha256,
        "spki_sha256": read.spki_sha256,
        "key_kind": read.key_kind[:40],
        "key_bits": read.key_bits,
        "signature": read.signature[:60],
        "names": list(read.names),
        "usages": list(read.usages),
        "chain": [
            {
                "subject": link.subject,
                "issuer": link.issuer,
                "sha256": link.sha256,
                "not_after": link.not_after.isoformat(),
                "self_signed": link.self_signed,
                "completed": number >= len(read.chain) - completed,
                "certificate": base64.b64encode(identity.chain[number]).decode("ascii"),
            }
            for number, link in enumerate(read.chain)
        ],
        "missing_issuer": read.missing_issuer or "",
        "warnings": [
            {"code": w.code, "sentence": w.sentence, "confirm": w.confirm}
            for w in (*warnings(read, now=timezone.now()), *remarks)
            if w.code not in OF_THE_DAY
        ],
    }


def called(by: Any) -> str:
    """The name that stands beside what somebody made: a person's full name, or the name of who ran a command."""
    return str(by) if isinstance(by, Person) else Actor.of(by).name


def visible(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:200]


def seal(identity: Identity, environment: Environment) -> SealedObject:
    """Ciphertext goes to storage now; the row is saved by the action, so that it stands or falls with the rest."""
    return safe.put(pack(identity), environment_id=environment.pk, field="identity")


def add(
    *, environment: Environment, name: str, identity: Identity, completed: int = 0, file_name: str = "", by: Any
) -> ClientCertificate:
    """Adds a certificate with its first version, which goes with the next apply, or is tracked only where the identity
    has no key. The files lacked the last `completed` links of its chain."""
    checked_name(name)
    with _sealed(identity, environment) as sealed, transaction.atomic():
        return add_sealed(
            environment=environment,
            name=name,
            facts=columns(identity, completed=completed),
            sealed=sealed,
            file_name=file_name,
            by=by,
        )


@contextmanager
def _sealed(identity: Identity, environment: Environment) -> Iterator[SealedObject | None]:
    """The sealed key for what is done inside, or None where there is none; undone where that fails."""
    sealed = seal(identity, environment) if identity.key else None
    with safe.kept(sealed) if sealed else nullcontext():
        yield sealed


def add_sealed(
    *,
    environment: Environment,
    name: str,
    facts: Mapping[str, Any],
    sealed: SealedObject | None,
    file_name: str,
    by: Any,
) -> ClientCertificate:
    """The rows and the event of `add`, inside the caller's transaction."""
    certificate = _new_slot(environment, name, by)
    version = _version(certificate, facts, sealed, file_name, by)
    certificate.in_use = version
    certificate.save(update_fields=["in_use"])
    trail.record(
        "certificate.added",
        by=by,
        subject=certificate,
        slot=certificate.slug,
        sha256=version.sha256,
        file=file_name,
        **({"tracked_only": True} if sealed is None else {}),
    )
    return certificate


def _new_slot(environment: Environment, name: str, by: Any) -> ClientCertificate:
    """The last in the list, without a version yet."""
    take_turns(environment)
    name = checked_name(name)
    _name_is_free(environment, name)
    slugs = set(ClientCertificate.objects.filter(environment=environment).values_list("slug", flat=True))
    certificate = ClientCertificate(
        environment=environment,
        name=name,
        slug=_free_slug(name, slugs),
        position=_last_position(environment) + 1,
        created_by=called(by),
    )
    _save(certificate, force_insert=True)
    return certificate


@transaction.atomic
def add_without_file(*, environment: Environment, name: str, by: Any) -> ClientCertificate:
    """Adds a certificate of which nobody has the file: a slot, so that pins stay with it until it is uploaded."""
    certificate = _new_slot(environment, name, by)
    trail.record("certificate.added", by=by, subject=certificate, slot=certificate.slug, tracked_only=True)
    return certificate


def renew(
    *,
    certificate: ClientCertificate,
    identity: Identity,
    in_use: bool,
    completed: int = 0,
    file_name: str = "",
    by: Any,
) -> Version:
    """Adds a version to a certificate, which goes with the next apply, or is kept ready. Pins stay.

    A version without a key is tracked only: it goes with no apply, and takes the place of one that had no key either.
    """
    with _sealed(identity, certificate.environment) as sealed, transaction.atomic():
        return renew_sealed(
            certificate=certificate,
            facts=columns(identity, completed=completed),
            sealed=sealed,
            in_use=in_use,
            file_name=file_name,
            by=by,
        )


def renew_sealed(
    *,
    certificate: ClientCertificate,
    facts: Mapping[str, Any],
    sealed: SealedObject | None,
    in_use: bool,
    file_name: str,
    renewal: Renewal | None = None,
    sent_by_partner: bool = False,
    by: Any,
) -> Version:
    """The rows and the event of `renew`, inside the caller's transaction; with others of one `renewal` or alone."""
    lock(certificate)
    refuse_known_version(certificate, facts, tracked=sealed is None)
    version = _version(certificate, facts, sealed, file_name, by)
    if sealed is None:
        in_use = certificate.in_use is None or certificate.in_use.is_tracked_only
    if in_use:
        certificate.in_use = version
        certificate.save(update_fields=["in_use"])
    more: dict[str, Any] = {"tracked_only": True} if sealed is None else {}
    if sent_by_partner:
        more["sent_by_partner"] = True
    if renewal is not None:
        renewal.versions.add(version)
        more["renewal"] = str(renewal.pk)
    trail.record(
        "certificate.renewed",
        by=by,
        subject=certificate,
        slot=certificate.slug,
        version=version.number,
        sha256=version.sha256,
        with_next_apply=in_use and sealed is not None,
        file=file_name,
        **more,
    )
    return version


class AlreadyHere(Refused):
    """What was uploaded as a renewal is a version that the certificate has."""


def refuse_known_version(certificate: ClientCertificate, facts: Mapping[str, Any], *, tracked: bool) -> None:
    """A renewal is another certificate. Raises Refused for one that is already a version here; the key of one that was
    tracked only is welcome."""
    same_ones = certificate.versions.filter(sha256=facts["sha256"])
    if same := (same_ones if tracked else same_ones.filter(sealed__isnull=False)).first():
        raise AlreadyHere(
            _("This is version %(n)d, which is already here; choose the renewed file.") % {"n": same.number},
            field="file",
        )


def unsaved_version(identity: Identity) -> Version:
    """The version that an identity would become, for what has to be said about it before it is stored."""
    return Version(**from_columns(columns(identity)))


def _version(
    certificate: ClientCertificate, facts: Mapping[str, Any], sealed: SealedObject | None, file_name: str, by: Any
) -> Version:
    if sealed is not None:
        sealed.save()
    newest = certificate.versions.aggregate(Max("number"))["number__max"] or 0
    above = [{**link} for link in facts["chain"]]
    certificates = [base64.b64decode(link.pop("certificate", "")) for link in above]
    version = Version.objects.create(
        certificate=certificate,
        number=newest + 1,
        sealed=sealed,
        file_name=visible(file_name),
        created_by=called(by),
        **from_columns(facts) | {"chain": above},
    )
    remember(version, certificates)
    return version


def from_columns(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of what `columns` does to dates."""
    return {**facts, **{name: datetime.fromisoformat(facts[name]) for name in ("not_before", "not_after")}}


@transaction.atomic
def use_version(*, version: Version, despite: str = "", by: Any) -> None:
    """This version goes with the next apply. `despite`: why, if its key is compromised; otherwise CompromisedKey."""
    certificate = version.certificate
    lock(certificate)
    if version.is_tracked_only:
        raise Refused(_("Version %(n)d has no key here; upload its file first.") % {"n": version.number})
    if certificate.in_use_id == version.pk:
        return
    insisted = insist_on_why([version], despite)
    certificate.in_use = version
    certificate.save(update_fields=["in_use"])
    trail.record(
        "certificate.version-chosen",
        by=by,
        subject=certificate,
        slot=certificate.slug,
        version=version.number,
        **insisted,
    )


@transaction.atomic
def rename(*, certificate: ClientCertificate, name: str, by: Any) -> None:
    """A new name on the pages. No change to what runs: the exported file keeps its name."""
    name = checked_name(name)
    if name == certificate.name:
        return
    take_turns(certificate.environment)
    if name.lower() != certificate.name.lower():
        _name_is_free(certificate.environment, name)
    before, certificate.name = certificate.name, name
    _save(certificate, update_fields=["name"])
    trail.record("certificate.renamed", by=by, subject=certificate, before=before, after=name)


@transaction.atomic
def edit(*, certificate: ClientCertificate, name: str, shown: str = "", by: Any, **facts: Any) -> None:
    """`rename` and `describe` at once: both or neither."""
    take_turns(certificate.environment)
    insist_on(certificate, DESCRIPTION, shown)
    rename(certificate=certificate, name=name, by=by)
    describe(certificate=certificate, by=by, **facts)


@transaction.atomic
def describe(*, certificate: ClientCertificate, by: Any, **facts: Any) -> None:
    """What is known of the partner's side (PARTNER): whom to ask, how to renew, by what they recognise us, and who
    here is told first. What is not given stays. No change to what runs."""
    now = {field: _short(field, value) for field, value in facts.items()}
    changed = [field for field, value in now.items() if getattr(certificate, field) != value]
    if not changed:
        return
    take_turns(certificate.environment)
    for field in changed:
        setattr(certificate, field, now[field])
    certificate.save(update_fields=changed)
    trail.record("certificate.described", by=by, subject=certificate, changed=sorted(changed))


def _short(field: str, value: Any) -> Any:
    if field not in PARTNER:
        raise TypeError(f"{field} is nothing that describe() knows")
    if field == "identified_by":
        return [kind for kind in IDENTIFIED_BY if kind in value]
    if isinstance(value, str):
        return value.strip()[: 5000 if field in ("how_to_renew", "notes") else 200]
    return value


@transaction.atomic
def enable(*, certificate: ClientCertificate, despite: str = "", by: Any) -> None:
    """It goes with the next apply again. `despite`: why, if its key is compromised; otherwise CompromisedKey."""
    if certificate.enabled:
        return
    take_turns(certificate.environment)
    insisted = insist_on_why([certificate.in_use] if certificate.in_use else [], despite)
    certificate.enabled = True
    certificate.save(update_fields=["enabled"])
    trail.record("certificate.enabled", by=by, subject=certificate, slot=certificate.slug, **insisted)


@transaction.atomic
def disable(*, certificate: ClientCertificate, by: Any) -> None:
    """Leaves it, and its pins, out of the next apply; everything stays on the page."""
    if not certificate.enabled:
        return
    take_turns(certificate.environment)
    certificate.enabled = False
    certificate.save(update_fields=["enabled"])
    trail.record("certificate.disabled", by=by, subject=certificate, slot=certificate.slug)


@transaction.atomic
def move(*, certificate: ClientCertificate, to: int, by: Any) -> None:
    """Moves a certificate to this position (1 is first); the others close ranks."""
    lock(certificate)
    listed = list(ClientCertificate.objects.filter(environment=certificate.environment, removed_at=None))
    # By the rows: what the page showed may have been moved meanwhile.
    order = [c for c in listed if c.pk != certificate.pk]
    order.insert(max(0, min(to - 1, len(order))), next(c for c in listed if c.pk == certificate.pk))
    if [c.pk for c in order] == [c.pk for c in listed]:
        return
    _renumber(order)
    trail.record("certificate.moved", by=by, subject=certificate, slot=certificate.slug, position=to)


@transaction.atomic
def remove(*, certificate: ClientCertificate, by: Any) -> None:
    """Takes it off the list. Refused while pinned, saying where; its key is kept for the revisions that used it."""
    lock(certificate)
    pinned = list(Pin.objects.filter(certificate=certificate).values_list("key", flat=True))
    if pinned:
        raise Refused(
            _("“%(name)s” is pinned to %(pins)s; remove or change these pins first.")
            % {"name": certificate, "pins": ", ".join(pinned)}
        )
    certificate.removed_at, certificate.removed_by = timezone.now(), called(by)
    certificate.save(update_fields=["removed_at", "removed_by"])
    _renumber(ClientCertificate.objects.filter(environment=certificate.environment, removed_at=None))
    trail.record("certificate.removed", by=by, subject=certificate, slot=certificate.slug)


@transaction.atomic
def restore(
    *, environment: Environment, content: Content, versions: Mapping[str, Version], despite: str = "", by: Any
) -> None:
    """Puts certificates, pins, trusted authorities and runtime settings back to a revision's content; `versions` is by
    slug.

    Nothing is lost: a certificate that the content does not know stays on the list, disabled. `despite`: why, if a
    compromised key comes back by it; otherwise CompromisedKey.
    """
    take_turns(environment)
    stay = ClientCertificate.objects.filter(environment=environment, enabled=True, removed_at=None)
    there = set(stay.values_list("in_use", flat=True))
    insisted = insist_on_why([version for version in versions.values() if version.pk not in there], despite)
    slots = {slot.slug: number for number, slot in enumerate(content.slots, start=1)}
    certificates = list(ClientCertificate.objects.filter(environment=environment).order_by("position", "created_at"))
    by_slug = {c.slug: c for c in certificates}
    names = {c.name.lower() for c in certificates if c.removed_at is None}
    for certificate in (by_slug[slug] for slug in slots):
        if certificate.removed_at is not None:
            while certificate.name.lower() in names:
                certificate.name = _("%(name)s (restored)") % {"name": certificate.name}
            names.add(certificate.name.lower())
            certificate.removed_at, certificate.removed_by = None, ""
        certificate.enabled, certificate.in_use = True, versions[certificate.slug]
        certificate.save()
    for certificate in certificates:
        if certificate.slug not in slots and certificate.enabled and certificate.removed_at is None:
            certificate.enabled = False
            certificate.save(update_fields=["enabled"])
    listed = [c for c in certificates if c.removed_at is None]
    _renumber(sorted(listed, key=lambda c: slots.get(c.slug, len(slots) + c.position)))
    wanted = {p.key: p for p in content.pins}
    for existing in Pin.objects.filter(environment=environment).select_related("certificate"):
        target = wanted.get(existing.key)
        present = existing.certificate.slug if existing.certificate else None
        if target is not None and (target.kind, target.slug) == (existing.kind, present):
            del wanted[existing.key]
        elif existing.key in wanted or present is None or present in slots:
            existing.delete()
        # What is left is pinned to a certificate that is not in the content: disabled, so no change, and kept.
    for target in wanted.values():
        Pin.objects.create(
            environment=environment,
            kind=target.kind,
            key=target.key,
            certificate=by_slug[target.slug] if target.slug else None,
            created_by=called(by),
        )
    for authority in TrustedAuthority.objects.filter(environment=environment):
        if (authority.sha256 in content.authorities) == (authority.removed_at is None):
            continue
        back = authority.removed_at is not None
        authority.removed_at, authority.removed_by = (None, "") if back else (timezone.now(), called(by))
        authority.save(update_fields=["removed_at", "removed_by"])
    for column in ("runtime", "runtime_version", "profile", "base_folder"):
        setattr(environment, column, getattr(content, column))
    environment.save(update_fields=["runtime", "runtime_version", "profile", "base_folder"])
    trail.record("changes.undone", by=by, subject=environment, content=content.digest, **insisted)


def lock(certificate: ClientCertificate) -> None:
    """Holds the row until the transaction ends, and reads anew what others may have changed since it was fetched.

    Raises Refused for a certificate that was removed meanwhile.
    """
    take_turns(certificate.environment)
    rows = ClientCertificate.objects.select_for_update()
    certificate.refresh_from_db(fields=["removed_at", "in_use"], from_queryset=rows)
    if certificate.removed_at is not None:
        raise Refused(_("“%(name)s” was removed; add it as a new certificate.") % {"name": certificate})


def _save(certificate: ClientCertificate, **how: Any) -> None:
    """Of two people who take a name at once, the database lets one; the other gets the sentence."""
    try:
        with transaction.atomic():
            certificate.save(**how)
    except IntegrityError:
        _name_is_free(certificate.environment, certificate.name)
        # Another name that the exported file would be named after alike.
        raise Refused(_("Somebody added a certificate here at the same moment; try again."), field="name") from None


def _renumber(order: Iterable[ClientCertificate]) -> None:
    for position, certificate in enumerate(order, start=1):
        if certificate.position != position:
            certificate.position = position
            certificate.save(update_fields=["position"])


def _last_position(environment: Environment) -> int:
    return (
        ClientCertificate.objects.filter(environment=environment, removed_at=None).aggregate(Max("position"))[
            "position__max"
        ]
        or 0
    )


def _free_slug(name: str, taken: set[str]) -> str:
    base = (slugify(name) or "certificate")[:50]
    slug, number = base, 2
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug


def _name_is_free(environment: Environment, name: str) -> None:
    if ClientCertificate.objects.filter(environment=environment, name__iexact=name, removed_at=None).exists():
        raise Refused(
            _("There is already a certificate “%(name)s” here; choose another name, or upload the file as its renewal.")
            % {"name": name},
            field="name",
        )
