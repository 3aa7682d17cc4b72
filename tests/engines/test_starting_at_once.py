"""Several preparations at the same moment, from nothing: one does the work, the others wait, and all end well."""

from __future__ import annotations

import fcntl
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from portal import env
from portal.management.commands.run import TURN
from tests import services
from tests.journeys.product import PROJECT, Product
from vault.keyrings import local

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

AT_ONCE = 2


def prepare_while(held: AbstractContextManager[Any], environments: list[Mapping[str, str]], folder: Path) -> str:
    """Starts a preparation in each environment while the test holds what they take turns at; returns what all of them
    printed once they were let go and ended well."""
    logs = [folder / f"prepare-{number}.log" for number in range(len(environments))]
    with held:
        running = []
        for environ, log in zip(environments, logs, strict=True):
            with log.open("w") as output:
                command = [sys.executable, "manage.py", "prepare"]
                running.append(subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=output, stderr=output))
        deadline = time.monotonic() + 120
        while not all("Waiting for another preparation" in log.read_text() for log in logs):
            assert all(one.poll() is None for one in running), [log.read_text() for log in logs]
            assert time.monotonic() < deadline, "they do not wait for one another"
            time.sleep(0.1)
    codes = [one.wait(200) for one in running]
    said = [log.read_text() for log in logs]
    assert codes == [0] * len(running), said
    assert all("Ready to be started." in each for each in said)
    return "".join(said)


def password_in(said: str) -> str:
    """The one that was printed, for there is only one: no preparation takes back what somebody reads of another."""
    (password,) = re.findall(r"Sign in as owner with (\S+),", said)
    return password


@contextmanager
def locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(mode=0o700)
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_there(url: str) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [TURN])
        yield


def test_preparing_a_folder_twice_at_once_ends_well(tmp_path: Path):
    environ = Product(tmp_path / "data").environ
    said = prepare_while(locked(tmp_path / "data" / "prepare.lock"), [environ] * AT_ONCE, tmp_path)
    assert said.count("Made the vault's key") == 1
    with sqlite3.connect(tmp_path / "data" / "countersign.sqlite3") as database:
        ((name, kept),) = database.execute("SELECT username, password FROM environments_person")
    assert name == "owner"
    assert PBKDF2PasswordHasher().verify(password_in(said), kept)


def test_machines_that_share_a_database_take_turns(tmp_path: Path):
    """Each with a data folder of its own, so that no lock on a file can help them; the vault's key is given to all."""
    key = tmp_path / "vault-key.json"
    local.generate(key)
    with services.postgresql() as url:
        shared = {"DATABASE_URL": url, "COUNTERSIGN_VAULT_KEY": str(key)}
        machines = [Product(tmp_path / str(number) / "data", shared).environ for number in range(AT_ONCE)]
        said = prepare_while(locked_there(url), machines, tmp_path)
        with psycopg.connect(url) as database:
            ((name, kept),) = database.execute("SELECT username, password FROM environments_person").fetchall()
    assert name == "owner"
    assert PBKDF2PasswordHasher().verify(password_in(said), kept)


def test_of_programs_that_make_a_secret_at_once_all_read_the_same(tmp_path: Path):
    script = (
        "import sys; from portal import env; from pathlib import Path; print(env.secret_kept_in(Path(sys.argv[1])))"
    )
    file = tmp_path / "data" / "secret-key"
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(file)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    secrets = {one.communicate(timeout=100)[0].strip() for one in running}
    assert len(secrets) == 1
    assert len(secrets.pop()) > 50
    assert env.secret_kept_in(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["secret-key"], "nothing is left beside it"
