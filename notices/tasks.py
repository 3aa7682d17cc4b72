"""What the clock asks for every minute: the look that is due, the digests that are due, and the messages that wait."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from notices import digests, sending, telling, watching
from notices.models import Crossing
from rollouts.exchange import Failed, Peer

log = logging.getLogger(__name__)


@shared_task(name="notices.watch")
def watch() -> None:
    now = timezone.now()
    begun = watching.begin(now)
    if begun is not None:
        watching.look(begun, now)
        if timezone.localtime(begun.due_at).hour == 0:
            begun.crossed += watching.look_ahead(now)
        watching.end(begun, telling.tell(now))
        heartbeat()
    elif Crossing.objects.filter(done=False).exists():
        # What a snooze or a missing address held back, and what a look that was cut off had found.
        telling.tell(now)
    telling.tell_of_scheduled(now)
    digests.write(now)


@shared_task(name="notices.send")
def send() -> None:
    sending.send_due(timezone.now())


def heartbeat() -> None:
    """Tells whoever watches the watcher that a look was made to its end; when it stays out, they know."""
    if not settings.HEARTBEAT_URL:
        return
    try:
        answer = Peer(settings.HEARTBEAT_URL, settings.DOORS["notices"]).ask("GET", "")
    except (Failed, ValueError) as error:
        log.warning("the heartbeat was not taken: %s", error)
        return
    if not answer.is_ok:
        log.warning("the heartbeat was not taken: %s answered %s", "its address", answer.status)
