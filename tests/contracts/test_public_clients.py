"""The stand-ins of Kubernetes and Cloud Foundry, used by the clients that those projects' own users install."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest
from cloudfoundry_client.client import CloudFoundryClient

from tests.contracts.test_connectors import until_up
from tests.contracts.worlds import CloudController, Cluster, OperatedCluster, connected

pytestmark = [pytest.mark.contract, pytest.mark.timeout(60)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    world = Cluster(tmp_path)
    yield world
    world.close()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[CloudController]:
    # The client resolves names itself, so this one says of itself that it is on loopback.
    world = CloudController(tmp_path, host="127.0.0.1")
    here = f"http://127.0.0.1:{world.port}"
    world.settings |= {"api": here, "_reach": [["127.0.0.1", world.port, world.port]]}
    yield world
    world.close()


def test_the_kubernetes_client_reads_and_changes_a_mendixapp(tmp_path: Path) -> None:
    world = OperatedCluster(tmp_path)
    try:
        configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{world.port}")
        configuration.api_key = {"authorization": f"Bearer {world.settings['token']}"}
        custom = kubernetes.client.CustomObjectsApi(kubernetes.client.ApiClient(configuration))
        where = ("privatecloud.mendix.com", "v1alpha1", "prod", "mendixapps", "billing")
        connector, bundle = connected("mendix-operator", world.settings), world.bundle()
        connector.deliver(bundle)
        found = custom.get_namespaced_custom_object(*where)
        assert found["spec"]["runtime"]["clientCertificates"][0]["pinTo"] == ["api.example.com"]
        custom.patch_namespaced_custom_object(*where, {"spec": {"runtime": {"clientCertificates": None}}})
        assert connector.delivered_digest() != bundle.digest
    finally:
        world.close()


def test_the_kubernetes_client_does_what_we_do(cluster: Cluster) -> None:
    configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{cluster.port}")
    configuration.api_key = {"authorization": f"Bearer {cluster.settings['token']}"}
    api = kubernetes.client.ApiClient(configuration)
    core, apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
    connector, bundle = connected("kubernetes", cluster.settings), cluster.bundle()
    connector.deliver(bundle)
    secret = core.read_namespaced_secret("billing-certificates", "prod")
    assert {key: base64.b64decode(value) for key, value in secret.data.items()} == {
        file.path: file.content for file in bundle.files
    }
    secret.data = {"a.txt": base64.b64encode(b"by the client").decode()}
    core.replace_namespaced_secret("billing-certificates", "prod", secret)
    with pytest.raises(kubernetes.client.ApiException, match="409"):
        core.replace_namespaced_secret("billing-certificates", "prod", secret)
    assert connector.delivered_digest() != bundle.digest

    connector.start()
    assert until_up(connector).status == "running"
    assert len(core.list_namespaced_pod("prod", label_selector="app=billing").items) == 1
    stamp = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "noon"}}}}}
    apps.patch_namespaced_deployment("billing", "prod", stamp)
    assert until_up(connector).incarnation == "noon"
    apps.patch_namespaced_deployment("billing", "prod", {"spec": {"replicas": 0}})
    assert apps.read_namespaced_deployment("billing", "prod").spec.replicas == 0
    review = kubernetes.client.V1SelfSubjectAccessReview(
        spec=kubernetes.client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=kubernetes.client.V1ResourceAttributes(
                namespace="prod", verb="patch", group="apps", resource="deployments", name="billing"
            )
        )
    )
    answered = kubernetes.client.AuthorizationV1Api(api).create_self_subject_access_review(review)
    assert answered.status.allowed is True


def test_the_cloud_foundry_client_does_what_we_do(controller: CloudController) -> None:
    told = controller.settings
    client = CloudFoundryClient(
        f"http://127.0.0.1:{controller.port}", client_id=told["client_id"], client_secret=told["client_secret"]
    )
    client.init_with_user_credentials(told["username"], told["password"])
    connector, bundle = connected("cloud-foundry", told), controller.bundle()
    connector.deliver(bundle)
    app = client.v3.apps.get(told["app"])
    assert (app["name"], app["state"]) == ("billing", "STOPPED")
    client.v3.apps.restart(told["app"])
    assert until_up(connector).status == "running"
    assert client.v3.apps.get(told["app"])["state"] == "STARTED"
