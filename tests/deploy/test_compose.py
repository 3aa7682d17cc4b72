"""docker-compose.yml, without an engine: by its published schema, and by what we promise of it."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.deploy import shape
from tests.deploy.test_variables import read_by_the_portal
from vault.keyrings.local import LocalKeyring

FILES = ["docker-compose.yml", "deploy/one-volume.yml"]
TEAM = shape.compose()
OURS = ["prepare", "web", "worker", "clock"]
EVERY = [(file, name) for file in FILES for name in shape.compose(file)["services"]]


@pytest.mark.parametrize("file", FILES)
def test_a_compose_file_keeps_to_the_published_schema(file: str) -> None:
    command = [shape.BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    ran = subprocess.run(command, cwd=shape.PROJECT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_schema_would_find_a_wrong_word(tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text("services: {web: {image: x, read_onyl: true}}\n")
    command = [shape.BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "wrong.yml"]
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_everything_that_a_team_needs_is_there() -> None:
    assert set(TEAM["services"]) == {*OURS, "postgres", "valkey", "storage", "proxy"}


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_each_container_is_locked_down_bounded_and_logged(file: str, name: str) -> None:
    service = shape.compose(file)["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert any(place.startswith("/tmp") for place in service["tmpfs"])


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_an_image_is_pinned_to_a_release(file: str, name: str) -> None:
    service = shape.compose(file)["services"][name]
    if "build" not in service:
        assert re.search(r":v?\d+\.\d+\.\d+|:18\.\d+-", service["image"]), service["image"]


@pytest.mark.parametrize("file", FILES)
def test_no_secret_stands_in_the_file_or_has_a_default(file: str) -> None:
    for name, service in shape.compose(file)["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY\b|_URL\b", variable):
                assert variable.endswith("_FILE") or variable == "COUNTERSIGN_VAULT_KEY", f"{name}: {variable}"
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    text = (shape.PROJECT / file).read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) <= read_by_the_portal().keys()
    assert not re.search(r"\$\{\w*(PASSWORD|SECRET|KEY|URL)", text)


def test_a_service_sees_only_secrets_that_it_names_and_that_are_made(tmp_path: Path) -> None:
    made = make_secrets(tmp_path / "secrets")
    assert {value["file"] for value in TEAM["secrets"].values()} <= {f"./secrets/{name}" for name in made}
    for name, service in TEAM["services"].items():
        named = set(re.findall(r"/run/secrets/([\w.-]+)", json.dumps(service)))
        assert named == set(service.get("secrets", [])), name
        assert named <= TEAM["secrets"].keys()


def test_only_the_proxy_listens_and_what_keeps_data_has_no_way_out() -> None:
    assert [name for name, service in TEAM["services"].items() if "ports" in service] == ["proxy"]
    assert TEAM["networks"]["backend"] == {"internal": True}
    assert {name for name, service in TEAM["services"].items() if "edge" in service["networks"]} == {"proxy", "web"}
    for name in ("postgres", "valkey", "storage", "prepare", "clock"):
        assert TEAM["services"][name]["networks"] == ["backend"]
    assert TEAM["services"]["worker"]["networks"] == ["backend", "outward"], "it reaches partners and platforms"
    assert not TEAM["networks"]["outward"], "a way out"


def test_nothing_starts_before_what_it_needs() -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in TEAM["services"][name].get("depends_on", {}).items()}

    assert waits("prepare") == {"postgres": "service_healthy", "storage": "service_healthy"}
    for name in ("web", "worker", "clock"):
        assert waits(name) == {"prepare": "service_completed_successfully", "valkey": "service_healthy"}
    assert waits("proxy") == {"web": "service_healthy"}
    for name in ("postgres", "valkey", "storage", "proxy"):
        assert TEAM["services"][name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("file", FILES)
def test_a_worker_gets_the_time_to_finish_its_move(file: str) -> None:
    from rollouts.connectors import CALL_LIMIT

    patience = shape.compose(file)["services"]["worker"]["stop_grace_period"]
    assert int(patience.removesuffix("s")) >= 3 * CALL_LIMIT


@pytest.mark.parametrize("file", FILES)
def test_only_variables_that_the_portal_reads_are_given_to_it(file: str) -> None:
    services = shape.compose(file)["services"]
    given = {name for service in OURS for name in services[service]["environment"]}
    assert {name.removesuffix("_FILE") for name in given} <= read_by_the_portal().keys()


@pytest.mark.parametrize("file", FILES)
def test_every_volume_is_declared_and_used(file: str) -> None:
    content = shape.compose(file)
    used = {
        volume.partition(":")[0]
        for service in content["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(content["volumes"])


# --- Secrets ----------------------------------------------------------------------------------------------------------


def make_secrets(folder: Path, *more: str) -> dict[str, str]:
    """Runs the script of the first line of docker-compose.yml; file names and contents."""
    owner = str(folder.parent.stat().st_uid)
    ran = subprocess.run(
        ["sh", "deploy/make-secrets.sh", str(folder), owner, *more], cwd=shape.PROJECT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_secrets_are_made_once_and_fit_together(tmp_path: Path) -> None:
    made = make_secrets(tmp_path / "secrets")
    assert make_secrets(tmp_path / "secrets") == made, "what is there is kept"
    assert make_secrets(tmp_path / "others")["secret-key"] != made["secret-key"]
    assert made["database-url"] == f"postgresql://countersign:{made['database-password']}@postgres:5432/countersign"
    assert made["broker-url"] == f"redis://:{made['broker-password']}@valkey:6379/0"
    assert made["broker.conf"] == f"requirepass {made['broker-password']}\n"
    assert all(len(made[name]) >= 48 for name in ("secret-key", "database-password", "storage-secret-key"))


def test_only_root_gets_to_the_secrets_and_only_the_portal_to_the_vault_key(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    assert mode(tmp_path / "secrets") == 0o700
    assert mode(tmp_path / "secrets" / "vault-key.json") == 0o400
    assert mode(tmp_path / "secrets" / "database-url") == 0o444, "each program in its container reads its own"


def test_the_vault_opens_with_the_key_that_was_made(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    ring = LocalKeyring.from_options({"path": tmp_path / "secrets" / "vault-key.json"})
    assert ring.key_ids == {ring.active_id}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
