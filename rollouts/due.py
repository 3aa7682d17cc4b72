"""When something is due: a time as people write it in the time zone of this server, and as they read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from environments.refusals import Refused

# Further ahead, nobody remembers what was frozen.
AT_MOST = timedelta(days=30)


def read(text: str) -> datetime:
    """“2026-12-05 21:00” or “2026-12-05T21:00”, in the time zone of this server; with an offset (“+01:00”), in that.

    Raises Refused for what is no time, for an hour that the clocks leave out, and, without an offset, for one that they
    show twice (PEP 495).
    """
    text = text.strip()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or len(text) < len("2026-12-05 21:00"):
        raise Refused(_("Write the time like 2026-12-05 21:00: year, month, day, hours and minutes."), field="at")
    try:
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        zone = timezone.get_default_timezone()
        first, second = (found.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        there = first.astimezone(zone).replace(tzinfo=None) == found
    except OverflowError:
        raise Refused(
            _("Write the time like 2026-12-05 21:00: year, month, day, hours and minutes."), field="at"
        ) from None
    if first == second:
        return first
    named = {"time": f"{found:%H:%M}", "day": date_format(found, "j M Y"), "zone": settings.TIME_ZONE}
    if not there:
        raise Refused(
            _("There is no %(time)s on %(day)s in %(zone)s, because the clocks go forward; choose another time.")
            % named,
            field="at",
        )
    raise Refused(
        _("It is %(time)s twice on %(day)s in %(zone)s, because the clocks go back; choose a time an hour away.")
        % named,
        field="at",
    )


def check(due_at: datetime) -> None:
    """Raises Refused for what has passed, and for what is too far ahead."""
    now = timezone.now()
    if due_at <= now:
        raise Refused(_("%(when)s has passed; choose a later time, or apply now.") % {"when": said(due_at)}, field="at")
    if due_at > now + AT_MOST:
        raise Refused(
            _("%(when)s is too far ahead; choose a time in the next %(n)d days.")
            % {"when": said(due_at), "n": AT_MOST.days},
            field="at",
        )


def said(when: datetime) -> str:
    """“today 21:00 (Europe/Amsterdam)”, “tomorrow 02:00 (…)”, “5 Dec 2026 21:00 (…)”."""
    return f"{day_and_time(when)} ({settings.TIME_ZONE})"


def day_and_time(when: datetime) -> str:
    """The same where the time zone stands beside it."""
    zone = timezone.get_default_timezone()
    local, today = when.astimezone(zone), timezone.now().astimezone(zone).date()
    if local.date() == today:
        return _("today %(time)s") % {"time": f"{local:%H:%M}"}
    if local.date() == today + timedelta(days=1):
        return _("tomorrow %(time)s") % {"time": f"{local:%H:%M}"}
    return date_format(local, "j M Y H:i")


def clock(when: datetime) -> str:
    """“21:00”."""
    return f"{when.astimezone(timezone.get_default_timezone()):%H:%M}"


def zone_in_words(when: datetime | None = None) -> str:
    """“Europe/Amsterdam, UTC+01:00”: the time zone of this server, with its offset then; “UTC” is only that."""
    if settings.TIME_ZONE == "UTC":
        return "UTC"
    offset = f"{(when or timezone.now()).astimezone(timezone.get_default_timezone()):%z}"
    return f"{settings.TIME_ZONE}, UTC{offset[:3]}:{offset[3:]}"


def as_typed(when: datetime) -> str:
    """As a field for a day and a time takes it."""
    return f"{when.astimezone(timezone.get_default_timezone()):%Y-%m-%dT%H:%M}"
