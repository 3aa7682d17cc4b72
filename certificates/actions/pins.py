"""Which target presents which certificate."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from audit import trail
from certificates import addresses, dialects, shared_keys
from certificates.actions.slots import called
from certificates.models import ClientCertificate, Pin
from certificates.targets import Interpretation, TargetError, interpret
from environments.actions import take_turns
from environments.models import Environment
from environments.refusals import Refused


def read_target(*, environment: Environment, text: str, kind: str | None = None, never: bool = False) -> Interpretation:
    """What was typed, as this environment's runtime would know it. Raises Refused where it cannot be expressed."""
    try:
        read = interpret(text, kind or None)
    except TargetError as error:
        raise Refused(str(error), field="target") from None
    verdict = dialects.expressible(
        read,
        dialect=dialects.dialect_of(environment.runtime),
        never=never,
        runtime_version=environment.runtime_version,
    )
    if not verdict.possible:
        raise Refused(verdict.reason, field="target")
    return read


@transaction.atomic
def pin(
    *,
    environment: Environment,
    target: Interpretation,
    certificate: ClientCertificate | None,
    note: str = "",
    test_address: str = "",
    confirmed: bool = False,
    taken_from: Environment | None = None,
    by: Any,
) -> Pin:
    """Pins a target to a certificate, or, with None, to *never send a certificate*. `test_address`: where a connection
    is tried for it (certificates.addresses), "" for what follows from the target. `confirmed`: also in production with
    a key that is used outside it. `taken_from` is the environment whose pin this one follows."""
    take_turns(environment)
    _belongs(certificate, environment)
    _insist(certificate, environment, confirmed, by)
    return pin_imported(
        environment=environment,
        target=target,
        certificate=certificate,
        note=note,
        test_address=test_address,
        taken_from=taken_from,
        by=by,
    )


@transaction.atomic
def pin_imported(
    *,
    environment: Environment,
    target: Interpretation,
    certificate: ClientCertificate | None,
    note: str = "",
    test_address: str = "",
    taken_from: Environment | None = None,
    by: Any,
) -> Pin:
    """As `pin`, also to a certificate whose key is not here: what runs elsewhere is pinned to it, and nothing is sent
    from here until its key comes."""
    take_turns(environment)
    _is_free(environment, target.key)
    pin = Pin(
        environment=environment,
        kind=target.kind,
        key=target.key,
        certificate=certificate,
        note=note.strip()[:200],
        test_address=_tested_at(test_address),
        created_by=called(by),
    )
    _save(pin, force_insert=True)
    about: dict[str, Any] = {"target": pin.key, "kind": pin.kind, "certificate": _name(certificate)}
    trail.record("pin.added", by=by, subject=pin, **about, **_origin(taken_from))
    return pin


@transaction.atomic
def change_pin(
    *,
    pin: Pin,
    target: Interpretation,
    certificate: ClientCertificate | None,
    note: str = "",
    test_address: str = "",
    confirmed: bool = False,
    taken_from: Environment | None = None,
    by: Any,
) -> None:
    take_turns(pin.environment)
    _belongs(certificate, pin.environment)
    if certificate != pin.certificate:
        _insist(certificate, pin.environment, confirmed, by)
    was = (pin.kind, pin.key, pin.certificate, pin.note, pin.test_address)
    now = (target.kind, target.key, certificate, note.strip()[:200], _tested_at(test_address))
    if was == now:
        return
    if target.key != pin.key:
        _is_free(pin.environment, target.key)
    before = {"target": pin.key, "certificate": _name(pin.certificate)}
    pin.kind, pin.key, pin.certificate, pin.note, pin.test_address = now
    _save(pin, update_fields=["kind", "key", "certificate", "note", "test_address"])
    about: dict[str, Any] = {"target": pin.key, "kind": pin.kind, "certificate": _name(certificate)}
    trail.record("pin.changed", by=by, subject=pin, before=before, **about, **_origin(taken_from))


@transaction.atomic
def unpin(*, pin: Pin, by: Any) -> None:
    """Removes a pin; its target falls under *any other server*."""
    take_turns(pin.environment)
    trail.record("pin.removed", by=by, subject=pin, target=pin.key, kind=pin.kind, certificate=_name(pin.certificate))
    pin.delete()


def _save(pin: Pin, **how: Any) -> None:
    """Of two people who pin the same target at once, the database lets one; the other gets the sentence."""
    try:
        with transaction.atomic():
            pin.save(**how)
    except IntegrityError:
        raise Refused(
            _("%(key)s is already pinned here; change that pin instead.") % {"key": pin.key}, field="target"
        ) from None


def _tested_at(text: str) -> str:
    """In its shortest spelling. Raises Refused for what is no address."""
    if not text.strip():
        return ""
    try:
        return str(addresses.read(text))
    except addresses.AddressError as error:
        raise Refused(str(error), field="test_address") from None


def _name(certificate: ClientCertificate | None) -> str | None:
    return certificate.name if certificate else None


def _belongs(certificate: ClientCertificate | None, environment: Environment) -> None:
    """By the row, which stays locked: what the page showed may have been removed meanwhile."""
    if certificate is None:
        return
    here = ClientCertificate.objects.select_for_update().filter(environment=environment, removed_at=None)
    row = here.filter(pk=certificate.pk).select_related(None).first()
    if row is None:
        raise Refused(_("Choose a certificate of this environment."), field="certificate")
    if row.in_use is not None and row.in_use.is_tracked_only:
        raise Refused(
            _("“%(name)s” is tracked only: its private key is not here, so it cannot be sent; upload it first.")
            % {"name": row},
            field="certificate",
        )


def _insist(certificate: ClientCertificate | None, environment: Environment, confirmed: bool, by: Any) -> None:
    if certificate is not None and certificate.in_use is not None:
        shared_keys.insist(environment, [certificate.in_use], confirmed=confirmed, by=by)


def _origin(environment: Environment | None) -> dict[str, Any]:
    return {"taken_from": str(environment)} if environment is not None else {}


def _is_free(environment: Environment, key: str) -> None:
    other = Pin.objects.filter(environment=environment, key=key).select_related("certificate").first()
    if other is not None:
        sent = other.certificate.name if other.certificate else _("never send a certificate")
        raise Refused(
            _("%(key)s is already pinned here (%(sent)s); change that pin instead.") % {"key": key, "sent": sent},
            field="target",
        )
