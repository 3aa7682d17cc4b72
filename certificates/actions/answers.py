"""A certificate that comes back for a key that waits here: matched when it is read, joined when confirmed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates import identities
from certificates.actions import sealing
from certificates.actions.requests import became, end, waiting
from certificates.diagnosis import Refusal
from certificates.identities import Identity
from certificates.models import CertificateRequest, Draft, Version
from environments.access import visible_environments
from environments.refusals import Refused
from vault.models import SealedObject


def wanted_by(draft: Draft) -> tuple[str, ...]:
    """The public keys that certificates without a key are looked through for. What comes in many files at once is
    joined with nothing."""
    if not draft.tracked or draft.batch is not None:
        return ()
    listed = _waiting_for(draft)
    if draft.request_id:
        listed = listed.filter(pk=draft.request_id)
    return tuple(listed.values_list("spki_sha256", flat=True))


def _waiting_for(draft: Draft) -> QuerySet[CertificateRequest]:
    """What a partner sends by a link answers requests for that certificate alone, and they learn of no other."""
    listed = waiting(draft.environment)
    return listed.filter(certificate=draft.certificate) if draft.link_id else listed


def match(draft: Draft, facts: Mapping[str, Any], by: Any) -> dict[str, Any]:
    """What a draft without a key becomes by the one that waits for this certificate: columns of the draft, none where
    none waits. Raises Refused where the certificate was given back for another key or slot than its own."""
    if not draft.tracked or draft.batch is not None:
        return {}
    key = facts["spki_sha256"]
    found = _waiting_for(draft).filter(spki_sha256=key).select_related("certificate").first() if key else None
    if draft.request_id and (found is None or found.pk != draft.request_id):
        raise Refused(_of_another_key(draft, key, by), field="file")
    if found is None:
        return {}
    if draft.certificate is not None and found.slot is not None and found.slot != draft.certificate:
        raise Refused(
            _("This certificate answers the request for “%(name)s”; give it back there.") % {"name": found},
            field="file",
        )
    return {"request": found, "certificate": draft.certificate or found.slot, "tracked": False}


def _of_another_key(draft: Draft, key: str, by: Any) -> str:
    """Names the request that the certificate belongs to, where this person may see it."""
    known = CertificateRequest.objects.filter(environment__in=visible_environments(by), spki_sha256=key)
    other = known.select_related("environment__application").first() if key else None
    if draft.request is not None and not draft.request.waits:
        return became(draft.request)
    if other is None:
        return _(
            "This certificate belongs to another key than the one that waits here; ask for the one of this request."
        )
    if not other.waits:
        return _("This certificate belongs to another key. %(became)s") % {"became": became(other)}
    words = {"name": other, "environment": other.environment}
    return _("This certificate belongs to the key of “%(name)s” in %(environment)s; give it back there.") % words


@sensitive_variables()
def joined(draft: Draft, identity: Identity, by: Any) -> Identity:
    """The identity of a draft with the key that waits for it, which is opened for that. Raises Refused."""
    request = draft.request
    assert request is not None
    sealed = request.sealed
    if sealed is None or not request.waits:
        raise Refused(became(request), field="file")
    if (sealed.field, sealed.environment_id) != ("request", draft.environment.pk):
        raise Refused(_("The sealed key of this request belongs to something else; make a new request."), field="file")
    reason = _("to join it with its certificate")
    key = sealing.opened(sealed, record=lambda _sealed: _record_opening(request, reason, by))
    certificate = x509.load_der_x509_certificate(identity.certificate)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        identities.prove(identities.load_key(key), certificate)
    except Refusal:
        spki = b""
    if hashlib.sha256(spki).hexdigest() != request.spki_sha256:
        raise Refused(_("The key that waits does not fit this certificate; make a new request."), field="file")
    return Identity(key, identity.certificate, identity.chain, identity.friendly_name)


@transaction.atomic
def _record_opening(request: CertificateRequest, reason: str, by: Any) -> None:
    trail.record("key.opened", by=by, subject=request, reason=reason)


def answer(request: CertificateRequest, version: Version, *, by: Any) -> SealedObject:
    """Inside the transaction that stores the version. Returns what is to be forgotten after it."""
    sealed = end(request, "answered", version=version, by=by)
    trail.record(
        "request.answered", by=by, subject=request, version=version.number, sha256=version.sha256,
        certificate=version.certificate.slug,
    )  # fmt: skip
    return sealed
