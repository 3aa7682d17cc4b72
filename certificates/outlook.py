"""Will the renewal fail? What is known of a certificate that speaks against its next one, each with what to do.

Read from columns; nothing is parsed. What tests of connections add to it is known above (rollouts.outlook).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.comparison import disagreements
from certificates.models import PublicAuthority, Version
from certificates.public_authorities import ending_of
from certificates.spelled import common_name


@dataclass(frozen=True)
class Concern:
    """One reason why a renewal may fail: a sentence, and what to do about it.

    `code` never changes, so that what was said once can be told from what is new: `authority-stops`, those of warnings
    (`no_client_auth`, `weak_key`, `dsa_key`, `explicit_curve`, `weak_signature`, `issuer_expires_first`),
    `issuer-ends-before-renewal`, `every-renewal-to-tell`, `partner-subject|issuer|thumbprint|key` (of a version that is
    ready), and `issuer-not-accepted` (rollouts.outlook). `version` is the one that it is about, None before it is
    stored; `day` the day from which it matters, where there is one; `source` an address that says so, or "".
    """

    code: str
    sentence: str
    to_do: str
    version: UUID | None = None
    day: date | None = None
    source: str = ""


# code of a stored warning → what to ask for; other warnings do not concern a renewal
TO_DO = {
    "no_client_auth": gettext_lazy(
        "Ask for a renewal that is meant for clients (extended key usage clientAuth); the same template fails again."
    ),
    "weak_key": gettext_lazy("Ask for a renewal with an RSA key of 2048 bits or more, or with an EC key."),
    "dsa_key": gettext_lazy("Ask for a renewal with an RSA key of 2048 bits or more, or with an EC key."),
    "explicit_curve": gettext_lazy("Ask for a renewal whose key names its curve."),
    "weak_signature": gettext_lazy("Ask for a renewal that is signed with SHA-256 or better."),
    "issuer_expires_first": gettext_lazy(
        "Renew it before that day, from an issuer that lasts longer; the partner’s server has to trust that one."
    ),
}


def concerns(
    version: Version,
    *,
    authorities: Iterable[PublicAuthority] | None = None,
    identified_by: Collection[str] = (),
    following: Version | None = None,
) -> list[Concern]:
    """What speaks against the renewal of the version in use, gravest first. `authorities` are the public authorities
    that stop, where they are known already (otherwise one query); `following` is a newer version that is ready."""
    found = [*_of_warnings(version), *_of_authority(version, authorities), *_of_issuers(version)]
    if "thumbprint" in identified_by and following is None:
        sentence = _("The partner recognises us by its fingerprint, and every renewal has another one.")
        to_do = _("Send them the new certificate before it is used.")
        found.append(Concern("every-renewal-to-tell", sentence, to_do, pk_of(version)))
    if following is not None:
        of_next = _("Version %(n)d, which is ready: %(sentence)s")
        for one in disagreements(identified_by, version, following):
            sentence = of_next % {"n": following.number, "sentence": one.sentence}
            to_do = _("Agree it with the partner before you use version %(n)d.") % {"n": following.number}
            found.append(Concern(one.code, sentence, to_do, following.pk))
    return found


def pk_of(version: Version) -> UUID | None:
    """None of one that is not stored."""
    return None if version._state.adding else version.pk


def _of_warnings(version: Version) -> Iterable[Concern]:
    said = {warning["code"]: warning["sentence"] for warning in version.warnings}
    for code, to_do in TO_DO.items():
        if code in said:
            day = _first_to_end(version) if code == "issuer_expires_first" else None
            yield Concern(code, said[code], str(to_do), pk_of(version), day[1].date() if day else None)


def _of_authority(version: Version, authorities: Iterable[PublicAuthority] | None) -> Iterable[Concern]:
    if ending := ending_of(version, authorities):
        yield Concern("authority-stops", ending.sentence, ending.to_do, pk_of(version), ending.day, ending.source)


def _of_issuers(version: Version) -> Iterable[Concern]:
    """An issuer that a renewal of the same length would outlive, so that another one has to issue it."""
    first = _first_to_end(version)
    if first is None or not version.not_after <= first[1] < version.not_after + version.lifetime:
        return
    words = _("%(issuer)s, which it depends on, expires on %(day)s, before a renewal of the same length would.")
    sentence = words % {"issuer": common_name(first[0]), "day": date_format(first[1], "j M Y")}
    to_do = _("Expect the renewal from another issuer; ask which, and whether the partner’s server trusts it.")
    yield Concern("issuer-ends-before-renewal", sentence, to_do, pk_of(version), first[1].date())


def _first_to_end(version: Version) -> tuple[str, datetime] | None:
    """The subject of the certificate above it that expires first, and when."""
    ends = [(link["subject"], datetime.fromisoformat(link["not_after"])) for link in version.chain]
    return min(ends, key=lambda one: one[1], default=None)
