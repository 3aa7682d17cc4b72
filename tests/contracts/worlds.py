"""What stands for each connector's platform, with one app on it: a new connector is one more world in WORLDS."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from certificates.content import Bundle, File
from rollouts.connectors import Connector, connect
from rollouts.downloads import zipped
from rollouts.outbound import Door
from tests import ports

HERE = Path(__file__).parent


class World(Protocol):
    """A platform with one app on it. `settings` (JSON) is what a destination keeps, with its secrets.

    The app is stopped at first where the platform can stop it, and runs otherwise. `reports`: it tells the digest of
    what it loaded. `misbehaviours`: what `misbehave` can make of the platform's API, none for what has none.
    """

    settings: dict[str, Any]
    reports: bool
    misbehaviours: tuple[str, ...]

    def bundle(self, *paths: str) -> Bundle:
        """Something to deliver; other bytes each time. `paths` where the platform takes files of any name."""

    def processes(self) -> list[Any]:
        """Every living instance of the app, found without the connector."""

    def calls(self) -> list[str]:
        """The stops, starts and restarts that the platform itself says it carried out."""

    def misbehave(self, how: str) -> None:
        """hang, reset, drip, garbage, refuse (500), redirect or huge; "" for as it should."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class FileMemory:
    """What a connector keeps between calls, in a file (rollouts.connectors.Memory)."""

    path: Path

    def recall(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    def keep(self, words: str) -> None:
        self.path.write_text(words)


def connected(kind: str, settings: Mapping[str, Any], order: int = 0) -> Connector:
    """As rollouts.unseal.connected does; `_reach` are names of hosts that are on loopback, `_memory` is a file."""
    given = dict(settings)
    places = {(host, port): ("127.0.0.1", at) for host, port, at in given.pop("_reach", [])}
    if memory := given.pop("_memory", ""):
        given["memory"] = FileMemory(Path(memory))
    if folder := given.pop("_hand_out", ""):
        given["hand_out"] = partial(handed_out, Path(folder))
    return connect(kind, {**given, "door": Door(("public", "private"), places)}, order)


class _OnThisServer:
    """What the platforms on this server have in common."""

    settings: dict[str, Any]
    folder: Path
    behaviour: Path
    reports = True
    misbehaviours: tuple[str, ...] = ()

    def bundle(self, *paths: str) -> Bundle:
        """Other bytes each time, as a PFX written anew would have."""
        return Bundle(
            tuple(File(p, secrets.token_bytes(2000)) for p in paths or ("custom-settings.json", "pfx/one.pfx"))
        )

    def let_the_app(self, **behaviour: Any) -> None:
        self.behaviour.write_text(json.dumps(behaviour))

    def let_the_app_exit(self, reason: str) -> None:
        self.let_the_app(exit=reason)

    def processes(self) -> list[Any]:
        mark = str(self.folder / "current").encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in words and self.is_the_app(words):
                found.append(int(place.name))
        return found

    def is_the_app(self, words: list[bytes]) -> bool:
        return True

    def misbehave(self, how: str) -> None:
        raise AssertionError("this platform has no API that could misbehave")

    def close(self) -> None:
        for pid in self.processes():  # each bears this test's own folder in its command line
            os.kill(pid, signal.SIGKILL)


class ThisServer(_OnThisServer):
    """Stands for the platform of local-process: a folder, and a real small HTTP app as the command."""

    def __init__(self, folder: Path) -> None:
        self.port = ports.free_port()
        self.folder = folder / "apps" / "demo"
        self.behaviour = folder / "behaviour.json"
        app = [sys.executable, str(HERE / "tiny_app.py")]
        self.settings = {
            "folder": str(self.folder),
            "argv": [*app, str(self.port), "--configuration", "{configuration}", "--behaviour", str(self.behaviour)],
            "status_url": f"http://127.0.0.1:{self.port}/status",
        }

    def calls(self) -> list[str]:
        log = self.folder / "platform-log.jsonl"
        return [json.loads(line)["call"] for line in log.read_text().splitlines()] if log.exists() else []


class Service(_OnThisServer):
    """Stands for the platform of directory: a service with an init script (tests/contracts/service.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.of_service = folder / "apps" / "demo", folder / "service"
        self.behaviour = folder / "behaviour.json"
        script = [sys.executable, str(HERE / "service.py")]
        script += [str(self.of_service), str(ports.free_port()), str(self.behaviour), "{configuration}"]
        self.settings = {
            "folder": str(self.folder),
            **{order: [*script, order] for order in ("start", "stop", "status")},
        }

    def is_the_app(self, words: list[bytes]) -> bool:
        return any(word.endswith(b"tiny_app.py") for word in words)

    def calls(self) -> list[str]:
        log = self.of_service / "calls"
        return log.read_text().split() if log.exists() else []


class Runtime(_OnThisServer):
    """Stands for the platform of m2ee: a supervisor, and a runtime with an admin port (m2ee_runtime.py)."""

    reports = False
    misbehaviours = ("hang", "reset", "drip", "garbage", "refuse", "redirect", "huge")

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder / "apps" / "demo", folder / "runtime"
        self.behaviour = self.state / "behaviour"
        self.state.mkdir()
        self.port = ports.free_port()
        script = [sys.executable, str(HERE / "m2ee_runtime.py"), "supervise"]
        argv = [*script, str(self.state), str(self.port), str(self.folder / "current")]
        self.supervisor = subprocess.Popen(argv, start_new_session=True)
        self.settings = {
            "folder": str(self.folder),
            "admin": f"http://runtime.test:{self.port}/",
            "password": "Adm1n-of-the-runtime",
            "_reach": [["runtime.test", self.port, self.port]],
        }
        deadline = time.monotonic() + 15
        while not self._answers():
            assert time.monotonic() < deadline, "the stand-in runtime did not come up"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/up", timeout=1):
                return True
        except OSError:
            return False

    def is_the_app(self, words: list[bytes]) -> bool:
        return b"run" in words

    def calls(self) -> list[str]:
        log = self.state / "calls"
        return log.read_text().split() if log.exists() else []

    def misbehave(self, how: str) -> None:
        self.behaviour.write_text(how)

    def close(self) -> None:
        self.supervisor.kill()
        self.supervisor.wait(10)
        super().close()


class _WithAnApi:
    """What the platforms with an API of their own have in common: a process that stands in for it."""

    script = ""
    reports = False
    misbehaviours: tuple[str, ...] = ("hang", "reset", "drip", "garbage", "refuse", "redirect", "huge")
    settings: dict[str, Any]

    def __init__(self, folder: Path, *more: str) -> None:
        self.state = folder / "platform"
        self.state.mkdir()
        self.port = ports.free_port()
        argv = [sys.executable, str(HERE / self.script), str(self.state), str(self.port), *more]
        self.api = subprocess.Popen(argv, start_new_session=True)
        deadline = time.monotonic() + 15
        while not self._answers():
            assert time.monotonic() < deadline, f"{self.script} did not come up"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/up", timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def bundle(self, *paths: str) -> Bundle:
        return Bundle(tuple(File(p, secrets.token_bytes(2000)) for p in paths or ("variables.json", "README.txt")))

    def processes(self) -> list[Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/instances", timeout=5) as answer:
            found: list[Any] = json.load(answer)
        return found

    def calls(self) -> list[str]:
        log = self.state / "calls"
        return log.read_text().split() if log.exists() else []

    def misbehave(self, how: str) -> None:
        (self.state / "behaviour").write_text(how)

    def close(self) -> None:
        self.api.kill()
        self.api.wait(10)


class DeployApi(_WithAnApi):
    """Stands for the platform of mendix-cloud (deploy_api.py)."""

    script = "deploy_api.py"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = {
            "base": f"http://deploy.test:{self.port}/api/1",
            "app": "billing",
            "mode": "Acceptance",
            "username": "ops@example.com",
            "api_key": "Key-0f-the-api",
            "_reach": [["deploy.test", self.port, self.port]],
            "_memory": str(folder / "memory"),
        }


class CloudController(_WithAnApi):
    """Stands for the platform of cloud-foundry (cloud_foundry_api.py)."""

    script = "cloud_foundry_api.py"

    def __init__(self, folder: Path, host: str = "cf.test") -> None:
        super().__init__(folder, host)
        self.settings = {
            "api": f"http://api.cf.test:{self.port}",
            "app": "7f6c1f0e-3c1d-4a55-9a0e-3f4f7a2c9f10",
            "username": "ops@example.com",
            "password": "Pass-of-the-user",
            "client_id": "cf-ops",
            "client_secret": "Secret-of-the-client",
            "strategy": "restart",
            "authorities": "",
            "_reach": [["api.cf.test", self.port, self.port], ["login.cf.test", self.port, self.port]],
            "_memory": str(folder / "memory"),
        }

    def bundle(self, *paths: str) -> Bundle:
        """The buildpack's variables; other files go nowhere."""
        value = json.dumps([{"pfx": secrets.token_hex(40), "password": "x", "pin_to": []}])
        variables = File("variables.json", json.dumps({"CLIENT_CERTIFICATES": value}).encode())
        return Bundle((variables, *(File(path, b"another file") for path in paths)))


class Cluster(_WithAnApi):
    """Stands for the platform of kubernetes (kubernetes_api.py)."""

    script = "kubernetes_api.py"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = {
            "api": f"http://cluster.test:{self.port}",
            "authorities": "",
            "token": "Token-of-the-account",
            "namespace": "prod",
            "name": "billing",
            "secret_name": "billing-certificates",
            "_reach": [["cluster.test", self.port, self.port]],
            "_memory": str(folder / "memory"),
        }


class OperatedCluster(_WithAnApi):
    """Stands for the platform of mendix-operator (kubernetes_api.py)."""

    script = "kubernetes_api.py"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "mendixapp")
        self.settings = {
            "api": f"http://cluster.test:{self.port}",
            "authorities": "",
            "token": "Token-of-the-account",
            "namespace": "prod",
            "name": "billing",
            "_reach": [["cluster.test", self.port, self.port]],
            "_memory": str(folder / "memory"),
        }

    def bundle(self, *paths: str) -> Bundle:
        """A patch of the MendixApp; other files go nowhere."""
        entry = {"key": secrets.token_hex(40), "password": "eA==", "pinTo": ["api.example.com"]}
        custom = json.dumps({"NoClientCertificateUsages": "internal.example.com"})
        patch = {"spec": {"runtime": {"clientCertificates": [entry], "customConfiguration": custom}}}
        files = (File("mendixapp-patch.yaml", json.dumps(patch).encode()),)
        return Bundle((*files, *(File(path, b"another file") for path in paths)))


class Receiver(_WithAnApi):
    """Stands for the platform of webhook (receiver.py)."""

    script = "receiver.py"
    reports = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = {
            "url": f"http://receiver.test:{self.port}/orders",
            "key": "whsec_cmVjZWl2ZXItYW5kLXBvcnRhbC1rbm93LWl0",
            "authorities": "",
            "_reach": [["receiver.test", self.port, self.port]],
            "_memory": str(folder / "memory"),
            "_hand_out": str(self.state),
        }


def handed_out(folder: Path, bundle: Bundle) -> str:
    """The export as a zip in a file; an address that its reader opens."""
    path = folder / f"{secrets.token_hex(8)}.zip"
    path.write_bytes(zipped(bundle))
    return path.as_uri()


WORLDS: dict[str, Callable[[Path], World]] = {
    "cloud-foundry": CloudController,
    "directory": Service,
    "kubernetes": Cluster,
    "local-process": ThisServer,
    "m2ee": Runtime,
    "mendix-cloud": DeployApi,
    "mendix-operator": OperatedCluster,
    "webhook": Receiver,
}
