"""What people ask of a running application. One verb, one transaction, one event; the work is done by moves."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from audit.actors import PORTAL
from certificates import actions as certificates
from certificates import content as contents
from certificates import current
from certificates.actions.imports import BroughtIn
from certificates.content import Content
from certificates.importing import Plan
from certificates.models import ClientCertificate, Incoming, Pin, Version
from environments import actions as environments
from environments.attempts import TooManyAttempts, paused
from environments.models import Environment, Person
from environments.refusals import Refused
from environments.tickets import checked_ticket
from rollouts import connections, exporters, unseal, watching
from rollouts.changes import Change, changes, nothing
from rollouts.connectors import ConnectorError, Observation
from rollouts.models import ConnectionTest, Destination, Revision, RevisionEntry, Rollout, Step
from rollouts.states import ACTIVE, CANCELLABLE, FINAL, Kind
from vault import safe
from vault.errors import VaultError

log = logging.getLogger(__name__)

# For how long after a rollout's end one of its calls may still come late.
LATE = timedelta(days=1)


# --- What is not running ----------------------------------------------------------------------------------------------


def running_content(environment: Environment, wanted: Content) -> Content:
    """What runs, as far as it was applied from here; nothing, in the wanted settings, before the first apply."""
    destination = Destination.objects.filter(environment=environment).select_related("running").first()
    if destination is None or destination.running is None:
        return nothing(wanted)
    return destination.running.frozen


def pending(environment: Environment) -> tuple[Content, tuple[Change, ...]]:
    """The wanted content, and the changes from what runs to it."""
    wanted = current.content(environment)
    return wanted, changes(running_content(environment, wanted), wanted)


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
        seen = destination.connect().observe()
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


# --- Asking for a rollout ---------------------------------------------------------------------------------------------


def apply(
    *,
    environment: Environment,
    shown: str,
    reason: str,
    ticket: str = "",
    start: bool | None = None,
    insist: bool = False,
    despite_tests: bool = False,
    by: Any,
) -> Rollout:
    """Freezes the wanted content as a revision and asks for it to be made to run.

    `shown` is the digest of the content that the person saw; when the content moved on, nothing happens. `start` asks
    for a stopped app to be started. `insist` applies content that failed before. `despite_tests` goes on where a
    connection test is refused.
    """
    reason, ticket = _reason(reason), checked_ticket(ticket, environment.ticket_pattern)
    with transaction.atomic():
        environments.take_turns(environment)
        destination = _destination(environment)
        wanted, found = pending(environment)
        if wanted.digest != shown:
            raise MovedOn(_("Somebody changed something meanwhile; look at the changes once more, then apply."))
        if not found and destination.running is not None:
            raise Refused(
                _("Nothing has changed since revision %(n)d; restart only, if you want to.")
                % {"n": destination.running.number}
            )
        for obstacle in exporters.obstacles(destination.exporter, wanted):
            raise Refused(obstacle)
        if destination.blocked_digest == wanted.digest and not insist:
            raise Refused(
                _("This configuration failed and is blocked; change something, or tick “Try it again all the same”."),
                field="insist",
            )
        revision = freeze(environment, wanted, reason=reason, ticket=ticket, by=by)
        rollout = _request(
            destination,
            Kind.APPLY,
            revision=revision,
            start_after=destination.wanted_running if start is None else start,
            despite_tests=despite_tests,
            reason=reason,
            ticket=ticket,
            by=by,
        )
        trail.record(
            "rollout.requested", by=by, subject=rollout, kind="apply", revision=revision.number, changes=len(found),
            reason=reason, ticket=ticket,
        )  # fmt: skip
    return rollout


class MovedOn(Refused):
    """The content is not the one that was shown."""


def freeze(environment: Environment, content: Content, *, reason: str, ticket: str, by: Any) -> Revision:
    """The next revision: the whole content, immutable, inside the caller's transaction."""
    newest = Revision.objects.filter(environment=environment).aggregate(Max("number"))["number__max"] or 0
    revision = Revision.objects.create(
        environment=environment,
        number=newest + 1,
        content=content.canonical(),
        digest=content.digest,
        reason=reason,
        ticket=ticket,
        created_by=str(by),
    )
    versions = {
        c.slug: c.in_use
        for c in ClientCertificate.objects.filter(environment=environment, removed_at=None).select_related("in_use")
    }
    RevisionEntry.objects.bulk_create(
        RevisionEntry(revision=revision, slug=slot.slug, version=versions[slot.slug], position=position)
        for position, slot in enumerate(content.slots, start=1)
    )
    return revision


def roll_back(*, environment: Environment, revision: Revision, reason: str, ticket: str = "", by: Any) -> Rollout:
    """Makes an earlier revision run again. The wanted content stays; what differs then waits as changes."""
    reason, ticket = _reason(reason), checked_ticket(ticket, environment.ticket_pattern)
    with transaction.atomic():
        environments.take_turns(environment)
        destination = _destination(environment)
        if destination.running_id == revision.pk:
            raise Refused(_("Revision %(n)d is running already.") % {"n": revision.number})
        if revision.frozen.base_folder != environment.base_folder:
            raise Refused(
                _("Revision %(n)d was made for another folder; apply what it holds as changes instead.")
                % {"n": revision.number}
            )
        if not revision.rollouts.filter(state="verified").exists():
            raise Refused(_("Revision %(n)d never ran here; apply it as changes instead.") % {"n": revision.number})
        rollout = _request(
            destination,
            Kind.ROLL_BACK,
            revision=revision,
            start_after=destination.wanted_running,
            reason=reason,
            ticket=ticket,
            by=by,
        )
        trail.record(
            "rollout.requested",
            by=by,
            subject=rollout,
            kind="roll-back",
            revision=revision.number,
            reason=reason,
            ticket=ticket,
        )
    return rollout


def restart(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    """Restarts with what runs; changes stay waiting."""
    return _without_delivery(environment, Kind.RESTART, reason, by)


def stop(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    return _without_delivery(environment, Kind.STOP, reason, by)


def start(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    """Starts a stopped app as it was before; changes stay waiting."""
    return _without_delivery(environment, Kind.START, reason, by)


def _without_delivery(environment: Environment, kind: Kind, reason: str, by: Any) -> Rollout:
    with transaction.atomic():
        destination = _destination(environment)
        stopped = not destination.wanted_running and destination.observed_status == "stopped"
        if kind in (Kind.STOP, Kind.RESTART) and stopped:
            raise Refused(_("The app is stopped; start it instead."))
        if kind == Kind.START and destination.wanted_running and destination.observed_status == "running":
            raise Refused(_("The app is running already."))
        rollout = _request(
            destination, kind, revision=destination.running, start_after=kind != Kind.STOP, reason=reason.strip()[:500],
            ticket="", by=by,
        )  # fmt: skip
        trail.record("rollout.requested", by=by, subject=rollout, kind=str(kind), reason=reason)
    return rollout


def make_good(destination: Destination, seen: Observation) -> Rollout | None:
    """Puts right what a worker that was held up did after others had gone on: an app that ought to run and was stopped
    late is started again, and the other way round. An app that ended by itself is nobody's late call; it is left alone.

    Late is a stop or start whose outcome came after its rollout's end, or is still open (its worker may yet make it).
    """
    down = destination.wanted_running and seen.status == "stopped"
    up = not destination.wanted_running and bool(seen.incarnation)
    if not (down or up):
        return None
    late = Step.objects.filter(
        rollout__environment=destination.environment_id,
        rollout__state__in=FINAL,
        rollout__finished_at__gt=timezone.now() - LATE,
        call="stop" if down else "start",
    ).filter(Q(outcome="") | Q(ended_at__gt=F("rollout__finished_at"), outcome="ok"))
    with transaction.atomic():
        if not late.update(outcome="warn", result=_("came too late, and is made good")):
            return None
        reason = _("A worker that was held up called the app late.")
        kind = Kind.START if down else Kind.STOP
        rollout = _request(
            destination, kind, revision=destination.running, start_after=down, reason=reason, ticket="", by=PORTAL
        )
        trail.record("rollout.requested", by=PORTAL, subject=rollout, kind=str(kind), reason=reason)
    return rollout


def _request(
    destination: Destination,
    kind: Kind,
    *,
    revision: Revision | None,
    start_after: bool,
    reason: str,
    ticket: str,
    despite_tests: bool = False,
    by: Any,
) -> Rollout:
    tests = destination.environment.connection_tests
    delivers = kind in (Kind.APPLY, Kind.ROLL_BACK)
    busy = Refused(_("Something is already being applied, stopped or started here; wait for it to end."))
    # Looked for beforehand: while a worker is ending one, the constraint would wait for that worker, and it for us.
    if Rollout.objects.filter(environment=destination.environment_id, state__in=ACTIVE).exists():
        raise busy
    try:
        with transaction.atomic():
            rollout = Rollout.objects.create(
                environment_id=destination.environment_id,
                kind=kind,
                revision=revision,
                bundle=None if delivers else destination.bundle,
                previous=destination.running,
                previous_bundle=destination.bundle,
                start_after=start_after,
                connection_tests="warn" if tests == "block" and despite_tests else tests,
                reason=reason,
                ticket=ticket,
                requested_by=str(by),
            )
    except IntegrityError:
        # one_active_rollout_per_environment
        raise busy from None
    transaction.on_commit(partial(nudge, rollout.pk))
    return rollout


def cancel(*, rollout: Rollout, by: Any) -> None:
    """Takes a rollout back while no worker has begun it."""
    with transaction.atomic():
        now = timezone.now()
        taken = Rollout.objects.filter(pk=rollout.pk, state__in=CANCELLABLE, fence=0).update(
            state="cancelled",
            state_since=now,
            finished_at=now,
            sentence="Cancelled before it began; nothing was changed.",
        )
        if not taken:
            raise Refused(
                _("It has begun and cannot be cancelled any more; it ends in the new configuration or in the old one.")
            )
        trail.record("rollout.cancelled", by=by, subject=rollout)


def _destination(environment: Environment) -> Destination:
    # Locked where the database can, so that of two requests at once the second sees the first one's rollout.
    destination = (
        Destination.objects.select_for_update(of=("self",))
        .filter(environment=environment)
        .select_related("running", "bundle", "environment__application")
        .first()
    )
    if destination is None:
        raise Refused(_("Say first where this environment runs, under Settings."))
    if destination.place not in settings.LOCAL_PROCESSES:
        raise Refused(
            _("This server's settings no longer know “%(place)s”; ask who runs the server.")
            % {"place": destination.place}
        )
    return destination


def archive(*, environment: Environment, by: Any) -> None:
    """Takes an environment off the lists, unless something is under way; what runs there goes on running."""
    with transaction.atomic():
        environments.take_turns(environment)
        Destination.objects.select_for_update().filter(environment=environment).first()
        if active_rollout(environment) is not None:
            raise Refused(_("Something is being applied, stopped or started here; wait for it to end, then archive."))
        environments.archive_environment(environment=environment, by=by)


def _reason(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise Refused(_("Say why, in a few words; it stands beside the revision."), field="reason")
    if len(text) > 500:
        raise Refused(_("Use at most 500 characters."), field="reason")
    return text


# --- Undoing ----------------------------------------------------------------------------------------------------------


def undo_changes(*, environment: Environment, shown: str, by: Any) -> None:
    """Puts the page back to what runs. `shown` is the digest that the person saw."""
    with transaction.atomic():
        environments.take_turns(environment)
        wanted, found = pending(environment)
        if wanted.digest != shown:
            raise MovedOn(_("Somebody changed something meanwhile; look at the changes once more."))
        if not found:
            raise Refused(_("There is nothing to undo."))
        if active_rollout(environment) is not None:
            raise Refused(_("Something is being applied, stopped or started here; wait for it to end, then undo."))
        destination = Destination.objects.filter(environment=environment).select_related("running").first()
        running = destination.running if destination else None
        versions: dict[str, Version] = {}
        if running is not None:
            versions = {e.slug: e.version for e in running.entries.select_related("version")}
        certificates.restore(
            environment=environment,
            content=running.frozen if running is not None else nothing(wanted),
            versions=versions,
            by=by,
        )


# --- What runs already ------------------------------------------------------------------------------------------------


def bring_in(*, incoming: Incoming, by: Any) -> BroughtIn:
    """Brings in what runs today, as it was previewed."""
    return certificates.bring_in(incoming=incoming, then=partial(_as_running, by), by=by)


def import_now(*, environment: Environment, plan: Plan, by: Any) -> BroughtIn:
    """Brings in what runs today, for a command."""
    return certificates.import_now(environment=environment, plan=plan, then=partial(_as_running, by), by=by)


def _as_running(by: Any, done: BroughtIn) -> None:
    """In an environment that was empty and from which nothing was applied, what came in is what runs, without a
    restart: a revision says so, and its evidence is the word of who imported it."""
    if not (done.was_empty and done.whole):
        return
    destination = Destination.objects.select_for_update(of=("self",)).filter(environment=done.environment).first()
    if destination is None or destination.running_id is not None:
        return
    content = current.content(done.environment)
    reason = _("Imported: what runs today")
    destination.running = freeze(done.environment, content, reason=reason, ticket="", by=by)
    destination.proof, destination.proved_at = "imported", None
    destination.save(update_fields=["running", "proof", "proved_at"])


# --- Exports that leave the portal ------------------------------------------------------------------------------------


def wanted_versions(environment: Environment) -> dict[str, Version]:
    """The versions in use of the enabled certificates, by slug, in order."""
    listed = ClientCertificate.objects.filter(
        environment=environment, enabled=True, removed_at=None, in_use__sealed__isnull=False
    ).select_related("in_use__sealed", "in_use__certificate__environment__application")
    return {c.slug: c.in_use for c in listed if c.in_use is not None}


def export_to_download(
    *, environment: Environment, exporter: str, base_folder: str, reason: str, password: str | None, by: Any
) -> contents.Bundle:
    """Writes the files of an export for a person who entered their password again; `password` is None for commands."""
    reason = _reason(reason)
    if password is not None and paused("export.refused", by):
        raise TooManyAttempts(field="password")
    if password is not None and not (isinstance(by, Person) and check_password(password, by.password)):
        trail.refused("export.refused", by=by, subject=environment, exporter=exporter, why="password")
        raise Refused(_("This is not your password; nothing was exported."), field="password")
    content = replace(current.content(environment), base_folder=base_folder.strip())
    try:
        bundle = unseal.export(
            content,
            wanted_versions(environment),
            exporter=exporter,
            trusted=current.authorities(environment, content),
            reason=f"export {exporter}: {reason}",
            by=by,
        )
    except exporters.ExportError as error:
        raise Refused(str(error), field="base_folder") from None
    except (VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error)) from None
    with transaction.atomic():
        trail.record(
            "export.downloaded", by=by, subject=environment, exporter=exporter, reason=reason, content=content.digest,
            digest=bundle.digest, files=[f.path for f in bundle.files],
        )  # fmt: skip
    return bundle


# --- Testing connections ----------------------------------------------------------------------------------------------


# In one web process; each takes a thread of its own until it ends.
TESTS_AT_ONCE = threading.BoundedSemaphore(4)


def test_connection(*, pin: Pin, by: Any) -> ConnectionTest:
    """Tries the connection that a pin is for, with the certificate that it would send after the next apply."""
    environment = pin.environment
    destination = Destination.objects.filter(environment=environment).first()
    asked = connections.of_pins(environment, destination, [pin.pk])
    if not asked:
        raise Refused(
            _("“%(name)s” is disabled or has no private key here, so nothing can be sent; enable it first.")
            % {"name": pin.certificate}
        )
    (one,) = asked
    if not TESTS_AT_ONCE.acquire(timeout=1):
        raise Refused(_("Several connections are being tested already; try again in a few seconds."))
    try:
        version = pin.certificate.in_use if pin.certificate else None
        identities = {}
        if version is not None and one.slot is not None and one.address is not None:
            identities[one.slot.slug] = unseal.identity_of(version, reason=f"connection test of {pin.key}", by=by)
        authorities = connections.trusted(environment, destination, current.content(environment))
        ((_one, finding),) = connections.tried(asked, identities, authorities)
    except (VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error)) from None
    finally:
        TESTS_AT_ONCE.release()
    with transaction.atomic():
        made = connections.kept(environment, one, finding, version=version, by=by)
        trail.record(
            "connection.tested", by=by, subject=pin, target=pin.key, address=made.address, verdict=made.verdict,
            certificate=pin.certificate.name if pin.certificate else None,
        )  # fmt: skip
    return made


# --- Nudging ----------------------------------------------------------------------------------------------------------


# Seconds that a person waits for a queue that does not answer.
NUDGE_LIMIT = 1.5


def nudge(rollout_id: UUID, after: float = 0) -> None:
    """Tells a worker that there is something to do `after` as many seconds. The queue may be down, or hang: the sweep
    says it again."""
    # A thread, because a name that does not resolve or a peer that stands still keeps to no client's time limit. With
    # this thread's context, so that the worker's lines bear the number of the request that asks.
    telling = threading.Thread(target=contextvars.copy_context().run, args=(_tell, rollout_id, after), daemon=True)
    telling.start()
    telling.join(NUDGE_LIMIT)


def _tell(rollout_id: UUID, after: float) -> None:
    try:
        current_app.send_task("rollouts.advance", args=[str(rollout_id)], countdown=after or None, ignore_result=True)
    except Exception:
        log.warning("rollout %s: the queue did not take the nudge; the sweep will repeat it", rollout_id, exc_info=True)


def active_rollout(environment: Environment) -> Rollout | None:
    return Rollout.objects.filter(environment=environment, state__in=ACTIVE).first()


def tidy() -> None:
    """Removes expired drafts, and ciphertexts that no row knows: an upload that never became a version is gone."""
    certificates.tidy_drafts()
    safe.sweep(older_than=timedelta(hours=1))


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
            (destination or Destination(connector="local-process", place=place)).connect().start()
        except ConnectorError as error:
            failures.append(f"{known['title']}: {error}")
    return failures


def still_starting() -> list[str]:
    """The titles of local places whose app was started and does not answer yet."""
    titles = []
    for place, known in local_processes():
        with contextlib.suppress(ConnectorError):
            if Destination(connector="local-process", place=place).connect().observe().status == "starting":
                titles.append(str(known["title"]))
    return titles
