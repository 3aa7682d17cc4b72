"""Applying to several environments in one go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from environments.actions import take_turns_in
from environments.models import Environment
from environments.refusals import Refused
from rollouts.actions.asking import apply, checked_reason
from rollouts.models import Rollout, Series


def apply_to_several(
    *,
    asked: Sequence[tuple[Environment, str]],
    reason: str,
    ticket: str = "",
    stop_at_failure: bool,
    due_at: datetime | None = None,
    by: Any,
) -> Series:
    """`asked`: environments with the digest of the content that was shown for each, in the order in which they are to
    be applied. What cannot be asked for in one of them is refused for all, so that nothing is half asked for. `due_at`:
    scheduled for then, every one of them; where something is scheduled already, that is such a refusal."""
    if len(asked) < 2:
        raise Refused(_("Choose at least two environments; apply a single one on its own page."))
    reason = checked_reason(reason)
    with transaction.atomic():
        take_turns_in(environment for environment, _shown in asked)
        series = Series.objects.create(
            reason=reason, ticket=ticket.strip()[:100], stops_at_failure=stop_at_failure, created_by=str(by)
        )
        for position, (environment, shown) in enumerate(asked):
            try:
                apply(
                    environment=environment, shown=shown, reason=reason, ticket=ticket, series=series,
                    position=position, due_at=due_at, by=by,
                )  # fmt: skip
            except Refused as error:
                raise Refused(
                    _("Nothing was applied. %(environment)s: %(sentence)s")
                    % {"environment": environment, "sentence": error},
                    field=error.field if error.field in ("reason", "ticket", "at") else "",
                ) from None
        trail.record("series.requested", by=by, subject=series, environments=len(asked), stops=stop_at_failure)
    return series


def cancel_rest(*, series: Series, by: Any) -> int:
    """Takes back those that have not begun. Returns how many."""
    now = timezone.now()
    with transaction.atomic():
        ended = {"state": "cancelled", "state_since": now, "finished_at": now}
        taken = Rollout.objects.filter(series=series, state__in=("scheduled", "waiting")).update(
            **ended, sentence="Cancelled before it began; nothing was changed."
        )
        if not taken:
            raise Refused(_("None of them waits any more."))
        trail.record("series.cancelled", by=by, subject=series, rollouts=taken)
    return taken
