"""What is special to Cloud Foundry: the app's other variables, instances one by one, tokens that run out, rolling
deployments; and its stand-in, used by a public client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates.content import Bundle, File, digest_of_files
from rollouts.connectors import Connector, ConnectorError, cloud_foundry
from rollouts.exporters import buildpack_env
from tests.contracts.test_connectors import patiently, run_anew, until_up
from tests.contracts.worlds import CloudController, connected

pytestmark = [pytest.mark.contract, pytest.mark.timeout(60)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CloudController]:
    world = CloudController(tmp_path)
    yield world
    world.close()


@pytest.fixture
def connector(world: CloudController) -> Connector:
    return connected("cloud-foundry", world.settings)


def variables(world: CloudController) -> dict[str, str]:
    there = connected("cloud-foundry", world.settings)
    assert isinstance(there, cloud_foundry.CloudFoundry)
    return there._variables_there()


def set_by_others(world: CloudController, **values: str) -> dict[str, str]:
    """Returns all that are there then."""
    there = connected("cloud-foundry", world.settings)
    assert isinstance(there, cloud_foundry.CloudFoundry)
    there._asked("PATCH", f"/v3/apps/{world.settings['app']}/environment_variables", {"var": values})
    return variables(world)


def test_our_names_are_those_of_the_export() -> None:
    of_export = (buildpack_env.CERTIFICATES, buildpack_env.AUTHORITIES, buildpack_env.NEVER)
    assert of_export == cloud_foundry.VARIABLES


def test_no_other_variable_is_touched_and_ours_go_when_nothing_stands_for_them(
    world: CloudController, connector: Connector
) -> None:
    both = {"CLIENT_CERTIFICATES": "[]", "MXRUNTIME_NoClientCertificateUsages": "a.example.com"}
    connector.deliver(Bundle((File("variables.json", json.dumps(both).encode()),)))
    assert set(variables(world)) == {"JBP_CONFIG", "COUNTERSIGN_DELIVERED", *both}
    connector.deliver(world.bundle())
    assert set(variables(world)) == {"JBP_CONFIG", "COUNTERSIGN_DELIVERED", "CLIENT_CERTIFICATES"}
    connector.deliver(Bundle(()))
    assert variables(world) == {"JBP_CONFIG": "left alone"}


def test_what_stood_there_before_the_first_delivery_comes_back_when_it_is_taken_back(
    world: CloudController, connector: Connector
) -> None:
    set_by_hand = {"CLIENT_CERTIFICATES": '[{"pfx": "by hand", "password": ""}]', "CERTIFICATE_AUTHORITIES": "by hand"}
    before = set_by_others(world, **set_by_hand)
    connector.deliver(Bundle(()))
    assert variables(world) == before, "nothing of ours was there to be taken away"
    connector.deliver(world.bundle())
    assert variables(world)["CLIENT_CERTIFICATES"] != before["CLIENT_CERTIFICATES"]
    assert "CERTIFICATE_AUTHORITIES" not in variables(world)
    connector.deliver(Bundle(()))
    assert variables(world) == before
    assert connector.delivered_digest() == digest_of_files([])
    for _delivery in range(2):
        connector.deliver(world.bundle())
    assert "COUNTERSIGN_BEFORE" not in variables(world), "no old key is kept for longer than it may be needed"


def test_a_variable_that_others_change_is_seen(world: CloudController, connector: Connector) -> None:
    delivered = world.bundle()
    connector.deliver(delivered)
    set_by_others(world, CLIENT_CERTIFICATES="[]")
    assert connector.delivered_digest() not in (delivered.digest, digest_of_files([]))
    connector.deliver(delivered)
    assert connector.delivered_digest() == delivered.digest


def test_another_export_is_refused_in_a_sentence(connector: Connector) -> None:
    with pytest.raises(ConnectorError, match="Mendix buildpack variables"):
        connector.deliver(Bundle((File("custom-settings.json", b"{}"),)))


def test_a_token_that_has_run_out_is_renewed(world: CloudController, connector: Connector) -> None:
    (world.state / "expired").touch()
    assert connector.observe().status == "stopped"
    assert not (world.state / "expired").exists()


def test_instances_that_crash_are_counted(world: CloudController, connector: Connector) -> None:
    (world.state / "crashes").touch()
    connector.start()
    time.sleep(1)
    seen = connector.observe()
    assert (seen.status, seen.note) == ("starting", "0 of 2 instances run, 2 crashed.")


def test_a_rolling_deployment_goes_one_by_one_and_counts_when_all_are_new(world: CloudController) -> None:
    settings = world.settings | {"strategy": "rolling"}
    connector, able = connected("cloud-foundry", settings), cloud_foundry.CloudFoundry.able(settings)
    before = run_anew(connector, able)
    assert able.reloads
    time.sleep(1.1)  # an uptime is told in whole seconds
    connector.deliver(world.bundle())
    patiently(connector.reload)
    seen = connector.observe()
    assert (seen.status, seen.incarnation) == ("starting", before.incarnation)
    assert "of 2 instances run" in seen.note
    after = until_up(connector)
    assert after.status == "running"
    assert after.incarnation != before.incarnation
    assert world.calls() == ["start", "restart"]
