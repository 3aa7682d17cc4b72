"""What runs today comes in: planned from its configuration, opened and looked at, then all of it or nothing."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from audit import trail
from certificates import current, dialects, importing, intake, one_shot
from certificates.actions import drafts, pins, sealing, slots
from certificates.actions.trust import read_authorities, trust
from certificates.content import Content, PinnedTarget, Slot
from certificates.diagnosis import Refusal
from certificates.identities import Identity, only
from certificates.importing import NotImportable, Plan
from certificates.intake import Upload
from certificates.models import ClientCertificate, Draft, Incoming, TrustedAuthority
from certificates.names import Names
from certificates.question import Question
from certificates.targets import Interpretation
from environments.actions import take_turns
from environments.models import Environment
from environments.refusals import Refused
from vault.models import SealedObject

# For all the files of an import; honest ones take a fiftieth of a second each.
OPEN_SECONDS = 20.0


@sensitive_variables("files", "pasted")
def plan_import(
    *, files: Sequence[Upload], pasted: str, environment: Environment | None, known: Mapping[str, Environment]
) -> list[tuple[Environment, Plan]]:
    """What these files describe, for each environment that they name, or for the one that was chosen. `known` are those
    that the person may change, by the names that a list may use in small letters. Raises Refused."""
    try:
        plans = importing.plans(files, pasted)
    except NotImportable as error:
        raise Refused(str(error), field="file") from None
    found = []
    for where, plan in plans.items():
        target = environment if not where else known.get(where.lower())
        if target is None and not where:
            raise Refused(_("Choose the environment that this runs in."), field="environment")
        if target is None:
            raise Refused(
                _("The list names %(where)s, and you may change no environment of this name; correct the list.")
                % {"where": where},
                field="file",
            )
        found.append((target, plan))
    return found


@sensitive_variables("plans")
def keep_import(*, plans: Sequence[tuple[Environment, Plan]], session_key: str, by: Any) -> uuid.UUID:
    """Opens every certificate of the plans and keeps them, sealed, for the preview. Returns their group.

    Raises Refused where one person has had too many files read, VaultUnusable where nothing can be sealed.
    """
    coming = sum(len(plan.certificates) for _environment, plan in plans)
    drafts.refuse_too_many(by, coming)
    group, deadline = uuid.uuid4(), time.monotonic() + OPEN_SECONDS
    for environment, plan in plans:
        incoming = Incoming(
            group=group,
            person=by,
            session=drafts.session_mark(session_key),
            environment=environment,
            expires_at=timezone.now() + drafts.LIVES,
        )
        problems = [*plan.problems, *_conflicts(environment, plan)]
        for place, listed in enumerate(plan.certificates):
            if listed.content is not None and time.monotonic() > deadline:
                problems.append(
                    _("%(file)s was not opened, because those before it took too long; import them in parts.")
                    % {"file": listed.file}
                )
            elif listed.content is not None:
                problems += _keep(incoming, place, listed, session_key, by)
        incoming.plan = told(plan, problems)
        incoming.save()
    return group


@sensitive_variables("listed")
def _keep(incoming: Incoming, place: int, listed: importing.Listed, session_key: str, by: Any) -> list[str]:
    """One certificate as a draft, opened with its password; what is wrong with it."""
    assert listed.content is not None
    files = [Upload(listed.file, listed.content)]
    draft = drafts.new_draft(incoming.environment, files, session_key, by, batch=incoming.pk, place=place)
    try:
        drafts.screen(draft, files)
    except Refusal as refusal:
        drafts.record_refusal(refusal, draft, by)
        return [f"{listed.file}: {refusal}"]
    drafts.save_draft(draft, files)
    try:
        drafts.read_draft(draft=draft, passwords=[listed.password], by=by)
    except Refusal as refusal:
        drafts.drop_draft(draft=draft, by=by)
        return [f"{listed.file}: {refusal}"]
    if not draft.is_read:
        drafts.drop_draft(draft=draft, by=by)
        return [_("%(file)s holds several keys; import each in a file of its own.") % {"file": listed.file}]
    return []


def _conflicts(environment: Environment, plan: Plan) -> list[str]:
    """Why the plan does not fit what is there, and what its runtime cannot be told."""
    wanted = {wish.key: wish for wish in plan.pins}
    there = environment.pins.filter(key__in=wanted).values_list("key", flat=True)
    found = [_("%(key)s is already pinned here; remove that pin first.") % {"key": key} for key in sorted(there)]
    dialect = dialects.dialect_of(environment.runtime)
    for key, wish in sorted(wanted.items()):
        verdict = dialects.expressible(
            Interpretation(wish.kind, key),
            dialect=dialect,
            never=wish.place is None,
            runtime_version=environment.runtime_version,
        )
        if not verdict.possible:
            found.append(verdict.reason)
    if plan.authorities:
        try:
            read_authorities(environment=environment, files=[Upload("authority", one) for one in plan.authorities])
        except (Refused, Refusal) as error:
            found.append(_("A trusted authority cannot be read: %(why)s") % {"why": error})
        if not dialect.authorities:
            found.append(
                _("%(runtime)s takes no trusted authorities from an environment.") % {"runtime": dialect.title}
            )
    return found


def imports_of(*, group: Any, session_key: str, by: Any) -> list[Incoming]:
    """What waits to come in, for the person and session that it is bound to. Raises Refused where nothing is left."""
    found = list(
        Incoming.objects.select_related("environment__application")
        .filter(group=group, person=by, session=drafts.session_mark(session_key), expires_at__gt=timezone.now())
        .order_by("environment__application__name", "environment__position", "pk")
    )
    if not found:
        raise Refused(_("This import has expired or was already brought in; choose the files again."), field="file")
    return found


def drafts_of(incoming: Incoming) -> dict[int, Draft]:
    """Its opened certificates by their place."""
    listed = Draft.objects.filter(batch=incoming.pk, used_at=None, expires_at__gt=timezone.now())
    found = {draft.place: draft for draft in listed.select_related("sealed")}
    for draft in found.values():
        draft.environment = incoming.environment
    return found


def drop_import(*, incoming: Incoming, by: Any) -> None:
    """Forgets what will not come in."""
    for draft in drafts_of(incoming).values():
        drafts.drop_draft(draft=draft, by=by)
    incoming.delete()


@dataclass(frozen=True)
class BroughtIn:
    """What came in: certificates in their order, of which some may be without a key here; pins; authorities."""

    environment: Environment
    certificates: tuple[ClientCertificate, ...]
    pins: int
    authorities: int
    was_empty: bool

    @property
    def whole(self) -> bool:
        """Whether every certificate came with its key, so that what is here is all that runs there."""
        return all(c.in_use is not None and not c.in_use.is_tracked_only for c in self.certificates)


def nothing_more(done: BroughtIn) -> None:
    """What a caller has no more to do."""


def bring_in(*, incoming: Incoming, then: Callable[[BroughtIn], None] = nothing_more, by: Any) -> BroughtIn:
    """Everything of one environment, or nothing; `then` is done in the same transaction."""
    taken = {place: drafts.take(draft) for place, draft in drafts_of(incoming).items()}
    if (
        any(one["given"] and place not in taken for place, one in enumerate(incoming.plan["certificates"]))
        and not (incoming.plan["problems"])
    ):
        raise Refused(_("This import has expired; choose the files again."))
    with transaction.atomic():
        take_turns(incoming.environment)
        # Decides between two confirmations, before drafts do.
        gone, _rows = Incoming.objects.filter(pk=incoming.pk).delete()
        if not gone:
            raise Refused(_("This import was already brought in."))

        def add(place: int, one: Mapping[str, str], names: Names) -> ClientCertificate:
            return _add(incoming.environment, one, taken.get(place), names, by)

        with drafts.using_up([taken[place] for place in sorted(taken)]):
            done = _bring(incoming.environment, incoming.plan, add, by)
            then(done)
            return done


def import_now(
    *, environment: Environment, plan: Plan, then: Callable[[BroughtIn], None] = nothing_more, by: Any
) -> BroughtIn:
    """The same at once, for a command: everything is opened first. Raises Refused with every problem."""
    problems = [*plan.problems, *_conflicts(environment, plan)]
    identities: dict[int, Identity] = {}
    for place, listed in enumerate(plan.certificates):
        if listed.content is not None:
            try:
                identities[place] = _opened(listed)
            except Refusal as refusal:
                problems.append(f"{listed.file}: {refusal}")
    if problems:
        raise Refused(" ".join(dict.fromkeys(problems)))

    def add(place: int, one: Mapping[str, str], names: Names) -> ClientCertificate:
        if place not in identities:
            return slots.add_without_file(environment=environment, name=names.free(one["name"] or one["file"]), by=by)
        facts = slots.columns(identities[place])
        version = slots.unsaved_version(identities[place])
        name = names.free(one["name"]) if one["name"] else names.suggest(version, one["file"])
        return slots.add_sealed(
            environment=environment, name=name, facts=facts, sealed=sealed[place], file_name=one["file"], by=by
        )

    sealed: dict[int, SealedObject | None] = {}
    try:
        for place, identity in identities.items():
            sealed[place] = slots.seal(identity, environment) if identity.key else None
        with transaction.atomic():
            take_turns(environment)
            done = _bring(environment, told(plan, ()), add, by)
            then(done)
            return done
    except BaseException:
        for one in sealed.values():
            if one is not None:
                sealing.forget(one)
        raise


@sensitive_variables("listed")
def _opened(listed: importing.Listed) -> Identity:
    assert listed.content is not None
    files = (Upload(listed.file, listed.content),)
    seen = intake.screen(files)
    reading = one_shot.read(Question(files, (listed.password,), track=not seen.keys))
    return only(identity for identity, _remarks in reading.identities)


def _bring(
    environment: Environment,
    plan: Mapping[str, Any],
    add: Callable[[int, Mapping[str, str], Names], ClientCertificate],
    by: Any,
) -> BroughtIn:
    """Inside a transaction. At its end, what is here now is compared with what was planned."""
    if plan["problems"]:
        raise Refused(_("There are problems to solve first; nothing came in."))
    before = current.content(environment)
    names = Names(environment)
    added = {place: add(place, one, names) for place, one in enumerate(plan["certificates"])}
    for wish in plan["pins"]:
        _pin(environment, wish, added, by)
    authorities: list[TrustedAuthority] = []
    if plan["authorities"]:
        files = [Upload("authority", base64.b64decode(one)) for one in plan["authorities"]]
        read = read_authorities(environment=environment, files=files)
        if fresh := [one for one in read if one.sha256 not in before.authorities]:
            authorities = trust(environment=environment, authorities=fresh, by=by)
    _prove(environment, before, plan, added, authorities)
    trail.record(
        "configuration.imported",
        by=by,
        subject=environment,
        source=plan["source"],
        certificates=len(added),
        pins=len(plan["pins"]),
        authorities=len(authorities),
    )
    was_empty = not (before.slots or before.pins or before.authorities)
    return BroughtIn(environment, tuple(added.values()), len(plan["pins"]), len(authorities), was_empty)


def told(plan: Plan, problems: Sequence[str]) -> dict[str, Any]:
    """The plan as it is kept: nothing in it is secret."""
    return {
        "source": plan.source,
        "certificates": [
            {"name": one.name, "file": one.file, "given": one.content is not None} for one in plan.certificates
        ],
        "pins": [{"kind": wish.kind, "key": wish.key, "place": wish.place} for wish in plan.pins],
        "authorities": [base64.b64encode(one).decode("ascii") for one in plan.authorities],
        "problems": list(dict.fromkeys(problems)),
        "remarks": list(plan.remarks),
    }


def _add(
    environment: Environment, one: Mapping[str, str], taken: drafts.Taken | None, names: Names, by: Any
) -> ClientCertificate:
    if taken is None:
        return slots.add_without_file(environment=environment, name=names.free(one["name"] or one["file"]), by=by)
    version = taken.draft.version()
    name = names.free(one["name"]) if one["name"] else names.suggest(version, taken.draft.file_name)
    return drafts.add_taken(taken, name=name, by=by)


def _pin(environment: Environment, wish: Mapping[str, Any], added: Mapping[int, ClientCertificate], by: Any) -> None:
    """A pin to what is tracked only waits with it: the certificate's page says so."""
    certificate = None if wish["place"] is None else added[wish["place"]]
    pins.pin_imported(
        environment=environment,
        target=Interpretation(wish["kind"], wish["key"]),
        certificate=certificate,
        by=by,
    )


def _prove(
    environment: Environment,
    before: Content,
    plan: Mapping[str, Any],
    added: Mapping[int, ClientCertificate],
    authorities: Sequence[TrustedAuthority],
) -> None:
    """What would be exported now is what was there, and what was planned. Anything else undoes the import."""
    sent = {place: c for place, c in added.items() if c.in_use is not None and not c.in_use.is_tracked_only}
    expected = replace(
        before,
        slots=(*before.slots, *(Slot(c.slug, c.in_use.sha256, chain_of(c)) for c in sent.values() if c.in_use)),
        pins=tuple(
            sorted(
                (
                    *before.pins,
                    *(
                        PinnedTarget(wish["kind"], wish["key"], _slug(added, wish["place"]))
                        for wish in plan["pins"]
                        if wish["place"] is None or wish["place"] in sent
                    ),
                ),
                key=lambda pin: pin.key,
            )
        ),
        authorities=tuple(sorted({*before.authorities, *(one.sha256 for one in authorities)})),
    )
    if current.content(environment) != expected:
        raise Refused(_("What came in is not what was planned; nothing was changed. Try again, and report this."))


def chain_of(certificate: ClientCertificate) -> tuple[str, ...]:
    return tuple(link["sha256"] for link in certificate.in_use.chain) if certificate.in_use else ()


def _slug(added: Mapping[int, ClientCertificate], place: int | None) -> str | None:
    return None if place is None else added[place].slug
