"""What is scheduled: in words, for pages; and what is due to be told of it, once each, for whoever tells people."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.models import ClientCertificate
from rollouts import due
from rollouts.models import RevisionEntry, Rollout
from rollouts.states import FINAL

REMIND_BEFORE = timedelta(minutes=60)


# --- In words ---------------------------------------------------------------------------------------------------------


def in_words(rollout: Rollout) -> str:
    """“Revision 15 is scheduled for today 21:00 (Europe/Amsterdam) by Grace.”"""
    assert rollout.revision is not None
    assert rollout.due_at is not None
    named = {"n": rollout.revision.number, "when": due.said(rollout.due_at), "who": rollout.requested_by}
    return _("Revision %(n)d is scheduled for %(when)s by %(who)s.") % named


def since_in_words(count: int) -> str:
    """“2 changes made since then are not part of it.”"""
    if not count:
        return _("Nothing was changed since then.")
    return ngettext(
        "%(n)d change made since then is not part of it.",
        "%(n)d changes made since then are not part of it.",
        count,
    ) % {"n": count}


def holding(certificate: ClientCertificate, rollout: Rollout | None) -> str:
    """What happens to this certificate all the same, where what is scheduled contains it; "" otherwise."""
    if rollout is None or rollout.revision is None or rollout.due_at is None:
        return ""
    if not RevisionEntry.objects.filter(revision=rollout.revision_id, slug=certificate.slug).exists():
        return ""
    return _("It is part of revision %(n)d, scheduled for %(when)s, which runs as it was frozen.") % {
        "n": rollout.revision.number,
        "when": due.said(rollout.due_at),
    }


# --- To be told -------------------------------------------------------------------------------------------------------


def reminders(now: datetime) -> list[Rollout]:
    """What begins within the hour and was not reminded of yet; each is returned once, whoever asks.

    To be called in the transaction that writes down what is told: if that fails, they are returned again.
    """
    soon = Rollout.objects.filter(state="scheduled", due_at__lte=now + REMIND_BEFORE, due_at__gt=now)
    return _taken(soon, "reminded_at", now)


def results(now: datetime) -> list[Rollout]:
    """What was scheduled and has ended, in whichever way, and was not told of yet; once, as `reminders`.

    `rollout.missed` tells those that could not begin when their time came, `rollout.failure` then says why.
    """
    return _taken(Rollout.objects.filter(Q(due_at__isnull=False), state__in=FINAL), "result_told_at", now)


def _taken(found: QuerySet[Rollout], mark: str, now: datetime) -> list[Rollout]:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("what is told once is taken in the transaction that writes it down")
    listed = found.filter(**{mark: None}).select_related("environment__application", "revision", "requester")
    # Two at once: each gets those that it marked itself.
    return [
        rollout
        for rollout in listed.order_by("due_at")
        if Rollout.objects.filter(pk=rollout.pk, **{mark: None}).update(**{mark: now})
    ]
