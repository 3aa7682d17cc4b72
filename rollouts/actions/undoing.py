"""Putting the page back to what runs."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from certificates import actions as certificates
from certificates.models import Version
from environments import actions as environments
from environments.models import Environment
from environments.refusals import Refused
from rollouts.actions.asking import MovedOn, active_rollout, pending
from rollouts.changes import nothing
from rollouts.models import Destination


def undo_changes(*, environment: Environment, shown: str, despite: str = "", by: Any) -> None:
    """Puts the page back to what runs. `shown` is the digest that the person saw; `despite` says why, if a compromised
    key comes back by it (certificates.compromised)."""
    with transaction.atomic():
        environments.take_turns(environment)
        wanted, found = pending(environment)
        if wanted.digest != shown:
            raise MovedOn(_("Somebody changed something meanwhile; look at the changes once more."))
        if not found:
            raise Refused(_("There is nothing to undo."))
        if active_rollout(environment) is not None:
            raise Refused(_("Something is being applied, stopped or started here; wait for it to end, then undo."))
        destination = Destination.objects.filter(environment=environment).select_related("running").first()
        running = destination.running if destination else None
        versions: dict[str, Version] = {}
        if running is not None:
            versions = {e.slug: e.version for e in running.entries.select_related("version__certificate")}
        certificates.restore(
            environment=environment,
            content=running.frozen if running is not None else nothing(wanted),
            versions=versions,
            despite=despite,
            by=by,
        )
