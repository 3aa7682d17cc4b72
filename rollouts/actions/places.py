"""Where an environment runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from audit import trail
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import exporters, unseal, watching
from rollouts.actions.asking import active_rollout
from rollouts.connectors import ConnectorError, connect
from rollouts.models import Destination


def use_place(*, environment: Environment, place: str, by: Any) -> Destination:
    """Sets where an environment runs: one of the places that the server's settings list."""
    known = settings.LOCAL_PROCESSES.get(place)
    if known is None:
        raise Refused(_("Choose one of the places that this server knows."), field="place")
    before = _may_be_placed(environment, place, by)
    if before is not None and before.place == place:
        return before
    destination = Destination(
        environment=environment,
        connector=str(known.get("connector", "local-process")),
        exporter=str(known.get("exporter", "mendix-settings")),
        place=place,
    )
    try:
        seen = unseal.connected(destination).observe()
    except ConnectorError as error:
        raise Refused(str(error), field="place") from None
    # What cannot be reached is taken for running: claiming that an app is stopped needs to have been seen.
    destination.wanted_running = seen.status != "stopped"
    with transaction.atomic():
        environments.take_turns(environment)
        # Looking took its time; others may have been quicker.
        before = _may_be_placed(environment, place, by)
        leaving = Destination.objects.filter(place=place).exclude(environment=environment).first()
        if leaving is not None:
            # What runs there is what an archived environment left, and what to go back to if the first apply fails.
            destination.bundle = leaving.bundle
            leaving.delete()
        if before is not None:
            before.delete()
        try:
            with transaction.atomic():
                destination.save(force_insert=True)
        except IntegrityError:
            raise Refused(_("Somebody else has just taken this place; choose another."), field="place") from None
        watching.note_observation(destination, seen)
        environment.base_folder = str(Path(str(known["folder"])) / "current")
        environment.runtime = exporters.exporter(destination.exporter).dialect
        environment.save(update_fields=["base_folder", "runtime"])
        trail.record("environment.placed", by=by, subject=environment, place=place, observed=seen.status)
    return destination


def _may_be_placed(environment: Environment, place: str, by: Any) -> Destination | None:
    """Where the environment runs until now. Raises Refused when it cannot leave that place, or not have the new one."""
    locked = Destination.objects.select_for_update(of=("self",)) if connection.in_atomic_block else Destination.objects
    before = locked.filter(environment=environment).first()
    if before is not None and before.place == place:
        return before
    if active_rollout(environment) is not None:
        raise Refused(
            _("Something is being applied, stopped or started here; wait for it to end, then choose the place."),
            field="place",
        )
    if before is not None and before.running_id is not None:
        raise Refused(
            _("This environment already runs on %(place)s; archive it and set up a new one to run elsewhere.")
            % {"place": before.place},
            field="place",
        )
    holder = locked.filter(place=place).select_related("environment__application").first()
    if holder is None:
        return before
    # An archived environment gives its place to another one of its own application; brought back, it is placed anew.
    gives = holder.environment.archived_at is not None
    owner = isinstance(by, Person) and by.is_superuser
    if not gives or not (owner or holder.environment.application_id == environment.application_id):
        raise Refused(
            _("%(title)s already runs %(environment)s; choose another place.")
            % {
                "title": settings.LOCAL_PROCESSES[place]["title"],
                "environment": holder.environment if not gives else _("something else"),
            },
            field="place",
        )
    return before


def local_processes() -> list[tuple[str, dict[str, Any]]]:
    """The places whose apps are processes of ours; of others the platform takes care."""
    return [
        (k, v) for k, v in settings.LOCAL_PROCESSES.items() if v.get("connector", "local-process") == "local-process"
    ]


def start_what_should_run() -> list[str]:
    """After this machine or the portal was down: starts the apps of local places that should run. Names what failed."""
    failures = []
    places = {d.place: d for d in Destination.objects.filter(connector="local-process")}
    for place, known in local_processes():
        destination = places.get(place)
        if destination is not None and not destination.wanted_running:
            continue
        try:
            connect("local-process", known).start()
        except ConnectorError as error:
            failures.append(f"{known['title']}: {error}")
    return failures


def still_starting() -> list[str]:
    """The titles of local places whose app was started and does not answer yet."""
    titles = []
    for _place, known in local_processes():
        with contextlib.suppress(ConnectorError):
            if connect("local-process", known).observe().status == "starting":
                titles.append(str(known["title"]))
    return titles
