"""Rollouts and revisions: the lists, the live page of a rollout, the frozen content of a revision, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Case, Count, Exists, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Length, Replace
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates.compromised import look_up
from certificates.models import ClientCertificate
from certificates.targets import WORDS
from environments.access import Right, get_environment
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions, connections, due, reports, scheduled
from rollouts.changes import Change, changes, nothing
from rollouts.differences import SETTING_WORDS, Side, answers_that_change, lines, sent
from rollouts.forms import RollBackForm, ScheduleForm
from rollouts.models import Destination, Pulse, Revision, RevisionEntry, Rollout
from rollouts.stages import evidence, if_it_fails, log_lines, result, stages, title, way_back
from rollouts.standing import Chip, downtime_in_words, silent_since, standing
from rollouts.views.overview import rollout_lines

A_PAGE = 25
# Of what a rollout changes; its revision's page has everything.
LINES_SHOWN = 200


@dataclass(frozen=True)
class RevisionLine:
    """One revision in a list, with how it fared and whether it can run again."""

    revision: Revision
    certificates: int
    pins: int
    result: Chip
    returns: bool


@require_safe
def rollouts(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    stand = standing(environment)
    listed = Paginator(environment.rollouts.select_related("revision", "previous"), A_PAGE)
    frozen = Paginator(counted(environment.revisions.prefetch_related("rollouts")), A_PAGE)
    page, revisions = listed.get_page(request.GET.get("page")), frozen.get_page(request.GET.get("revisions"))
    context = {
        "environment": environment,
        "standing": stand,
        "page": page,
        "lines": rollout_lines(list(page), environment),
        "revisions_page": revisions,
        "revisions": [_revision_line(revision, stand.destination) for revision in revisions],
    }
    return render(request, "rollouts/rollouts.html", {"section": "applications", **context})


def counted(revisions: QuerySet[Revision]) -> QuerySet[Revision]:
    """With the numbers of their certificates and pins, and without their contents, which are as long as these are many.

    In the canonical form each pin has its `"key":` once, and no text in it can spell that, because quotation marks in
    texts are escaped.
    """
    entries = RevisionEntry.objects.filter(revision=OuterRef("pk")).order_by().values("revision")
    without = Replace("content", Value('"key":'), Value(""))
    return revisions.defer("content").annotate(
        certificates=Coalesce(Subquery(entries.annotate(n=Count("pk")).values("n")), 0),
        pins=(Length("content") - Length(without)) / len('"key":'),
    )


def _revision_line(revision: Any, destination: Destination | None) -> RevisionLine:
    states = {rollout.state for rollout in revision.rollouts.all()}
    running = destination is not None and destination.running_id == revision.pk
    if running:
        chip = Chip(_("In place"), "good", "check")
    elif "verified" in states:
        chip = Chip(_("Ran before"), "plain", "circle")
    elif states & {"rolled_back", "needs_help", "refused"}:
        chip = Chip(_("Failed"), "bad", "alert")
    else:
        chip = Chip(_("Never ran"), "plain", "circle")
    returns = "verified" in states and not running
    return RevisionLine(revision, revision.certificates, revision.pins, chip, returns)


def _rollout(environment: Environment, pk: UUID) -> Rollout:
    """The rollout with all that its page says of others, in one query, because it is asked for every second: where the
    environment runs, and when a worker was last seen. The contents of revisions are left where they are."""
    last_seen = Pulse.objects.filter(kind="worker").order_by("-at").values("at")[:1]
    # As the canonical form writes it (certificates.content); asked for only where it decides something.
    holds = Q(content__contains='"pins":[{') | Q(content__contains='"slots":[{')
    first = Exists(Revision.objects.filter(holds, pk=OuterRef("revision")))
    found = (
        environment.rollouts.select_related("revision", "previous", "bundle", "environment__destination")
        .defer("revision__content", "previous__content")
        .annotate(
            worker_seen=Subquery(last_seen),
            first_that_holds=Case(When(previous=None, finished_at__isnull=False, then=first), default=Value(False)),
        )
    )
    rollout: Rollout = get_object_or_404(found, pk=pk)
    rollout.destination = getattr(rollout.environment, "destination", None)  # type: ignore[attr-defined]
    rollout.environment = environment
    if rollout.destination is not None:  # type: ignore[attr-defined]
        environment.destination = rollout.destination  # type: ignore[attr-defined]
    return rollout


def _told(rollout: Any) -> dict[str, Any]:
    """What the live part of a rollout's page says."""
    steps = list(rollout.steps.all())
    return {
        "environment": rollout.environment,
        "rollout": rollout,
        "title": title(rollout),
        "result": result(rollout),
        "stages": stages(rollout, steps),
        "log": log_lines(rollout, steps),
        "if_it_fails": if_it_fails(rollout),
        "evidence": evidence(rollout),
        "tests": tests_of(rollout),
        "may_cancel": Right.APPLY in rollout.environment.rights and not actions.why_not_cancelled(rollout),
        "why_not_cancelled": "" if rollout.is_final else actions.why_not_cancelled(rollout),
        "may_move": Right.APPLY in rollout.environment.rights and rollout.state == "scheduled",
        "scheduled": scheduled.in_words(rollout) if rollout.state == "scheduled" else "",
        "zone": due.zone_in_words(rollout.due_at) if rollout.due_at else "",
        "waits_for_worker": rollout.state == "requested" and silent_since(rollout.worker_seen),
        "app": _app_that_runs(rollout),
    }


@dataclass(frozen=True)
class TestLine:
    """One target of a rollout: its tests before the restart, after it, and when what ran before was back."""

    key: str
    address: str
    before: connections.Told | None
    after: connections.Told | None
    back: connections.Told | None


def tests_of(rollout: Rollout) -> list[TestLine]:
    """What a server that turns us away was asked, first."""
    told: dict[str, dict[str, connections.Told]] = {}
    listed = rollout.tests.order_by("key").only(
        "rollout", "key", "address", "moment", "verdict", "sentence", "caution", "tested_at"
    )
    for test in listed[: 3 * LINES_SHOWN]:
        told.setdefault(test.key, {})[test.moment] = connections.told(test)
    lines = [
        TestLine(key, next(iter(by.values())).test.address, by.get("before"), by.get("after"), by.get("back"))
        for key, by in told.items()
    ]
    return sorted(
        lines, key=lambda line: not any(one and one.turned_away for one in (line.before, line.after, line.back))
    )


def _app_that_runs(rollout: Any) -> str:
    """The address of the app that this rollout left running, "" where it has none."""
    destination: Destination | None = rollout.destination
    if destination is None or rollout.state != "verified" or not destination.wanted_running:
        return ""
    return destination.address


@require_safe
def rollout(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    found = _rollout(environment, pk)
    differ = _what_changes(found)
    told = {"lines": lines(environment, differ[:LINES_SHOWN]), "more_lines": max(0, len(differ) - LINES_SHOWN)}
    context = {"section": "applications", **told, **_told(found)}
    if differ and found.revision is not None:
        wanted = found.revision.frozen
        before = found.previous.frozen if found.previous else nothing(wanted)
        context["answers"] = answers_that_change(environment, before, wanted)
    return render(request, "rollouts/rollout.html", context)


@require_safe
def report(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """The same as a file, whole."""
    environment = get_environment(request.user, app, env)
    found = _rollout(environment, pk)
    told = reports.report(found, found.steps.all(), lines(environment, _what_changes(found)))
    answer = JsonResponse(told, json_dumps_params={"indent": 2, "ensure_ascii": False})
    answer["Content-Disposition"] = f'attachment; filename="{app}-{env}-rollout-{str(pk)[:8]}.json"'
    return answer


@require_safe
def live(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Polled while it is under way; the answer after its end asks for no further one."""
    found = _rollout(get_environment(request.user, app, env), pk)
    status = 286 if found.is_final else 200
    context = {**_told(found), "polled": True, "changes_something": found.is_final and _delivers_a_change(found)}
    return render(request, "rollouts/live.html", context, status=status)


def _delivers_a_change(rollout: Any) -> bool:
    """Whether `_what_changes` has any, without reading either content: equal content has equal digests."""
    if rollout.revision is None or rollout.kind not in ("apply", "roll-back"):
        return False
    if rollout.previous is None:
        return bool(rollout.first_that_holds)
    return bool(rollout.previous.digest != rollout.revision.digest)


def _what_changes(rollout: Rollout) -> tuple[Change, ...]:
    """From what ran when it was asked for to what it delivers; nothing for a stop, start or restart."""
    if rollout.revision is None or rollout.kind not in ("apply", "roll-back"):
        return ()
    wanted = rollout.revision.frozen
    before = rollout.previous.frozen if rollout.previous else nothing(wanted)
    return changes(before, wanted)


@require_POST
def cancel(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    found = _rollout(get_environment(request.user, app, env, to=Right.APPLY), pk)
    try:
        actions.cancel(rollout=found, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("Cancelled; nothing was changed."))
    return redirect(found)


@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Another time for what is scheduled; or no other time: now."""
    environment = get_environment(request.user, app, env, to=Right.APPLY)
    found = _rollout(environment, pk)
    if found.state != "scheduled" or found.due_at is None:
        return redirect(found)
    form = ScheduleForm(
        request.POST if request.POST.get("what") == "time" else None, initial={"at": due.as_typed(found.due_at)}
    )
    sentence = ""
    try:
        if request.POST.get("what") == "now":
            actions.begin_early(rollout=found, by=request.user)
            return redirect(found)
        if form.is_bound and form.is_valid():
            actions.change_time(rollout=found, due_at=form.cleaned_data["at"], by=request.user)
            messages.success(request, _("Scheduled for %(when)s.") % {"when": due.said(form.cleaned_data["at"])})
            return redirect(found)
    except Refused as error:
        sentence = str(error)
        if form.is_bound:
            form.add_error("at", sentence)
            sentence = ""
    stand = standing(environment)
    context = {
        "section": "applications",
        "environment": environment,
        "standing": stand,
        "rollout": found,
        "form": form,
        "sentence": sentence,
        "since": scheduled.since_in_words(stand.since_scheduled),
        "downtime": downtime_in_words(environment),
        "way_back": way_back(stand.destination.able, stand.destination.running) if stand.destination else "",
    }
    refused_it = sentence or form.errors
    return render(request, "rollouts/schedule.html", context, status=422 if refused_it else 200)


def _frozen(environment: Environment, revision: Revision) -> dict[str, Any]:
    """What a revision's page and the page for going back to it say."""
    content, destination = revision.frozen, standing(environment)
    names = dict(ClientCertificate.objects.filter(environment=environment).values_list("slug", "name"))
    line = _revision_line(revision, destination.destination)
    return {
        "section": "applications",
        "environment": environment,
        "standing": destination,
        "revision": revision,
        "line": line,
        "entries": revision.entries.select_related("version__certificate__environment__application"),
        "pins": [(pin, WORDS.get(pin.kind, pin.kind).lower(), _sent(pin.slug, names)) for pin in content.pins],
        "settings": [(words, getattr(content, name)) for name, words in SETTING_WORDS.items()],
        "lines": lines(environment, changes(destination.running, content)),
    }


def _sent(slug: str | None, names: dict[str, str]) -> Side:
    return sent(slug or "", names)


@require_safe
def revision(request: HttpRequest, app: str, env: str, number: int) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    found = get_object_or_404(counted(environment.revisions.prefetch_related("rollouts")), number=number)
    its = list(found.rollouts.select_related("revision", "previous", "bundle"))
    delivered = list(dict.fromkeys(rollout.bundle.digest for rollout in its if rollout.bundle))
    context = {**_frozen(environment, found), "its_rollouts": rollout_lines(its, environment), "delivered": delivered}
    return render(request, "rollouts/revision.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def roll_back(request: HttpRequest, app: str, env: str, number: int) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.APPLY)
    found = get_object_or_404(counted(environment.revisions.prefetch_related("rollouts")), number=number)
    frozen = _frozen(environment, found)
    compromised = look_up(entry.version for entry in frozen["entries"])
    form = RollBackForm(request.POST if request.method == "POST" else None, compromised=bool(compromised))
    form.ask_for_ticket(environment)
    if form.is_bound and form.is_valid():
        try:
            made = actions.roll_back(environment=environment, revision=found, by=request.user, **form.cleaned_data)
        except Refused as error:
            if active := actions.active_rollout(environment):
                messages.info(request, str(error))
                return redirect(active)
            refused(form, error)
        else:
            return redirect(made)
    context = {**frozen, "form": form, "compromised": compromised}
    context["expired"] = [entry for entry in context["entries"] if entry.version.status() == "expired"]
    return render(request, "rollouts/roll_back.html", context, status=422 if form.is_bound else 200)
