"""The systemd units, without systemd: what they say, and each ExecStart run for real with the unit's environment."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pki, ports
from tests.deploy import shape

PROGRAMS = ["prepare", "web", "worker", "clock", "apps"]
# What these start goes on when they end, and lives under what they set for themselves.
START_APPS = ["worker", "apps"]

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def said(name: str) -> dict[str, list[str]]:
    return shape.unit(f"countersign-{name}.service")["Service"]


# --- What they say ----------------------------------------------------------------------------------------------------


def test_the_target_wants_them_all_and_each_is_started_by_it() -> None:
    target = shape.unit("countersign.target")
    wanted = target["Unit"]["Wants"][0].split()
    assert sorted(wanted) == sorted(f"countersign-{name}.service" for name in PROGRAMS if name != "prepare")
    for name in wanted:
        assert shape.unit(name)["Install"] == {"WantedBy": ["countersign.target"]}


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "prepare"])
def test_each_waits_for_prepare_and_outlives_its_restart_and_its_failure(name: str) -> None:
    """With Requires= an upgrade's prepare would stop it, and a database that is away would end it for good."""
    section = shape.unit(f"countersign-{name}.service")["Unit"]
    assert section["Wants"] == ["countersign-prepare.service"]
    assert "countersign-prepare.service" in section["After"][0].split()
    assert not {"Requires", "Requisite", "BindsTo"} & section.keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_fails_is_tried_again(name: str) -> None:
    oneshot = said(name)["Type"] == ["oneshot"]
    assert said(name)["Restart"] == ["on-failure" if oneshot else "always"]
    # Done once, it is not done again whenever another unit is restarted.
    assert ("RemainAfterExit" in said(name)) == oneshot


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_runs_as_its_own_user_and_writes_nowhere_else(name: str) -> None:
    service = said(name)
    assert service["User"] == service["Group"] == ["countersign"]
    assert service["UMask"] == ["0077"]
    assert (service["StateDirectory"], service["StateDirectoryMode"]) == (["countersign"], ["0700"])
    assert service["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateDevices", "ProtectKernelModules", "RestrictSUIDSGID"):
        assert service[key] == ["yes"], key
    assert service["ProtectSystem"] == ["strict"]
    assert service["LoadCredential"] == ["vault-key:/etc/countersign/vault-key.json"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_an_app_would_inherit_is_set_only_where_no_app_is_started(name: str) -> None:
    inherited = {"PrivateTmp", "MemoryDenyWriteExecute", "SystemCallFilter", "RestrictNamespaces", "LockPersonality"}
    service = said(name)
    assert (inherited <= service.keys()) if name not in START_APPS else not (inherited & service.keys())


@pytest.mark.parametrize("name", START_APPS)
def test_stopping_the_unit_is_for_its_main_process_alone(name: str) -> None:
    assert said(name)["KillMode"] == ["process"]
    assert said(name)["OOMPolicy"] == ["continue"]


def test_a_worker_gets_the_time_to_finish_its_move() -> None:
    from rollouts.connectors import CALL_LIMIT

    assert int(said("worker")["TimeoutStopSec"][0]) >= 3 * CALL_LIMIT


# --- Run for real -----------------------------------------------------------------------------------------------------


class Machine:
    """A machine with the units, whose folders are elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.code = shape.build_image(folder / "opt")
        self.state, self.credentials, self.run = folder / "state", folder / "credentials", folder / "run"
        for place in (self.state, self.credentials, self.run):
            place.mkdir(mode=0o700)
        self.logs = folder
        self.port = ports.free_port()
        # What an operator writes into /etc/countersign/countersign.env.
        self.settings = {
            "COUNTERSIGN_SANDBOX": "true",
            "COUNTERSIGN_SANDBOX_PORT": str(free_sandbox_port()),
            "COUNTERSIGN_HOSTS": "countersign.example",
            "COUNTERSIGN_TLS": "true",
        }
        self.before = shape.snapshot(self.code)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(60)

    def here(self, word: str) -> str:
        for there, place in (
            ("/opt/countersign/.venv/bin", shape.BIN),
            ("/opt/countersign", self.code),
            ("/var/lib/countersign", self.state),
            ("/run/countersign-web", self.run),
            ("127.0.0.1:8000", f"127.0.0.1:{self.port}"),
        ):
            word = word.replace(there, str(place))
        return word

    def environ(self, name: str) -> dict[str, str]:
        given = shape.unit_environ(said(name), self.credentials)
        return {
            **{variable: self.here(value) for variable, value in given.items()},
            **self.settings,
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "NOTIFY_SOCKET": self.socket.getsockname() if said(name).get("Type") == ["notify"] else "",
        }

    def how(self, name: str) -> dict[str, Any]:
        assert said(name)["WorkingDirectory"] == ["/opt/countersign"]
        return {"preexec_fn": deny_write_execute if said(name).get("MemoryDenyWriteExecute") == ["yes"] else None}

    def once(self, name: str) -> subprocess.CompletedProcess[str]:
        command = [self.here(word) for word in shape.unit_command(said(name))]
        return subprocess.run(
            command, cwd=self.code, env=shape.clean_environ() | self.environ(name),
            capture_output=True, text=True, **self.how(name),
        )  # fmt: skip

    def start(self, name: str) -> shape.Program:
        command = [self.here(word) for word in shape.unit_command(said(name))]
        return shape.Program(
            command, environ=self.environ(name), folder=self.code, log=self.logs / f"{name}.log", **self.how(name)
        )

    def stop(self, name: str, program: shape.Program) -> None:
        """As systemd does it by the unit's KillMode. Its control group: every process that names the state folder."""
        os.kill(program.pid, signal.SIGTERM)
        code = program.process.wait(int(said(name)["TimeoutStopSec"][0]))
        assert code == 0, program.said()[-3000:]
        if said(name).get("KillMode", ["control-group"]) != ["process"]:
            for pid in processes_of(self.state):
                os.kill(pid, signal.SIGKILL)

    def manage(self, *words: str, given: str = "") -> str:
        ran = subprocess.run(
            [shape.BIN / "python", "manage.py", *words],
            cwd=self.code, env=shape.clean_environ() | self.environ("worker"), input=given,
            capture_output=True, text=True, **self.how("web"),
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def partner(self) -> list[str]:
        """The sandbox's, which its apps need; no unit, because nobody has it in production."""
        port = int(self.settings["COUNTERSIGN_SANDBOX_PORT"])
        (self.state / "sandbox").mkdir(mode=0o700)
        words = ["--folder", str(self.state / "sandbox"), "--port", str(port + 363), "--http-port", str(port)]
        return [str(shape.BIN / "python"), "-B", "-m", "sandbox.partner", *words]

    def app(self, number: int) -> dict[str, Any]:
        port = int(self.settings["COUNTERSIGN_SANDBOX_PORT"]) + number
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return json.load(answer)

    def health(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            shape.health_command(self.port), env=shape.clean_environ(), capture_output=True, text=True
        )


def deny_write_execute() -> None:
    """MemoryDenyWriteExecute=yes, by the kernel itself (from Linux 6.3 on, as systemd does it where it can)."""
    if _libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) and ctypes.get_errno() != errno.EINVAL:
        os._exit(90)


def free_sandbox_port() -> int:
    while True:
        port = ports.free_port()
        if port + 363 < 65536 and all(_is_free(port + more) for more in (1, 2, 363)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def processes_of(folder: Path) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (place / "environ").read_bytes() + (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def answers(ask: Callable[[], Any]) -> bool:
    try:
        return bool(ask())
    except OSError:
        return False


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    key = machine.credentials / "vault-key"
    machine.manage("generate_vault_key", given="")
    # systemd lets the unit's user read it by an access control list, which shows as the group's bit.
    key.chmod(0o440)
    prepared = machine.once("prepare")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    assert "Sign in as owner with" in prepared.stdout
    with shape.running(machine.partner(), environ={}, folder=machine.code, log=machine.logs / "partner.log") as partner:
        shape.until((machine.state / "sandbox" / "partner-server-ca.pem").exists, partner)
        yield machine
        machine.manage("shell", "-v", "0", given=STOP_APPS)
    machine.socket.close()
    assert shape.snapshot(machine.code) == machine.before, "the code belongs to root and is never written"


@pytest.fixture(scope="module")
def up(machine: Machine) -> Iterator[dict[str, shape.Program]]:
    programs = {name: machine.start(name) for name in ("web", "worker", "clock")}
    yield programs
    for program in programs.values():
        program.end(100)


STOP_APPS = """
from django.conf import settings; from rollouts.connectors import local_process
local_process.stop_all(settings.APPS_DIR)
"""

SET_UP = """
from environments import actions; from rollouts import actions as rollouts; from audit.actors import PORTAL
application = actions.create_application(name="Invoicing", by=PORTAL)
environment = actions.create_environment(application=application, name="Test", by=PORTAL)
rollouts.use_place(environment=environment, place="sandbox-app-1", by=PORTAL)
"""


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_prepare_finds_its_credential_and_can_be_run_again(machine: Machine) -> None:
    again = machine.once("prepare")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not list(machine.state.glob("vault-key*"))


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_the_web_server_tells_systemd_when_it_listens(machine: Machine, up: dict[str, shape.Program]) -> None:
    told = b""
    while b"READY=1" not in told:
        told = machine.socket.recv(4096)
    shape.until(lambda: machine.health().returncode == 0, up["web"], 90)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_the_clock_reaches_the_worker(machine: Machine, up: dict[str, shape.Program]) -> None:
    shape.until(lambda: set(shape.parts(machine.health()).values()) == {"ok"}, up["worker"], 90)
    assert up["clock"].lives()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_after_a_boot_the_apps_are_started_once(machine: Machine, up: dict[str, shape.Program]) -> None:
    assert machine.once("apps").returncode == 0
    shape.until(lambda: answers(lambda: machine.app(1)["status"] == "running"))
    first = machine.app(1)["incarnation"]
    assert machine.once("apps").returncode == 0
    assert machine.app(1)["incarnation"] == first


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_an_app_outlives_the_worker_that_started_it(
    machine: Machine, up: dict[str, shape.Program], tmp_path: Path
) -> None:
    machine.once("apps")
    shape.until(lambda: answers(lambda: machine.app(1)["status"] == "running"))
    machine.manage("shell", "-v", "0", given=SET_UP)
    file = tmp_path / "client.pfx"
    file.write_bytes(pki.pfx(pki.issue("client", authority=pki.make_authority("CA")), "secret"))
    machine.manage(
        "import_certificate", "invoicing/test", str(file), "--name", "Bank", "--password-file", "-", given="secret\n"
    )
    machine.manage("apply_environment", "invoicing/test", "--reason", "the worker starts it", "--wait")
    of_the_worker = machine.app(1)
    assert of_the_worker["certificates"] == 1

    machine.stop("worker", up["worker"])
    shape.until(lambda: not worker_processes(machine))  # its pool ends by itself
    assert machine.app(1)["incarnation"] == of_the_worker["incarnation"]

    up["worker"] = machine.start("worker")
    shape.until(lambda: shape.parts(machine.health()).get("worker") == "ok", up["worker"], 90)
    assert machine.app(1)["incarnation"] == of_the_worker["incarnation"]


def worker_processes(machine: Machine) -> list[int]:
    found = []
    for pid in processes_of(machine.state):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in words:
            found.append(pid)
    return found
