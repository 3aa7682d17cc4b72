"""Exports that leave the portal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib.auth.hashers import check_password
from django.db import transaction
from django.utils.translation import gettext as _

from audit import trail
from certificates import content as contents
from certificates import current
from certificates.models import ClientCertificate, Version
from environments.attempts import TooManyAttempts, paused
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import exporters, handing, unseal
from rollouts.actions.asking import checked_reason
from rollouts.models import Rollout
from vault.errors import VaultError


def wanted_versions(environment: Environment) -> dict[str, Version]:
    """The versions in use of the enabled certificates, by slug, in order."""
    listed = ClientCertificate.objects.filter(
        environment=environment, enabled=True, removed_at=None, in_use__sealed__isnull=False
    ).select_related("in_use__sealed", "in_use__certificate__environment__application")
    return {c.slug: c.in_use for c in listed if c.in_use is not None}


def export_to_download(
    *, environment: Environment, exporter: str, base_folder: str, reason: str, password: str | None, by: Any
) -> contents.Bundle:
    """Writes the files of an export for a person who entered their password again; `password` is None for commands."""
    reason = checked_reason(reason)
    if password is not None and paused("export.refused", by):
        raise TooManyAttempts(field="password")
    if password is not None and not (isinstance(by, Person) and check_password(password, by.password)):
        trail.refused("export.refused", by=by, subject=environment, exporter=exporter, why="password")
        raise Refused(_("This is not your password; nothing was exported."), field="password")
    content = replace(current.content(environment), base_folder=base_folder.strip())
    try:
        bundle = unseal.export(
            content,
            wanted_versions(environment),
            exporter=exporter,
            trusted=current.authorities(environment, content),
            reason=f"export {exporter}: {reason}",
            by=by,
        )
    except exporters.ExportError as error:
        raise Refused(str(error), field="base_folder") from None
    except (VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error)) from None
    with transaction.atomic():
        trail.record(
            "export.downloaded", by=by, subject=environment, exporter=exporter, reason=reason, content=content.digest,
            digest=bundle.digest, files=[f.path for f in bundle.files],
        )  # fmt: skip
    return bundle


def hand_out(*, rollout: Rollout, password: str, by: Any) -> contents.Bundle:
    """The files that are uploaded by hand, of exactly the export of this rollout, for a person who entered their
    password again."""
    if rollout.state != "handing_over" or rollout.bundle is None or rollout.revision is None:
        raise Refused(_("This rollout does not wait for an upload any more; look at what became of it."))
    if paused("export.refused", by):
        raise TooManyAttempts(field="password")
    if not (isinstance(by, Person) and check_password(password, by.password)):
        trail.refused("export.refused", by=by, subject=rollout.environment, exporter="hand-over", why="password")
        raise Refused(_("This is not your password; nothing was exported."), field="password")
    content = rollout.revision.frozen
    try:
        opened = unseal.open_bundle(rollout.bundle, reason="handed over", by=by)
    except (VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error)) from None
    files = handing.by_hand(opened, content, dict(current.authorities(rollout.environment, content)))
    with transaction.atomic():
        trail.record("handover.downloaded", by=by, subject=rollout, files=[f.path for f in files.files])
    return files
