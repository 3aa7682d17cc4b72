"""Opens the safe for a bundle: writes a revision's files anew, and reads them back for every later step.

The only module of rollouts that sees key material on its way out of the vault. Each opening is recorded first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit import trail
from certificates import content as contents
from certificates import current, identities, pkcs12
from certificates.content import Content, File, WrittenPfx
from certificates.models import Version
from environments.models import Environment
from rollouts import exporters
from rollouts.connectors import Connector, ConnectorError, connect
from rollouts.models import Bundle, Destination, Handout, Revision
from vault import safe
from vault.models import SealedObject


class ReadBackError(Exception):
    """A file that was just written does not read back as what it was written from: one sentence."""


class SwappedError(ReadBackError):
    """A row points at a sealed object that was sealed for something else."""


def recorder(action: str, *, subject: Any, reason: str, by: Any) -> Callable[[SealedObject], None]:
    """What the vault calls before it opens an object: one event, which must be written or nothing is opened."""

    def record(_sealed: SealedObject) -> None:
        with transaction.atomic():
            trail.record(action, by=by, subject=subject, reason=reason)

    return record


def written(
    versions: Mapping[str, Version], *, profile: str = "", one_password: bool = False, reason: str, by: Any
) -> dict[str, WrittenPfx]:
    """Each version's key, certificate and chain as a PFX written anew, by slug, with a fresh random password each, or
    one for all.

    Each file is read back and compared before anybody gets it.
    """
    files = {}
    shared = pkcs12.new_password()
    for slug, version in versions.items():
        identity = identity_of(version, reason=reason, by=by)
        password = shared if one_password else pkcs12.new_password()
        pfx = pkcs12.write(identity, password=password, friendly_name=slug, profile=profile or "modern")
        back = pkcs12.read(pfx, password)
        if (back.key, back.certificate, back.chain) != (identity.key, identity.certificate, identity.chain):
            raise ReadBackError(
                f"The file written for “{version.certificate.name}” did not read back as what was stored."
            )
        files[slug] = WrittenPfx(pfx, password, identity)
    return files


def identity_of(version: Version, *, reason: str, by: Any) -> identities.Identity:
    """The key, certificate and chain of a version. Raises SwappedError where the row points at another's secret."""
    sealed = version.sealed
    if sealed is None or (sealed.field, sealed.environment_id) != ("identity", version.environment.pk):
        raise SwappedError(
            f"The sealed key of “{version.certificate.name}” belongs to something else; upload it again."
        )
    identity = identities.unpack(
        safe.open_sealed(sealed, record=recorder("key.opened", subject=version, reason=reason, by=by))
    )
    if hashlib.sha256(identity.certificate).hexdigest() != version.sha256:
        raise SwappedError(
            f"The sealed key of “{version.certificate.name}” is that of another certificate; upload it again."
        )
    return identity


def export(
    content: Content,
    versions: Mapping[str, Version],
    *,
    exporter: str,
    trusted: Mapping[str, bytes],
    reason: str,
    by: Any,
) -> contents.Bundle:
    """The files of one exporter for this content; `trusted` has its authorities by fingerprint.

    Raises exporters.ExportError for what it cannot express."""
    one = exporters.exporter(exporter).one_password
    files = written(versions, profile=content.profile, one_password=one, reason=reason, by=by)
    return replace(exporters.export(exporter, content, files, trusted), sent=files)


def write_bundle(
    *, environment: Environment, revision: Revision | None, content: Content, exporter: str, by: Any
) -> Bundle:
    """Writes and seals the bundle of a revision, or, without one, the bundle of this content with nothing in it."""
    if revision is None:
        content, versions, reason = replace(content, slots=(), pins=(), authorities=()), {}, "nothing to go back to"
    else:
        versions = {
            e.slug: e.version
            for e in revision.entries.select_related(
                "version__certificate__environment__application", "version__sealed"
            )
        }
        reason = f"revision {revision.number}"
    trusted = current.authorities(environment, content)
    bundle = export(content, versions, exporter=exporter, trusted=trusted, reason=reason, by=by)
    sealed = safe.put(pack(bundle), environment_id=environment.pk, field="bundle")
    with safe.kept(sealed), transaction.atomic():
        sealed.save()
        return Bundle.objects.create(
            environment=environment,
            revision=revision,
            exporter=exporter,
            sealed=sealed,
            digest=bundle.digest,
            files=len(bundle.files),
        )


def open_bundle(bundle: Bundle, *, reason: str, by: Any = None) -> contents.Bundle:
    """The same bytes again. Raises vault errors, each one sentence."""
    packed = safe.open_sealed(bundle.sealed, record=recorder("export.opened", subject=bundle, reason=reason, by=by))
    opened = unpack(packed)
    if opened.digest != bundle.digest:
        raise ReadBackError("The sealed export is not the one that was written; apply again to write a new one.")
    return opened


# Seconds for which a process remembers what opens a platform, so that looking every quarter of a minute is neither an
# entry in the audit log each time nor a question to the key's keeper.
REMEMBERED = 15 * 60
_known: dict[UUID, tuple[float, dict[str, str]]] = {}


def connected(destination: Destination, order: int = 0, entered: Mapping[str, str] | None = None) -> Connector:
    """The way to an environment's app. `order`: the fencing number of a rollout's holder; `entered`: secrets
    that are not sealed yet.

    Raises ConnectorError where nobody knows the place, and vault errors."""
    if not destination.is_known:
        raise ConnectorError(f"This server's settings no longer know “{destination.place}”; ask who runs the server.")
    given = {
        "door": settings.DOORS["connectors"],
        "memory": Memory(destination.pk),
        "hand_out": partial(hand_out, destination.environment_id),
    }
    opened = secrets_of(destination) if entered is None else entered
    return connect(destination.connector, {**destination.settings, **opened, **given}, order)


# How long an export may be fetched.
FETCHED_WITHIN = timedelta(minutes=10)


def hand_out(environment_id: UUID, files: contents.Bundle) -> str:
    """The address at which these files can be fetched once. Raises ConnectorError."""
    if not settings.ADDRESS:
        raise ConnectorError(
            "This server does not know its own address, which the receiver needs; set COUNTERSIGN_ADDRESS."
        )
    bundle = Bundle.objects.filter(environment_id=environment_id, digest=files.digest).order_by("-created_at").first()
    if bundle is None:
        raise ConnectorError("This export is not kept here any more; apply again.")
    token = secrets.token_urlsafe(32)
    Handout.objects.create(mark=mark_of(token), bundle=bundle, expires_at=timezone.now() + FETCHED_WITHIN)
    return f"{settings.ADDRESS}/hooks/exports/{token}/"


def mark_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Memory:
    """What a connector keeps, beside its destination (rollouts.connectors.Memory)."""

    destination: Any

    def recall(self) -> str:
        return Destination.objects.filter(pk=self.destination).values_list("memory", flat=True).first() or ""

    def keep(self, words: str) -> None:
        Destination.objects.filter(pk=self.destination).update(memory=words)


def secrets_of(destination: Destination) -> Mapping[str, str]:
    """By name. Raises vault errors."""
    sealed = destination.secrets
    if sealed is None:
        return {}
    now = time.monotonic()
    known = _known.get(sealed.pk)
    if known is not None and known[0] > now:
        return known[1]
    if (sealed.field, sealed.environment_id) != ("credentials", destination.environment_id):
        raise SwappedError("The sealed credentials of the platform belong to something else; enter them again.")
    reason = f"{destination.title} is reached"
    opened = safe.open_sealed(
        sealed, record=recorder("credentials.opened", subject=destination.environment, reason=reason, by=None)
    )
    found: dict[str, str] = json.loads(opened)
    for old in [pk for pk, (until, _found) in list(_known.items()) if until <= now]:
        _known.pop(old, None)
    _known[sealed.pk] = (now + REMEMBERED, found)
    return found


def seal_credentials(destination: Destination, entered: Mapping[str, str]) -> SealedObject:
    """The row of what was sealed, not yet saved."""
    return safe.put(json.dumps(dict(entered)).encode(), environment_id=destination.environment_id, field="credentials")


def forget(sealed: SealedObject | None) -> None:
    """Of what was replaced: here at once, in other processes when they have forgotten it."""
    if sealed is not None:
        _known.pop(sealed.pk, None)
        safe.destroy(sealed)


def pack(bundle: contents.Bundle) -> bytes:
    return json.dumps(
        {
            "format": 2,
            "files": [
                {"path": f.path, "content": base64.b64encode(f.content).decode(), "secret": f.secret}
                for f in bundle.files
            ],
            "sent": {
                slug: {"pfx": base64.b64encode(pfx.pfx).decode(), "password": pfx.password}
                for slug, pfx in bundle.sent.items()
            },
        },
        separators=(",", ":"),
    ).encode()


def unpack(packed: bytes) -> contents.Bundle:
    """Also of format 1, which did not say what its files carry."""
    stored = json.loads(packed)
    return contents.Bundle(
        tuple(File(f["path"], base64.b64decode(f["content"]), f["secret"]) for f in stored["files"]),
        sent={
            slug: WrittenPfx(base64.b64decode(pfx["pfx"]), pfx["password"])
            for slug, pfx in stored.get("sent", {}).items()
        },
    )
