"""The frame around an environment's pages: name, chips, state of the app, banner and tabs."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from environments.access import Right, sentence_for
from environments.models import Environment
from rollouts import scheduled
from rollouts.standing import Standing, downtime_in_words, standing, why_blocked, worker_is_silent

register = template.Library()

TABS = (
    ("overview", "environment", lambda: _("Overview")),
    ("network", "network", lambda: _("Network")),
    ("rollouts", "rollouts", lambda: _("Rollouts")),
    ("export", "export", lambda: _("Export")),
    ("settings", "environment-settings", lambda: _("Settings")),
)


@register.inclusion_tag("rollouts/frame.html", takes_context=True)
def environment_frame(
    context: dict[str, Any], environment: Environment, tab: str, banner: bool = True
) -> dict[str, Any]:
    """Everything above an environment's page. Leaves `standing` in the context for the rest of the page."""
    stand: Standing = context.get("standing") or standing(environment)
    context["standing"] = stand
    silent = stand.active is not None and stand.active.state == "requested" and worker_is_silent()
    may_apply = Right.APPLY in environment.rights
    return {
        "request": context["request"],
        "user": context["user"],
        "csrf_token": context.get("csrf_token"),
        "environment": environment,
        "standing": stand,
        "tab": tab,
        "tabs": [(name, environment.url(route), words()) for name, route, words in TABS],
        "scheduled": scheduled.in_words(stand.scheduled) if stand.scheduled else "",
        "since": scheduled.since_in_words(stand.since_scheduled) if stand.scheduled else "",
        "banner": banner and bool(stand.count) and stand.active is None and stand.destination is not None,
        "named": named(stand, context["user"]) if banner and stand.count else "",
        "may_apply": may_apply,
        "who_may_apply": "" if may_apply else sentence_for(Right.APPLY, environment),
        "may_undo": Right.CERTIFICATES in environment.rights,
        "why_blocked": why_blocked(stand) if banner else None,
        "waits_for_worker": silent,
        "downtime": downtime_in_words(environment) if stand.count and not stand.stopped else "",
        "may_bring_back": environment.archived_at is not None and Right.OWN in environment.rights,
    }


def named(stand: Standing, reader: Any) -> str:
    """The changes in words with who made them: “1 certificate renewed (you), 2 pins added (Ada)”."""
    parts = []
    for what, mark, name, n in stand.named(reader):
        words = WORDS[what, mark](n)
        parts.append(f"{words} ({name})" if name else words)
    return ", ".join(parts)


WORDS = {
    ("certificate", "new"): lambda n: ngettext("%(n)d certificate added", "%(n)d certificates added", n) % {"n": n},
    ("certificate", "changed"): lambda n: (
        ngettext("%(n)d certificate renewed", "%(n)d certificates renewed", n) % {"n": n}
    ),
    ("certificate", "gone"): lambda n: (
        ngettext("%(n)d certificate taken out", "%(n)d certificates taken out", n) % {"n": n}
    ),
    ("certificate", "out"): lambda n: (
        ngettext("%(n)d certificate left out", "%(n)d certificates left out", n) % {"n": n}
    ),
    ("order", "changed"): lambda n: _("order changed"),
    ("pin", "new"): lambda n: ngettext("%(n)d pin added", "%(n)d pins added", n) % {"n": n},
    ("pin", "changed"): lambda n: ngettext("%(n)d pin changed", "%(n)d pins changed", n) % {"n": n},
    ("pin", "gone"): lambda n: ngettext("%(n)d pin removed", "%(n)d pins removed", n) % {"n": n},
    ("pin", "out"): lambda n: ngettext("%(n)d pin left out", "%(n)d pins left out", n) % {"n": n},
    ("setting", "changed"): lambda n: ngettext("%(n)d setting changed", "%(n)d settings changed", n) % {"n": n},
    ("authority", "new"): lambda n: ngettext("%(n)d authority added", "%(n)d authorities added", n) % {"n": n},
    ("authority", "gone"): lambda n: ngettext("%(n)d authority removed", "%(n)d authorities removed", n) % {"n": n},
}
