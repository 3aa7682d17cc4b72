"""Where an environment runs."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from audit import trail
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import exporters, health, unseal, watching
from rollouts.actions.asking import active_rollout
from rollouts.connectors import CONNECTORS, LISTED, ConnectorError, Observation, Tick, connect, connector_class
from rollouts.models import Destination
from vault.errors import VaultError


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
    with _said("place"):
        seen = unseal.connected(destination).observe()
    with transaction.atomic():
        _take_place(destination, seen, by)
        environment.base_folder = str(Path(str(known["folder"])) / "current")
        environment.runtime = exporters.exporter(destination.exporter).dialect
        environment.save(update_fields=["base_folder", "runtime"])
        trail.record("environment.placed", by=by, subject=environment, place=place, observed=seen.status)
    return destination


def use_platform(
    *,
    environment: Environment,
    connector: str,
    exporter: str,
    options: Mapping[str, str],
    secrets: Mapping[str, str],
    base_folder: str = "",
    by: Any,
) -> Destination:
    """Sets where an environment runs: an app on a platform that a page describes; or changes how it is reached.

    `options` and `secrets` are by the names that the connector asks for; a secret that is left out stays as it was.
    """
    if connector in LISTED or connector not in CONNECTORS:
        raise Refused(_("Choose one of the platforms."), field="connector")
    there = connector_class(connector)
    if exporter not in (there.exporters or tuple(exporters.EXPORTERS)):
        raise Refused(_("Choose an export that this platform takes."), field="exporter")
    with _said(None):
        identity, _name = there.names(options)
    place = f"{connector}:{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    before = _may_be_placed(environment, place, by)
    stays = before is not None and before.place == place
    if stays and before is not None and before.running_id is not None and before.exporter != exporter:
        raise Refused(_("Something was applied here in this form; the export stays."), field="exporter")
    known = dict(unseal.secrets_of(before)) if stays and before is not None else {}
    destination = Destination(
        environment=environment, connector=connector, exporter=exporter, place=place, options=dict(options)
    )
    entered = known | {name: value for name, value in secrets.items() if value}
    sealed = unseal.seal_credentials(destination, entered)
    destination.secrets = sealed
    try:
        with _said(None):
            seen = unseal.connected(destination, entered=entered).observe()
        with transaction.atomic():
            sealed.save()
            if stays and before is not None:
                old = before.secrets
                before.options, before.secrets, before.exporter = dict(options), sealed, exporter
                before.save(update_fields=["options", "secrets", "exporter"])
                watching.note_observation(before, seen)
                destination = before
            else:
                old = None
                _take_place(destination, seen, by)
            environment.base_folder = base_folder
            environment.runtime = exporters.exporter(exporter).dialect
            environment.save(update_fields=["base_folder", "runtime"])
            trail.record(
                "environment.placed", by=by, subject=environment, place=destination.title, connector=connector,
                options=dict(options), secrets=sorted(name for name, value in secrets.items() if value),
                observed=seen.status,
            )  # fmt: skip
    except BaseException:
        unseal.forget(sealed)
        raise
    unseal.forget(old)
    return destination


def set_credentials(*, environment: Environment, secrets: Mapping[str, str], by: Any) -> Destination:
    """The secrets of a place that the server's settings list."""
    destination = Destination.objects.filter(environment=environment).select_related("secrets").first()
    if destination is None:
        raise Refused(_("Say first where this environment runs, under Settings."))
    wanted = {setting.name for setting in connector_class(destination.connector).asks if setting.is_secret}
    given = {name: value for name, value in secrets.items() if name in wanted and value}
    sealed = unseal.seal_credentials(destination, dict(unseal.secrets_of(destination)) | given)
    old = destination.secrets
    try:
        with transaction.atomic():
            sealed.save()
            Destination.objects.filter(pk=destination.pk).update(secrets=sealed, observed_at=None)
            trail.record("credentials.changed", by=by, subject=environment, secrets=sorted(given))
    except BaseException:
        unseal.forget(sealed)
        raise
    unseal.forget(old)
    destination.secrets = sealed
    return destination


def set_health_check(*, environment: Environment, url: str, status: int, text: str, seconds: int, by: Any) -> None:
    """What has to answer after each restart; an empty address for nothing."""
    url = url.strip()
    if url:
        try:
            health.check_address(url)
        except ValueError as error:
            raise Refused(str(error), field="url") from None
    with transaction.atomic():
        changed = Destination.objects.filter(environment=environment).update(
            health_url=url, health_status=status, health_text=text, health_seconds=seconds
        )
        if not changed:
            raise Refused(_("Say first where this environment runs, under Settings."))
        trail.record("health-check.changed", by=by, subject=environment, url=url, status=status, seconds=seconds)


# In one web process; each takes a thread of its own until it ends.
CHECKS_AT_ONCE = threading.BoundedSemaphore(4)


def check_platform(*, environment: Environment, by: Any) -> list[Tick]:
    """Looks at the platform step by step, without changing or restarting anything."""
    destination = Destination.objects.filter(environment=environment).select_related("secrets").first()
    if destination is None:
        raise Refused(_("Say first where this environment runs, under Settings."))
    if not CHECKS_AT_ONCE.acquire(timeout=1):
        raise Refused(_("Several platforms are being looked at already; try again in a few seconds."))
    ticks: list[Tick] = []
    try:
        for tick in unseal.connected(destination).ticks():
            ticks.append(tick)
    except (ConnectorError, VaultError, unseal.ReadBackError) as error:
        ticks.append(Tick(_("Look at the platform"), "failed", str(error)))
    finally:
        CHECKS_AT_ONCE.release()
    failed = [tick.title for tick in ticks if tick.outcome == "failed"]
    with transaction.atomic():
        trail.record("platform.checked", by=by, subject=environment, place=destination.title, failed=failed)
    return ticks


@contextlib.contextmanager
def _said(field: str | None) -> Iterator[None]:
    try:
        yield
    except (ConnectorError, VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error), field=field or "") from None


def _take_place(destination: Destination, seen: Observation, by: Any) -> None:
    """Inside the caller's transaction."""
    environment, place = destination.environment, destination.place
    # What cannot be reached is taken for running: claiming that an app is stopped needs to have been seen.
    destination.wanted_running = seen.status != "stopped"
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
            % {"place": before.title},
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
                "title": holder.title,
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
