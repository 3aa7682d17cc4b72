"""How an environment stands."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from certificates.models import ClientCertificate
from environments.access import ROLES, Role, get_environment
from environments.models import Environment, Membership
from rollouts.models import Rollout
from rollouts.stages import result, title
from rollouts.standing import Chip, standing

SHOWN = 5


@dataclass(frozen=True)
class RolloutLine:
    """One rollout in a list."""

    rollout: Rollout
    title: str
    result: Chip
    same_minute: bool = False


def rollout_lines(rollouts: list[Rollout], environment: Environment) -> list[RolloutLine]:
    """The rollouts as lines; those that began in the same minute are told apart by their seconds."""
    for rollout in rollouts:
        rollout.environment = environment
    minutes = [rollout.created_at.replace(second=0, microsecond=0) for rollout in rollouts]
    begun = Counter(minutes)
    return [
        RolloutLine(rollout, title(rollout), result(rollout), begun[minute] > 1)
        for rollout, minute in zip(rollouts, minutes, strict=True)
    ]


@require_safe
def environment(request: HttpRequest, app: str, env: str) -> HttpResponse:
    found = get_environment(request.user, app, env)
    certificates = ClientCertificate.objects.filter(environment=found, removed_at=None)
    expiring = certificates.filter(enabled=True, in_use__isnull=False).select_related("in_use")
    last = list(found.rollouts.select_related("revision", "previous")[:SHOWN])
    return render(
        request,
        "rollouts/overview.html",
        {
            "section": "applications",
            "environment": found,
            "standing": standing(found),
            "expiring": expiring.order_by("expires_at", "pk")[:SHOWN],
            "first_run": not last and not certificates.exists(),
            "last_rollouts": rollout_lines(last, found),
            "roles": members_by_role(found),
            "sandbox": f"http://127.0.0.1:{settings.SANDBOX_PORT}/" if settings.SANDBOX else "",
        },
    )


def members_by_role(environment: Environment) -> list[tuple[Role, list[str]]]:
    """Who may do what here: each role that somebody has, with their names."""
    found: dict[str, list[str]] = defaultdict(list)
    here = Q(environment=None) | Q(environment=environment)
    members = Membership.objects.filter(here, application=environment.application, person__is_active=True)
    for membership in members.select_related("person").order_by("person__username"):
        if str(membership.person) not in found[membership.role]:
            found[membership.role].append(str(membership.person))
    return [(role, found[kind]) for kind, role in reversed(ROLES.items()) if kind in found]


@require_safe
def chips(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """Polled while something is under way; the answer after its end asks for no further one."""
    found = get_environment(request.user, app, env)
    stand = standing(found)
    return render(
        request,
        "rollouts/chips.html",
        {"environment": found, "standing": stand, "ended": stand.active is None},
        status=200 if stand.active else 286,
    )
