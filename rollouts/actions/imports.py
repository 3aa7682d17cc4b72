"""What runs already, brought in from a configuration of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from certificates import actions as certificates
from certificates import current
from certificates.actions.imports import BroughtIn
from certificates.importing import Plan
from certificates.models import Incoming
from environments.models import Environment
from rollouts.actions.asking import freeze
from rollouts.models import Destination


def bring_in(*, incoming: Incoming, by: Any) -> BroughtIn:
    """Brings in what runs today, as it was previewed."""
    return certificates.bring_in(incoming=incoming, then=partial(_as_running, by), by=by)


def import_now(*, environment: Environment, plan: Plan, by: Any) -> BroughtIn:
    """Brings in what runs today, for a command."""
    return certificates.import_now(environment=environment, plan=plan, then=partial(_as_running, by), by=by)


def _as_running(by: Any, done: BroughtIn) -> None:
    """In an environment that was empty and from which nothing was applied, what came in is what runs, without a
    restart: a revision says so, and its evidence is the word of who imported it."""
    if not (done.was_empty and done.whole):
        return
    destination = Destination.objects.select_for_update(of=("self",)).filter(environment=done.environment).first()
    if destination is None or destination.running_id is not None:
        return
    content = current.content(done.environment)
    reason = _("Imported: what runs today")
    destination.running = freeze(done.environment, content, reason=reason, ticket="", by=by)
    destination.proof, destination.proved_at = "imported", None
    destination.save(update_fields=["running", "proof", "proved_at"])
