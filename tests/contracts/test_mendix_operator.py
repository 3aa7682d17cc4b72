"""What is special to the Mendix operator: others' settings stay, what stood there comes back, a delivery restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates.content import Bundle, File
from rollouts.connectors import Connector, ConnectorError
from rollouts.connectors.mendix_operator import MendixOperator
from tests.contracts.test_connectors import until
from tests.contracts.test_kubernetes import ask
from tests.contracts.worlds import OperatedCluster, connected

pytestmark = [pytest.mark.contract, pytest.mark.timeout(60)]

APP = "/apis/privatecloud.mendix.com/v1alpha1/namespaces/prod/mendixapps/billing"
MERGE = "application/merge-patch+json"
THEIRS = [{"key": "T1RIRVI=", "password": "eA==", "pinTo": ["old.example.com"]}]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OperatedCluster]:
    world = OperatedCluster(tmp_path)
    yield world
    world.close()


@pytest.fixture
def connector(world: OperatedCluster) -> Connector:
    return connected("mendix-operator", world.settings)


def runtime_of(world: OperatedCluster) -> dict[str, Any]:
    found: dict[str, Any] = ask(world, "GET", APP)["spec"]["runtime"]
    return found


def write(world: OperatedCluster, **runtime: Any) -> None:
    ask(world, "PATCH", APP, {"spec": {"runtime": runtime}}, MERGE)


def test_of_the_configuration_only_our_own_part_is_changed(world: OperatedCluster, connector: Connector) -> None:
    write(world, customConfiguration='{"DebugLevel": 3, "NoClientCertificateUsages": "theirs.example.com"}')
    connector.deliver(world.bundle())
    runtime = runtime_of(world)
    assert runtime["logAutosubscribeLevel"] == "INFO"
    assert json.loads(runtime["customConfiguration"]) == {
        "DebugLevel": 3,
        "NoClientCertificateUsages": "internal.example.com",
    }
    assert [entry["pinTo"] for entry in runtime["clientCertificates"]] == [["api.example.com"]]
    without = {"spec": {"runtime": {"clientCertificates": []}}}
    connector.deliver(Bundle((File("mendixapp-patch.yaml", json.dumps(without).encode()),)))
    assert json.loads(runtime_of(world)["customConfiguration"]) == {"DebugLevel": 3}
    assert "clientCertificates" not in runtime_of(world)


def test_what_stood_there_before_us_comes_back(world: OperatedCluster, connector: Connector) -> None:
    custom = '{"NoClientCertificateUsages": "theirs.example.com"}'
    write(world, clientCertificates=THEIRS, customConfiguration=custom)
    before = ask(world, "GET", APP)["spec"]
    nothing = Bundle(())
    connector.deliver(nothing)
    assert ask(world, "GET", APP)["spec"] == before
    first = world.bundle()
    connector.deliver(first)
    assert connector.delivered_digest() == first.digest
    connector.deliver(nothing)
    assert connector.delivered_digest() == nothing.digest
    after = ask(world, "GET", APP)
    assert after["spec"] == before
    assert not after["metadata"]["annotations"]


def test_a_second_delivery_keeps_nothing_from_before(world: OperatedCluster, connector: Connector) -> None:
    write(world, clientCertificates=THEIRS)
    connector.deliver(world.bundle())
    assert THEIRS[0]["key"] in json.dumps(ask(world, "GET", APP)["metadata"])
    connector.deliver(world.bundle())
    assert THEIRS[0]["key"] not in json.dumps(ask(world, "GET", APP))


def test_a_change_by_others_is_seen(world: OperatedCluster, connector: Connector) -> None:
    bundle = world.bundle()
    connector.deliver(bundle)
    write(world, clientCertificates=THEIRS)
    assert connector.delivered_digest() not in (bundle.digest, Bundle(()).digest)


def test_a_change_in_between_is_read_once_more(world: OperatedCluster) -> None:
    class Overtaken(MendixOperator):
        overtaken = 0

        def _found(self) -> dict[str, Any]:
            found = super()._found()
            if self.overtaken < 1:
                self.overtaken += 1
                write(world, customConfiguration='{"DebugLevel": 3}')
            return found

    door = connected("mendix-operator", world.settings).peer.door  # type: ignore[attr-defined]
    bundle = world.bundle()
    Overtaken({**world.settings, "door": door}).deliver(bundle)
    assert connected("mendix-operator", world.settings).delivered_digest() == bundle.digest
    assert json.loads(runtime_of(world)["customConfiguration"])["DebugLevel"] == 3


def test_what_cannot_be_kept_or_understood_is_left_alone(world: OperatedCluster, connector: Connector) -> None:
    with pytest.raises(ConnectorError, match="takes the export “Mendix on Kubernetes”; choose it under Settings"):
        connector.deliver(Bundle((File("custom-settings.json", b"{}"),)))
    write(world, customConfiguration="DebugLevel: 3")
    with pytest.raises(ConnectorError, match="no JSON object; correct it there first"):
        connector.deliver(world.bundle())
    write(world, customConfiguration=None, clientCertificates=[{**THEIRS[0], "key": "A" * 210_000}])
    with pytest.raises(ConnectorError, match="too much to be kept beside it"):
        connector.deliver(world.bundle())
    assert len(runtime_of(world)["clientCertificates"][0]["key"]) == 210_000


def test_the_operator_restarts_it_for_a_delivery_and_says_how_far_it_is(
    world: OperatedCluster, connector: Connector
) -> None:
    connector.start()
    assert until(lambda: connector.observe().status == "running", 15)
    ask(world, "PATCH", APP, {"spec": {"replicas": 2}}, MERGE)
    assert until(lambda: len(pods(world)) == 2 and connector.observe().status == "running", 15)
    before = connector.observe().incarnation
    old = pods(world)
    connector.deliver(world.bundle())
    assert until(lambda: is_another_start(connector, before), 20)
    assert not set(pods(world)) & set(old)
    (world.state / "crashes").touch()
    connector.deliver(world.bundle())
    assert until(lambda: "CrashLoopBackOff: the password of one.pfx is wrong" in connector.observe().note, 20)
    assert connector.observe().note.startswith("0 of 2 Pods run as they should.")


def is_another_start(connector: Connector, before: str) -> bool:
    seen = connector.observe()
    return seen.status == "running" and seen.incarnation != before


def pods(world: OperatedCluster) -> list[str]:
    labels = "privatecloud.mendix.com/app=billing,privatecloud.mendix.com/component=mendix-app"
    found = ask(world, "GET", f"/api/v1/namespaces/prod/pods?labelSelector={labels}")
    return [pod["metadata"]["uid"] for pod in found["items"]]


def test_missing_rights_are_named(world: OperatedCluster, connector: Connector) -> None:
    assert [tick.outcome for tick in connector.ticks()] == ["ok"] * 4
    (world.state / "forbidden").write_text("patch mendixapps\n")
    assert list(connector.ticks())[-1].result == "This token may not patch mendixapps in prod; grant it in a Role."
