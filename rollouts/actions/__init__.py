"""What people ask of a running application. One verb, one transaction, one event; the work is done by moves."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from certificates import actions as certificates
from rollouts.actions.asking import (
    MovedOn,
    active_rollout,
    apply,
    archive,
    begin_what_waits,
    cancel,
    checked_reason,
    confirm_handover,
    freeze,
    make_good,
    pending,
    restart,
    roll_back,
    running_content,
    scheduled_rollout,
    start,
    stop,
    why_not_cancelled,
)
from rollouts.actions.exports import export_to_download, hand_out, wanted_versions
from rollouts.actions.imports import bring_in, import_now
from rollouts.actions.incidents import ANNOUNCEMENTS, announce, close_incident, open_incident, withdraw_incident
from rollouts.actions.nudging import nudge
from rollouts.actions.places import (
    check_platform,
    local_processes,
    set_credentials,
    set_health_check,
    start_what_should_run,
    still_starting,
    use_place,
    use_platform,
)
from rollouts.actions.scheduling import begin_early, begin_what_is_due, change_time
from rollouts.actions.series import apply_to_several, cancel_rest
from rollouts.actions.testing import test_connection
from rollouts.actions.undoing import undo_changes
from rollouts.models import Handout
from vault import safe

__all__ = [
    "ANNOUNCEMENTS",
    "MovedOn",
    "active_rollout",
    "announce",
    "apply",
    "apply_to_several",
    "archive",
    "begin_early",
    "begin_what_is_due",
    "begin_what_waits",
    "bring_in",
    "cancel",
    "cancel_rest",
    "change_time",
    "check_platform",
    "checked_reason",
    "close_incident",
    "confirm_handover",
    "export_to_download",
    "freeze",
    "hand_out",
    "import_now",
    "local_processes",
    "make_good",
    "nudge",
    "open_incident",
    "pending",
    "restart",
    "roll_back",
    "running_content",
    "scheduled_rollout",
    "set_credentials",
    "set_health_check",
    "start",
    "start_what_should_run",
    "still_starting",
    "stop",
    "test_connection",
    "tidy",
    "undo_changes",
    "use_place",
    "use_platform",
    "wanted_versions",
    "why_not_cancelled",
    "withdraw_incident",
]


def tidy() -> None:
    """Ends expired drafts and links, and removes the keys of requests that nobody answered and ciphertexts that no row
    knows: what never became a version is gone."""
    certificates.tidy_drafts()
    certificates.tidy_links()
    certificates.tidy_requests()
    Handout.objects.filter(expires_at__lt=timezone.now() - timedelta(days=1)).delete()
    safe.sweep(older_than=timedelta(hours=1))
