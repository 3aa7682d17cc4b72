"""`python -m tests.chaos.drive`: the people of the world. Reads one order a line, answers with one line (JSON both)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"

import django

django.setup()

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

from certificates import actions as certificates
from certificates import pkcs12
from certificates.models import ClientCertificate, Version
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions, moves, unseal, watching
from rollouts.connectors import LISTED, ConnectorError, connect, connector_class
from rollouts.models import Bundle, Destination, Rollout
from tests import pki
from vault.keyrings import local

# Which kind of certificate makes the app behave so that a rollout gets to this state and call; else an apply does.
MISBEHAVIOUR = {
    "rolling_back.deliver": "Refused",
    "rolling_back.stop": "Lying",
    "rolling_back.start": "Refused",
    "rolling_back.observe": "Refused",
    "rolling_back.test": "Refused",
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
        if point.startswith("rolling_back.test"):
            _applied(made)


def _applied(environment: Environment) -> None:
    """Something good runs, whose one connection can be tested again when it is back."""
    good = ClientCertificate.objects.get(environment=environment, name="Good")
    target = certificates.read_target(environment=environment, text="first.example.com")
    certificates.pin(environment=environment, target=target, certificate=good, by=owner())
    shown = actions.pending(environment)[0].digest
    rollout = actions.apply(environment=environment, shown=shown, reason="first", start=True, by=owner())
    while (again_in := moves.advance(rollout.pk)) is not None:
        time.sleep(again_in)


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


def build_platforms(platforms: dict[str, Any], health: str) -> None:
    """One environment for each kind of platform, with an app that runs and a certificate. `platforms`: what each is
    told, its secrets among it."""
    call_command("migrate", verbosity=0)
    local.generate(Path(settings.VAULT_KEYRING["path"]))
    Person.objects.create_user("grace", password=None, is_superuser=True)
    application = environments.create_application(name="Platforms", by=owner())
    identity = pkcs12.read(pki.pfx(pki.issue("client", authority=pki.make_authority("Chaos CA")), "secret"), "secret")
    for kind, told in platforms.items():
        made = environments.create_environment(application=application, name=kind, slug=kind, by=owner())
        asked = connector_class(kind).asks
        given = {name: text for name, text in told.items() if not name.startswith("_")}
        secrets = {setting.name: given.pop(setting.name) for setting in asked if setting.is_secret}
        if kind in LISTED:
            actions.use_place(environment=made, place=kind, by=owner())
            if secrets:
                actions.set_credentials(environment=made, secrets=secrets, by=owner())
        else:
            exporter = [*connector_class(kind).exporters, "pem-bundle"][0]
            actions.use_platform(
                environment=made, connector=kind, exporter=exporter, options=given, secrets=secrets,
                base_folder="/srv/app", by=owner(),
            )  # fmt: skip
        certificates.add(environment=made, name="Good", identity=identity, by=owner())
        there = Destination.objects.filter(environment=made)
        there.update(health_url=f"{health}/{kind}", health_status=200, health_seconds=1, wanted_running=True)
        _started(there.get())


def _started(destination: Destination) -> None:
    app = unseal.connected(destination)
    for _try in range(200):
        with suppress(ConnectorError):
            if (seen := app.observe()).status == "running":
                watching.note_observation(destination, seen)
                return
            if seen.status == "stopped":
                app.start()
        time.sleep(0.1)
    raise AssertionError(f"{destination} did not start")


def ask_platform(kind: str, point: str, round: int, restart: bool) -> str:
    """As `ask`, of a platform; `restart`: without a delivery."""
    here = environment(kind)
    where = point.rpartition(".")[0]
    tests = "warn" if where.endswith(".test") else "skip"
    Environment.objects.filter(pk=here.pk).update(connection_tests=tests)
    here.refresh_from_db()
    (settings.WORLD / "armed" / kind).write_text(json.dumps({"point": point, "death": "child"}))
    if restart:
        return str(patiently(partial(actions.restart, environment=here, by=owner())).pk)
    if where in STARTS:
        return str(patiently(partial(actions.start, environment=here, by=owner())).pk)
    good = ClientCertificate.objects.get(environment=here, name="Good")
    target = certificates.read_target(environment=here, text=f"round-{round}.example.com")
    patiently(partial(certificates.pin, environment=here, target=target, certificate=good, by=owner()))
    shown = actions.pending(here)[0].digest
    ask = partial(actions.apply, environment=here, shown=shown, reason=point, insist=True, start=True, by=owner())
    return str(patiently(ask).pk)


def confirm(rollout: str) -> None:
    """The upload that was handed over has been made."""
    with suppress(Refused):
        patiently(partial(actions.confirm_handover, rollout=Rollout.objects.get(pk=rollout), by=owner()))


def platform(kind: str) -> dict[str, Any]:
    """What its connector sees of it, and what was delivered there."""
    destination = Destination.objects.get(environment__slug=kind)
    app = unseal.connected(destination)
    seen = app.observe()
    delivered = None if destination.able.hands_over else app.delivered_digest()
    return {"status": seen.status, "reports": seen.digest, "delivered": delivered, "note": seen.note}


def secrets_of_all() -> list[str]:
    """Everything that is to lie nowhere in clear, as hex: what opens platforms, and what the exports carry."""
    found = [text.encode() for one in Destination.objects.all() for text in unseal.secrets_of(one).values()]
    for bundle in Bundle.objects.select_related("sealed"):
        for sent in unseal.open_bundle(bundle, reason="test").sent.values():
            found += [sent.password.encode(), sent.pfx]
    for version in Version.objects.select_related("certificate__environment__application", "sealed"):
        key = load_der_private_key(unseal.identity_of(version, reason="test", by=owner()).key, None)
        assert isinstance(key, EllipticCurvePrivateKey)
        found.append(key.private_numbers().private_value.to_bytes(32, "big"))
    return sorted({one.hex() for one in found})


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


def at_work(name: str) -> bool:
    return any(not r.is_final for r in Rollout.objects.filter(environment__slug=name))


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


ORDERS = {
    order.__name__: order
    for order in (
        build, build_platforms, stop, ask, ask_platform, confirm, look, log, at_work, busy, observed, platform,
        digests,
        secrets_of_all,
    )
}  # fmt: skip

READS = ("look", "log", "at_work", "busy", "digests", "platform", "secrets_of_all")

for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        answer = {
            "answer": patiently(partial(ORDERS[name], **arguments)) if name in READS else ORDERS[name](**arguments)
        }
    except Refused as refused:
        answer = {"refused": str(refused)}
    print(json.dumps(answer), flush=True)
