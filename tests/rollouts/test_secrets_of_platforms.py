"""The secrets of every platform, and the keys that go there, stand in no row, line, page or message of the portal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.test import Client

from certificates import actions as certificates
from environments.models import Environment, Person
from rollouts import actions, tasks, unseal
from rollouts.connectors import CONNECTORS, LISTED, connector_class, mendix_cloud
from rollouts.models import Destination, Rollout
from rollouts.outbound import Door
from tests.contracts.worlds import WORLDS, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
PLATFORMS = sorted(set(CONNECTORS) - set(LISTED))


@pytest.fixture(params=PLATFORMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(
    kind: str, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, live_server: Any
) -> Iterator[World]:
    world = WORLDS[kind](tmp_path)
    places = {(host, port): ("127.0.0.1", at) for host, port, at in world.settings["_reach"]}
    settings.DOORS = settings.DOORS | {"connectors": Door((), places)}
    settings.ADDRESS = live_server.url
    monkeypatch.setattr(mendix_cloud, "BASE", world.settings.get("base", ""))
    unseal._known.clear()
    yield world
    world.close()


def rows() -> Iterator[tuple[str, str]]:
    """Every value of every row, as text; what the vault sealed is bytes, and not looked into."""
    for model in apps.get_models():
        for row in model._default_manager.values():
            for name, value in row.items():
                yield f"{model.__name__}.{name}", str(value)


def test_no_secret_of_a_platform_is_left_anywhere(
    kind: str,
    world: World,
    environment: Environment,
    owner: Person,
    add_certificate: Callable[..., Any],
    apply: Callable[..., Rollout],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = list(connector_class(kind).asks)
    secrets = {setting.name: world.settings[setting.name] for setting in asked if setting.is_secret}
    options = {setting.name: world.settings[setting.name] for setting in asked if not setting.is_secret}
    sent: list[str] = []

    exporter = [*connector_class(kind).exporters, "pem-bundle"][0]

    def place(**wrong: str) -> None:
        actions.use_platform(
            environment=environment, connector=kind, exporter=exporter, options=options,
            secrets=secrets | wrong, base_folder="/srv/app", by=owner,
        )  # fmt: skip

    Environment.objects.filter(pk=environment.pk).update(connection_tests="skip")
    target = certificates.read_target(environment=environment, text="api.example.com")
    certificates.pin(environment=environment, target=target, certificate=add_certificate(), by=owner)
    client = Client()
    client.force_login(owner)
    # Once with secrets that are wrong, each of which may stand in a refusal; once with the right ones.
    for wrong in (dict.fromkeys(secrets, "Wr0ng-but-a-secret-all-the-same"), {}):
        place(**wrong)
        unseal._known.clear()
        sent.append(client.post(environment.url("platform-check")).content.decode())
        rollout = apply(start=True)
        assert rollout.state == ("refused" if wrong else "handing_over" if kind == "mendix-cloud" else "verified")
        sent += [
            client.get(page).content.decode() for page in (rollout.get_absolute_url(), environment.url("environment"))
        ]
    Destination.objects.update(observed_at=None)
    tasks.sweep()

    assert rollout.bundle is not None
    carried = unseal.open_bundle(rollout.bundle, reason="test").sent
    secret = {*secrets.values(), "Wr0ng-but-a-secret-all-the-same", *(pfx.password for pfx in carried.values())}
    secret |= {text.split("whsec_")[1] for text in secret if text.startswith("whsec_")}
    found = [(where, text) for where, text in rows() if any(one in text for one in secret)]
    assert found == []
    assert not [line for line in caplog.text.splitlines() if any(one in line for one in secret)]
    assert not [page for page in sent if any(one in page for one in secret)]
    assert any("api.example.com" in text for _where, text in rows()), "the rows were looked at"
