"""What is special to Kubernetes: the Secret is ours alone, Pods are seen one by one, rights are named."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates.content import Bundle, File
from rollouts.connectors import Connector, ConnectorError
from rollouts.connectors.kubernetes import Kubernetes
from tests.contracts.test_connectors import patiently, run_anew, until, until_up
from tests.contracts.worlds import Cluster, connected

pytestmark = [pytest.mark.contract, pytest.mark.timeout(60)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Cluster]:
    world = Cluster(tmp_path)
    yield world
    world.close()


@pytest.fixture
def connector(world: Cluster) -> Connector:
    return connected("kubernetes", world.settings)


def ask(world: Cluster, method: str, path: str, given: Any = None, kind: str = "application/json") -> Any:
    headers = {"Authorization": f"Bearer {world.settings['token']}", "Content-Type": kind}
    body = json.dumps(given).encode() if given is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{world.port}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


SECRETS = "/api/v1/namespaces/prod/secrets"
DEPLOYMENT = "/apis/apps/v1/namespaces/prod/deployments/billing"


def test_paths_become_keys_and_come_back(world: Cluster, connector: Connector) -> None:
    bundle = Bundle((File("settings.json", b"{}"), File("pfx/one.pfx", b"one"), File("pem/a/key.pem", b"key")))
    connector.deliver(bundle)
    there = ask(world, "GET", f"{SECRETS}/billing-certificates")
    assert set(there["data"]) == {"settings.json", "pfx__one.pfx", "pem__a__key.pem"}
    assert (there["type"], there["metadata"]["labels"]) == ("Opaque", {"app.kubernetes.io/managed-by": "countersign"})
    assert connector.delivered_digest() == bundle.digest
    for path in ("pfx/a__b.pfx", "pfx/ünïcode.pfx", "a b"):
        with pytest.raises(ConnectorError, match="cannot be named in a Secret"):
            connector.deliver(Bundle((File(path, b""),)))
    with pytest.raises(ConnectorError, match="more than 1 MiB"):
        connector.deliver(Bundle((File("large", bytes(1024 * 1024 + 1)),)))
    assert connector.delivered_digest() == bundle.digest


def test_a_secret_that_somebody_else_made_is_left_alone(world: Cluster, connector: Connector) -> None:
    ask(world, "POST", SECRETS, {"metadata": {"name": "billing-certificates"}, "data": {"theirs": "eA=="}})
    with pytest.raises(ConnectorError, match="is not Countersign's; name another one, or give it the label"):
        connector.deliver(world.bundle())
    assert ask(world, "GET", f"{SECRETS}/billing-certificates")["data"] == {"theirs": "eA=="}


def test_labels_of_others_stay_and_a_change_in_between_is_read_once_more(world: Cluster) -> None:
    class Overtaken(Kubernetes):
        overtaken = 0

        def _secret_there(self) -> dict[str, Any] | None:
            there = super()._secret_there()
            if there and self.overtaken < 1:
                self.overtaken += 1
                labels = {"metadata": {"labels": {"team": "billing"}}}
                ask(world, "PATCH", f"{SECRETS}/billing-certificates", labels, "application/merge-patch+json")
            return there

    connector = connected("kubernetes", world.settings)
    connector.deliver(world.bundle())
    assert isinstance(connector, Kubernetes)
    connector.__class__ = Overtaken
    second = world.bundle()
    connector.deliver(second)
    assert connector.delivered_digest() == second.digest
    assert ask(world, "GET", f"{SECRETS}/billing-certificates")["metadata"]["labels"]["team"] == "billing"


def test_pods_are_replaced_one_by_one_and_counted(world: Cluster, connector: Connector) -> None:
    ask(world, "PATCH", DEPLOYMENT, {"spec": {"replicas": 3}}, "application/merge-patch+json")
    before = until_up(connector)
    assert before.status == "running"
    connector.restart()
    notes = []

    def is_up() -> bool:
        seen = connector.observe()
        notes.append((seen.status, seen.incarnation == before.incarnation, seen.note))
        return seen.status == "running"

    assert until(is_up)
    assert any("1 of 3 Pods run as they should." in note or "2 of 3 Pods run" in note for _s, _i, note in notes)
    assert all(status == "starting" for status, same, _note in notes if same)
    assert connector.observe().incarnation != before.incarnation


def test_stopping_remembers_how_many_there_were(world: Cluster, connector: Connector) -> None:
    ask(world, "PATCH", DEPLOYMENT, {"spec": {"replicas": 3}}, "application/merge-patch+json")
    until_up(connector)
    patiently(connector.stop)
    assert connector.observe().status == "stopped"
    connector.start()
    assert ask(world, "GET", DEPLOYMENT)["spec"]["replicas"] == 3
    assert until_up(connector).status == "running"


def test_a_restart_by_others_is_seen(world: Cluster, connector: Connector) -> None:
    before = run_anew(connector, Kubernetes.able(world.settings))
    stamp = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-24T21:00:00+01:00"}}}
    ask(world, "PATCH", DEPLOYMENT, {"spec": {"template": stamp}}, "application/strategic-merge-patch+json")
    after = until_up(connector)
    assert (after.status, after.incarnation) == ("running", "2026-11-24T21:00:00+01:00")
    assert after.incarnation != before.incarnation


def test_containers_that_crash_say_why(world: Cluster, connector: Connector) -> None:
    (world.state / "crashes").touch()
    connector.start()
    assert until(lambda: "CrashLoopBackOff" in connector.observe().note)
    seen = connector.observe()
    assert seen.status == "starting"
    assert seen.note.endswith("CrashLoopBackOff: the password of one.pfx is wrong.")


def test_a_right_that_is_missing_is_named(world: Cluster, connector: Connector) -> None:
    (world.state / "forbidden").write_text("update secrets\npatch deployments\n")
    with pytest.raises(ConnectorError, match="may not update secrets, patch deployments in prod; grant it in a Role"):
        connector.check()
    connector.deliver(world.bundle())
    with pytest.raises(ConnectorError, match=r"does not allow that: .*cannot update secrets"):
        connector.deliver(world.bundle())


@pytest.mark.parametrize("name", ["../default", "a/b", "", "Upper", "a b", "-a", "a" * 300])
def test_a_name_cannot_leave_its_place_in_an_address(world: Cluster, name: str) -> None:
    for setting in ("namespace", "name", "secret_name"):
        with pytest.raises(ConnectorError, match="is no name on Kubernetes"):
            Kubernetes.names(world.settings | {setting: name})
