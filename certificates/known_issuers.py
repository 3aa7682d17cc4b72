"""The certificates above leaves that were uploaded here: what a file lacks of its chain, another one may have had.

Only what the reader may see is looked at, for the name of a partner's authority tells who the partner is. Nothing is
fetched from an address inside a certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db.models import QuerySet
from django.utils import timezone

from certificates import chain
from certificates.identities import Identity
from certificates.models import ChainCertificate, Version
from environments.models import Environment

# Of one name; a partner has a few, renewed or cross-signed.
_AT_MOST = 20
_LONGEST = 10


def remember(version: Version, certificates: Iterable[bytes]) -> None:
    """Keeps the chain (DER) of a version that is stored now. An empty one is skipped."""
    kept = []
    for der in certificates:
        if not der:
            continue
        read = x509.load_der_x509_certificate(der)
        try:
            mark = _mark(read.subject)
        except ValueError:
            continue  # a name that cannot be read names nobody's issuer
        row, _made = ChainCertificate.objects.get_or_create(
            sha256=hashlib.sha256(der).hexdigest(),
            defaults={
                "subject_mark": mark,
                "certificate": der,
                "not_after": read.not_valid_after_utc,
                "self_signed": chain.is_self_issued(read),
            },
        )
        kept.append(row)
    version.chain_certificates.set(kept)


def complete(identity: Identity, within: QuerySet[Environment]) -> Identity:
    """The identity with the intermediates that its files lacked and chains in these environments have.

    A root is not added: servers that accept the chain have it.
    """
    above = [x509.load_der_x509_certificate(der) for der in identity.chain]
    leaf = x509.load_der_x509_certificate(identity.certificate)
    while len(above) < _LONGEST and (found := _issuer_of(above[-1] if above else leaf, within)) is not None:
        if found in above or found == leaf:
            break
        above.append(found)
    return replace(identity, chain=tuple(one.public_bytes(Encoding.DER) for one in above))


def _issuer_of(certificate: x509.Certificate, within: QuerySet[Environment]) -> x509.Certificate | None:
    """The intermediate that issued this one and has not expired."""
    try:
        if chain.is_self_issued(certificate):
            return None
        mark = _mark(certificate.issuer)
    except ValueError:
        return None
    offered = ChainCertificate.objects.filter(
        subject_mark=mark,
        self_signed=False,
        not_after__gt=timezone.now(),
        versions__certificate__environment__in=within.order_by().values("pk"),
    )
    read = [x509.load_der_x509_certificate(bytes(row.certificate)) for row in offered.distinct()[:_AT_MOST]]
    return next(iter(chain.ordered(certificate, read)), None)


def _mark(name: x509.Name) -> str:
    return hashlib.sha256(name.public_bytes()).hexdigest()
