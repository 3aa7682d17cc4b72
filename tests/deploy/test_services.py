"""Each service of docker-compose.yml, run for real: its own command line and environment, out of the image's files.

PostgreSQL, Valkey and the S3 server are real ones. What an engine does (networks, mounts) is put in its place by name:
hosts become ports here, and /run/secrets the folder that deploy/make-secrets.sh made.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ports, services
from tests.deploy import shape
from tests.deploy.test_compose import TEAM, make_secrets

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

VARIABLES = {"COUNTERSIGN_HOSTS": "countersign.example"}


class Broker(services.Valkey):
    """With the command line and the configuration file of the service."""

    def __init__(self, secrets: Path) -> None:
        super().__init__()
        self.secrets = secrets
        self.password = (secrets / "broker-password").read_text()

    def commands(self):
        program, *words = TEAM["services"]["valkey"]["command"]
        assert program == "valkey-server"
        configuration = words.pop(0).replace("/run/secrets", str(self.secrets))
        here = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [[super().commands()[0][0], configuration, *words, *here]]


class Team:
    """The services of the file, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.image = shape.build_image(folder / "image")
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.secrets = folder / "secrets"
        make_secrets(self.secrets)
        self.logs = folder
        self.port = ports.free_port()
        self.before = shape.snapshot(self.image)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def put_in_place(self, name: str, text: str) -> None:
        (self.secrets / name).chmod(0o600)
        (self.secrets / name).write_text(text)

    def here(self, text: str, hosts: dict[str, str]) -> str:
        """What an engine's mounts and networks would make of it."""
        text = shape.interpolated(text, VARIABLES)
        for there, place in hosts.items():
            text = text.replace(there, place)
        text = text.replace("/run/secrets/vault-key", str(self.secrets / "vault-key.json"))
        return text.replace("/run/secrets", str(self.secrets)).replace("/var/lib/countersign", str(self.state))

    def environ(self, name: str) -> dict[str, str]:
        given = shape.image_environ() | TEAM["services"][name]["environment"]
        given["PATH"] = shape.clean_environ()["PATH"]
        return {variable: self.here(value, self.hosts) for variable, value in given.items()}

    def command(self, name: str) -> list[str]:
        words = TEAM["services"][name].get("command") or shape.image_command()
        return [self.here(word, {"0.0.0.0:8000": f"127.0.0.1:{self.port}"}) for word in words]

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        environ = shape.clean_environ() | self.environ(name)
        return subprocess.run(self.command(name), cwd=self.image, env=environ, capture_output=True, text=True)

    def start(self, name: str) -> shape.Program:
        return shape.Program(
            self.command(name), environ=self.environ(name), folder=self.image, log=self.logs / f"{name}.log"
        )

    def health(self) -> subprocess.CompletedProcess[str]:
        """The image's health check, in the web server's environment."""
        return subprocess.run(
            shape.health_command(self.port),
            cwd=self.image, env=shape.clean_environ() | self.environ("web"), capture_output=True, text=True,
        )  # fmt: skip

    def own_health(self, name: str) -> subprocess.CompletedProcess[str]:
        """The check of a service without pages."""
        word, *command = TEAM["services"][name]["healthcheck"]["test"]
        assert word == "CMD"
        environ = shape.clean_environ() | self.environ(name)
        return subprocess.run(command, cwd=self.image, env=environ, capture_output=True, text=True)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    team = Team(tmp_path_factory.mktemp("team"))
    postgres, storage = services.Postgresql(), services.S3()
    postgres.password = team.secret("database-password")
    storage.access_key, storage.password = team.secret("storage-access-key"), team.secret("storage-secret-key")
    storage.bucket = TEAM["services"]["web"]["environment"]["COUNTERSIGN_VAULT_BUCKET"]
    with postgres, storage, Broker(team.secrets) as broker:
        team.database = postgres.database(TEAM["services"]["postgres"]["environment"]["POSTGRES_DB"])
        team.postgres = postgres
        for file, there, port in (
            ("database-url", "@postgres:5432/", postgres.port),
            ("broker-url", "@valkey:6379/", broker.port),
        ):
            assert there in team.secret(file), "it names the service"
            team.put_in_place(file, team.secret(file).replace(there, f"@127.0.0.1:{port}/"))
        team.hosts = {"http://storage:7070": storage.url}
        yield team


@pytest.fixture(scope="module")
def prepared(team: Team) -> Team:
    first = team.run("prepare")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Sign in as owner with" in first.stdout
    return team


@pytest.fixture(scope="module")
def up(prepared: Team) -> Iterator[dict[str, shape.Program]]:
    """All three, as after `docker compose up`."""
    programs = {name: prepared.start(name) for name in ("web", "worker", "clock")}
    yield programs
    for program in programs.values():
        program.end(100)


def test_prepare_can_be_run_again_and_makes_no_key_of_its_own(prepared: Team) -> None:
    again = prepared.run("prepare")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.endswith("Ready to be started.\n")
    assert not list(prepared.state.rglob("vault-key*")), "the mounted key is the one that is used"
    assert not list(prepared.state.rglob("secret-key*"))
    assert not list(prepared.state.rglob("*.sqlite3"))


def test_the_web_server_is_ready_and_says_that_worker_and_clock_are_at_work(
    prepared: Team, up: dict[str, shape.Program]
) -> None:
    """Though it is asked by another name than that in COUNTERSIGN_HOSTS, and without TLS."""
    shape.until(lambda: set(shape.parts(prepared.health()).values()) == {"ok"}, up["web"], 90)
    assert prepared.health().returncode == 0
    assert {"database", "storage", "vault_key", "broker", "worker", "clock"} <= shape.parts(prepared.health()).keys()
    for name in ("worker", "clock"):
        assert up[name].lives()
        check = prepared.own_health(name)
        assert check.returncode == 0, check.stdout + check.stderr


def says_that_the_database_is_away(check: subprocess.CompletedProcess[str]) -> bool:
    return check.returncode == 1 and shape.parts(check).get("database") == "not ok"


def test_the_health_check_fails_while_the_database_is_away(prepared: Team, up: dict[str, shape.Program]) -> None:
    shape.until(lambda: prepared.health().returncode == 0, up["web"], 90)
    prepared.postgres.stop()
    try:
        # The first that fails may fail for its time; a later one says why.
        shape.until(lambda: says_that_the_database_is_away(prepared.health()), up["web"], 90)
    finally:
        prepared.postgres.start()
    shape.until(lambda: set(shape.parts(prepared.health()).values()) == {"ok"}, up["web"], 120)


def test_each_one_ends_when_it_is_asked_to_and_wrote_nothing_into_the_image(
    prepared: Team, up: dict[str, shape.Program]
) -> None:
    """Last: the engine sends SIGTERM, and kills what is still there after the grace period."""
    for name, program in up.items():
        patience = TEAM["services"][name].get("stop_grace_period", "10s").removesuffix("s")
        assert program.lives(), program.said()
        assert program.end(int(patience)) == 0, program.said()[-3000:]
    assert shape.snapshot(prepared.image) == prepared.before
