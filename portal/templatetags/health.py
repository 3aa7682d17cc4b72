"""What any page may have to say about the installation itself."""

from __future__ import annotations

from django import template
from django.db.models import Max
from django.utils.translation import gettext as _

from portal import logs
from portal.health import parts
from portal.templatetags.page import moment
from rollouts.models import Pulse
from rollouts.pulses import CLOCK, WORKER

register = template.Library()


@register.simple_tag
def request_number() -> str:
    """The number under which this request stands in the log; needs no context, so that the page of a failure has it."""
    return logs.request_id()


@register.simple_tag
def silence() -> str:
    """One sentence where worker or clock are silent, else "". One query."""
    newest = dict(
        Pulse.objects.filter(kind__in=(WORKER, CLOCK)).values_list("kind").annotate(Max("at")).order_by("kind")
    )
    silent = [kind for kind in (WORKER, CLOCK) if parts.is_silent(kind, newest.get(kind), parts.STARTED)]
    if not silent:
        return ""
    since = max((at for at in newest.values()), default=None)
    if silent == [CLOCK]:
        said = _("The clock is silent, so apps are not looked after.")
    else:
        said = _("No worker shows itself, so what is asked for may wait.")
    if since is None:
        return said
    kind = CLOCK if silent == [CLOCK] else WORKER
    return _("%(said)s Last sign of life: %(when)s.") % {"said": said, "when": moment(newest.get(kind, since))}
