"""`python -m tests.chaos.drive`: the people of the world. Reads one order a line, answers with one line (JSON both)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"

import django

django.setup()

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

from certificates import actions as certificates
from certificates import pkcs12
from certificates.models import ClientCertificate
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions
from rollouts.connectors import connect
from rollouts.models import Bundle, Rollout
from tests import pki
from vault.keyrings import local

# Which kind of certificate makes the app behave so that a rollout gets to this state and call; else an apply does.
MISBEHAVIOUR = {
    "rolling_back.deliver": "Refused",
    "rolling_back.stop": "Lying",
    "rolling_back.start": "Refused",
    "rolling_back.observe": "Refused",
}
STARTS = ("requested.observe", "starting.start")


def owner() -> Person:
    return Person.objects.get(username="grace")


def environment(name: str) -> Environment:
    return Environment.objects.select_related("application").get(slug=name)


def build(points: list[str]) -> None:
    """One environment for each kill point, with an app that runs, and a certificate."""
    call_command("migrate", verbosity=0)
    local.generate(Path(settings.VAULT_KEYRING["path"]))
    Person.objects.create_user("grace", password=None, is_superuser=True)
    application = environments.create_application(name="Chaos", by=owner())
    authority = pki.make_authority("Chaos CA")
    identity = pkcs12.read(pki.pfx(pki.issue("client", authority=authority), "secret"), "secret")
    for point in points:
        connect("local-process", settings.LOCAL_PROCESSES[slug(point)]).start()
    for point in points:
        made = environments.create_environment(application=application, name=point, slug=slug(point), by=owner())
        assert made.slug == slug(point), made.slug
        certificates.add(environment=made, name="Good", identity=identity, by=owner())
        if wrong := MISBEHAVIOUR.get(point.rpartition(".")[0]):
            certificate = certificates.add(environment=made, name=wrong, identity=identity, by=owner())
            certificates.disable(certificate=certificate, by=owner())
        actions.use_place(environment=made, place=made.slug, by=owner())


def patiently(action: Callable[[], Any]) -> Any:
    """The database may be locked just now, by somebody's death; a person would click again."""
    for _try in range(60):
        try:
            return action()
        except OperationalError:
            time.sleep(0.3)
    return action()


def slug(point: str) -> str:
    return point.replace(".", "-").replace("_", "-")


def stop(points: list[str]) -> None:
    for point in points:
        patiently(partial(actions.stop, environment=environment(slug(point)), by=owner()))


def ask(orders: dict[str, str], round: int) -> dict[str, str]:
    """`orders`: kill point to death. Arms each and asks for a rollout that passes there; returns their ids."""
    asked = {}
    for point, death in orders.items():
        here = environment(slug(point))
        (settings.WORLD / "armed" / here.slug).write_text(json.dumps({"point": point, "death": death}))
        where = point.rpartition(".")[0]
        if where in STARTS:
            rollout = patiently(partial(actions.start, environment=here, by=owner()))
        else:
            good = ClientCertificate.objects.get(environment=here, name="Good")
            target = certificates.read_target(environment=here, text=f"round-{round}.example.com")
            patiently(partial(certificates.pin, environment=here, target=target, certificate=good, by=owner()))
            if where in MISBEHAVIOUR:
                wrong = ClientCertificate.objects.get(environment=here, name=MISBEHAVIOUR[where])
                if not wrong.enabled:
                    patiently(partial(certificates.enable, certificate=wrong, by=owner()))
            shown = actions.pending(here)[0].digest
            rollout = patiently(
                partial(actions.apply, environment=here, shown=shown, reason=death, insist=True, start=True, by=owner())
            )
        asked[point] = str(rollout.pk)
    return asked


def look(ids: list[str]) -> list[dict[str, Any]]:
    found = Rollout.objects.filter(pk__in=ids).select_related("environment", "bundle", "previous_bundle")
    return [
        {
            "id": str(r.pk), "point": r.environment.name, "state": r.state, "phase": r.phase, "final": r.is_final,
            "fence": r.fence, "kind": r.kind, "failure": r.failure, "sentence": r.sentence,
            "bundle": r.bundle.digest if r.bundle else None,
            "previous": r.previous_bundle.digest if r.previous_bundle else None,
        }
        for r in found
    ]  # fmt: skip


def log(rollout: str) -> list[str]:
    steps = Rollout.objects.get(pk=rollout).steps.order_by("id")
    return [f"{s.started_at:%T.%f} {s.state} {s.fence} {s.text} [{s.outcome}] {s.result}" for s in steps]


def busy() -> list[str]:
    return [str(r.pk) for r in Rollout.objects.all() if not r.is_final]


def observed() -> dict[str, list[str | None]]:
    found = {}
    for name, known in settings.LOCAL_PROCESSES.items():
        seen = connect("local-process", known).observe()
        found[name] = [seen.status, seen.digest]
    return found


def digests() -> list[str]:
    return list(Bundle.objects.values_list("digest", flat=True).distinct())


ORDERS = {order.__name__: order for order in (build, stop, ask, look, log, busy, observed, digests)}

READS = ("look", "log", "busy", "digests")

for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        answer = {
            "answer": patiently(partial(ORDERS[name], **arguments)) if name in READS else ORDERS[name](**arguments)
        }
    except Refused as refused:
        answer = {"refused": str(refused)}
    print(json.dumps(answer), flush=True)
