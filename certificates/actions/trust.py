"""Which authorities an app trusts when a server shows a certificate, beside those that it trusts anyway."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography import x509
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from certificates.actions.slots import called, visible
from certificates.diagnosis import Refusal
from certificates.facts import facts, warnings
from certificates.intake import Upload, public_part
from certificates.models import TrustedAuthority
from environments.actions import take_turns
from environments.models import Environment
from environments.refusals import Refused

# Of a certificate's warnings, those that matter of one that others are judged by; a root's own signature does not.
TOLD = ("expired", "not_yet_valid", "weak_key", "explicit_curve", "dsa_key", "weak_signature")


def read_authorities(*, environment: Environment, files: Sequence[Upload]) -> list[TrustedAuthority]:
    """The authorities in these files, unsaved, one for each certificate. Raises Refusal or Refused."""
    try:
        certificates, keys = public_part(files)
    except Refusal as refusal:
        # Its sentence asks for a .pfx, which is not wanted here.
        if refusal.code != "not_pkcs12":
            raise
        certificates, keys = (), False
    if keys:
        raise Refused(
            _("This file may hold a private key; an authority is given as its certificate alone, in PEM or DER."),
            field="file",
        )
    if not certificates:
        raise Refused(_("There is no certificate in this file; choose the authority's, in PEM or DER."), field="file")
    return [_read(environment, certificate) for certificate in certificates]


def _read(environment: Environment, certificate: bytes) -> TrustedAuthority:
    try:
        read = facts(certificate)
        is_authority = _is_authority(certificate)
    except ValueError:
        raise Refused(_("This certificate cannot be read; ask for it once more."), field="file") from None
    self_signed = read.missing_issuer is None
    found = [
        {"code": one.code, "sentence": one.sentence, "confirm": one.confirm}
        for one in warnings(read, now=timezone.now())
        if one.code in TOLD and not (one.code == "weak_signature" and self_signed)
    ]
    if not is_authority:
        sentence = _("It is not marked as an authority: most runtimes trust it for the one server that shows it.")
        found.append({"code": "no_authority", "sentence": sentence, "confirm": True})
    return TrustedAuthority(
        environment=environment,
        name=visible(read.common_name) or visible(read.subject) or read.sha256[:16],
        certificate=certificate,
        subject=read.subject,
        issuer=read.issuer,
        issuer_common_name=visible(read.issuer_common_name),
        serial=read.serial[:60],
        not_before=read.not_before,
        not_after=read.not_after,
        sha1=read.sha1,
        sha256=read.sha256,
        key_kind=read.key_kind[:40],
        key_bits=read.key_bits,
        signature=read.signature[:60],
        self_signed=self_signed,
        warnings=found,
    )


def _is_authority(certificate: bytes) -> bool:
    """RFC 5280 §4.2.1.9; a root of version 1 has no extensions and counts as one."""
    read = x509.load_der_x509_certificate(certificate)
    if read.version == x509.Version.v1:
        return True
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        return read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return False


@transaction.atomic
def trust(*, environment: Environment, authorities: Iterable[TrustedAuthority], by: Any) -> list[TrustedAuthority]:
    """Adds what `read_authorities` found; what was removed before comes back. Raises Refused where all are there."""
    take_turns(environment)
    known = {one.sha256: one for one in TrustedAuthority.objects.filter(environment=environment)}
    added = []
    for authority in authorities:
        there = known.get(authority.sha256)
        if there is not None and there.removed_at is None:
            continue
        if there is not None:
            authority = there
            authority.removed_at, authority.removed_by = None, ""
        else:
            # Those of the day are derived from the dates.
            lasting = [one for one in authority.warnings if one["code"] not in ("expired", "not_yet_valid")]
            authority.warnings, authority.created_by = lasting, called(by)
        authority.save()
        trail.record("trust.added", by=by, subject=authority, sha256=authority.sha256)
        added.append(authority)
    if not added:
        raise Refused(_("This is trusted here already; nothing was added."), field="file")
    return added


@transaction.atomic
def distrust(*, authority: TrustedAuthority, by: Any) -> None:
    """Takes an authority off the list; it is trusted until the next apply."""
    take_turns(authority.environment)
    authority.refresh_from_db(fields=["removed_at"])
    if authority.removed_at is not None:
        raise Refused(_("“%(name)s” was removed already.") % {"name": authority})
    authority.removed_at, authority.removed_by = timezone.now(), called(by)
    authority.save(update_fields=["removed_at", "removed_by"])
    trail.record("trust.removed", by=by, subject=authority, sha256=authority.sha256)
