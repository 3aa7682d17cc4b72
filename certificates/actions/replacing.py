"""A renewal, in one place or in each place that uses what it replaces: a sealed copy, a version and an event for each.

Where there are several, it is all of them or none, in one transaction. What a key may be brought to is decided where
the places are looked up (certificates.renewals), so these functions take what was found there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates.actions import drafts, sealing, slots
from certificates.compromised import insist_on_why
from certificates.identities import Identity, pack, unpack
from certificates.models import Draft, Renewal, Version
from certificates.renewals import Place, warnings_of_places
from environments.actions import take_turns_in
from environments.refusals import Refused
from vault import safe
from vault.errors import VaultError
from vault.models import SealedObject

NOWHERE: Mapping[Place, bool] = {}


@sensitive_variables("identity")
def renew_with_draft(
    *,
    draft: Draft,
    in_use: bool,
    links: int | None = None,
    also: Mapping[Place, bool] = NOWHERE,
    confirmed: bool,
    by: Any,
) -> Version:
    """Confirms a draft as the renewal of the certificate that it was uploaded for, and of what is used in the places
    `also`: True where it goes with the next apply, False where it is kept ready. Pins stay, everywhere."""
    of = draft.certificate
    assert of is not None
    drafts.check_confirmed(draft, confirmed, by, also=warnings_of_places(also))
    taken = drafts.take(draft, links, by=by)
    identity = drafts.identity_of(draft, links, by=by) if also else None
    with _copies(identity, list(also)) as copies, drafts.using_up([taken]):
        take_turns_in([draft.environment, *(place.environment for place in also)])
        renewal = _renewal(draft.version(), by) if also else None
        version = slots.renew_sealed(
            certificate=of,
            facts=taken.facts,
            sealed=taken.sealed,
            in_use=in_use,
            file_name=draft.file_name,
            renewal=renewal,
            sent_by_partner=draft.link_id is not None,
            by=by,
        )
        drafts.answer(draft, version, by)
        for place, now in also.items():
            _follow(
                place,
                renewal,
                taken.facts,
                copies[place],
                in_use=now,
                file_name=draft.file_name,
                sent_by_partner=draft.link_id is not None,
                by=by,
            )
    return version


@sensitive_variables("identity")
def replace_elsewhere(*, version: Version, places: Mapping[Place, bool], confirmed: bool, by: Any) -> Renewal:
    """Brings a version that is already here to these places too, as `renew_with_draft` does. Raises CompromisedKey for
    one whose key others may have."""
    if not places:
        raise Refused(_("Choose at least one place."))
    insist_on_why([version], "")
    if warnings_of_places(places) and not confirmed:
        raise drafts.unconfirmed()
    identity = _opened(version, by)
    completed = sum(1 for link in version.chain if link.get("completed"))
    facts = {**slots.columns(identity, completed=completed), "warnings": version.warnings}
    with _copies(identity, list(places)) as copies, transaction.atomic():
        take_turns_in([version.environment, *(place.environment for place in places)])
        renewal = version.renewals.first() or _renewal(version, by)
        renewal.versions.add(version)
        for place, now in places.items():
            _follow(place, renewal, facts, copies[place], in_use=now, file_name=version.file_name, by=by)
    return renewal


def _renewal(version: Version, by: Any) -> Renewal:
    return Renewal.objects.create(common_name=version.common_name, sha256=version.sha256, created_by=slots.called(by))


def _follow(
    place: Place,
    renewal: Renewal | None,
    facts: Mapping[str, Any],
    sealed: SealedObject,
    *,
    in_use: bool,
    file_name: str,
    sent_by_partner: bool = False,
    by: Any,
) -> None:
    """The version of one place, where it still uses what was shown."""
    shown = place.certificate.in_use_id
    try:
        slots.lock(place.certificate)
        if place.certificate.in_use_id != shown:
            raise Refused(_("Somebody changed the certificate there meanwhile; look again."))
        slots.renew_sealed(
            certificate=place.certificate,
            facts=facts,
            sealed=sealed,
            in_use=in_use,
            file_name=file_name,
            renewal=renewal,
            sent_by_partner=sent_by_partner,
            by=by,
        )
    except Refused as error:
        raise Refused(
            _("Nothing was replaced. %(place)s: %(sentence)s")
            % {"place": f"{place.environment} · {place.certificate}", "sentence": error}
        ) from None


@contextmanager
@sensitive_variables("identity", "packed")
def _copies(identity: Identity | None, places: Sequence[Place]) -> Iterator[Mapping[Place, SealedObject]]:
    """The identity sealed for each place, because what is sealed is bound to its environment; undone where what is done
    inside fails. Raises VaultUnusable."""
    copies: dict[Place, SealedObject] = {}
    try:
        if identity is not None:
            packed = pack(identity)
            for place in places:
                copies[place] = safe.put(packed, environment_id=place.environment.pk, field="identity")
        yield copies
    except BaseException as error:
        for sealed in copies.values():
            sealing.forget(sealed)
        if isinstance(error, VaultError):
            raise sealing.VaultUnusable(error) from None
        raise


@sensitive_variables("identity")
def _opened(version: Version, by: Any) -> Identity:
    """The key of a version, for a reason that is recorded first. Raises VaultUnusable, or Refused where the row points
    at another certificate's key."""

    def record(_sealed: SealedObject) -> None:
        with transaction.atomic():
            trail.record("key.opened", by=by, subject=version, reason="it replaces its predecessor elsewhere, too")

    assert version.sealed is not None
    try:
        identity = unpack(safe.open_sealed(version.sealed, record=record))
    except VaultError as error:
        raise sealing.VaultUnusable(error) from None
    if hashlib.sha256(identity.certificate).hexdigest() != version.sha256:
        raise Refused(_("The sealed key of this version is that of another certificate; upload it again."))
    return identity


@transaction.atomic
def use_versions(*, versions: Collection[Version], by: Any) -> None:
    """These versions of a renewal, which are ready, go with the next apply: all of them or none."""
    take_turns_in(version.environment for version in versions)
    for version in versions:
        try:
            slots.use_version(version=version, by=by)
        except Refused as error:
            raise Refused(f"{version.environment}: {error}") from None
