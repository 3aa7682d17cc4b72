"""The order of a chain: from a certificate to its issuer, and on towards the root.

No Django here. Files carry certificates in any order, with copies and strangers; RFC 5280 §6.1 says what makes a path.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

Kind = TypeVar("Kind", bound=x509.ExtensionType)


def ordered(leaf: x509.Certificate, others: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The issuers of `leaf` among `others`, nearest first, without `leaf`. Strangers and copies are left out."""
    pool = [one for one in dict.fromkeys(others) if one != leaf]
    path: list[x509.Certificate] = []
    current = leaf
    while not is_self_issued(current):
        candidates = [one for one in pool if _may_have_issued(one, current)]
        if not candidates:
            break
        current = max(candidates, key=lambda one: _preference(one, current, pool))
        pool.remove(current)
        path.append(current)
    return tuple(path)


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether issuer and subject are one name. False where a name cannot be read."""
    try:
        return certificate.issuer == certificate.subject
    except ValueError:
        return False


def extension(certificate: x509.Certificate, kind: type[Kind]) -> Kind | None:
    """The value of an extension; None where the certificate has none that can be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _may_have_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        return certificate.issuer == issuer.subject and _signed(issuer, certificate) is not False
    except ValueError:
        return False


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool | None:
    """Whether the signature is the issuer's; None where its algorithm cannot be checked here."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return True


def _preference(
    issuer: x509.Certificate, certificate: x509.Certificate, pool: list[x509.Certificate]
) -> tuple[bool, bool, bool, bool, datetime.datetime]:
    """Among several issuers of one name (cross-signed or renewed): proven, named by key, leading on, root, latest."""
    wanted, offered = _authority_key(certificate), _subject_key(issuer)
    self_issued = is_self_issued(issuer)
    leads_on = not self_issued and any(one != issuer and _may_have_issued(one, issuer) for one in pool)
    return (
        _signed(issuer, certificate) is True,
        wanted is not None and wanted == offered,
        leads_on,
        self_issued,
        issuer.not_valid_after_utc,
    )


def _authority_key(certificate: x509.Certificate) -> bytes | None:
    found = extension(certificate, x509.AuthorityKeyIdentifier)
    return None if found is None else found.key_identifier


def _subject_key(certificate: x509.Certificate) -> bytes | None:
    found = extension(certificate, x509.SubjectKeyIdentifier)
    return None if found is None else found.digest
