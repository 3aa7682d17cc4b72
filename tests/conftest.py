"""What holds for every test."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import ports

if TYPE_CHECKING:
    from certificates.models import ClientCertificate
    from environments.models import Application, Environment, Person
    from rollouts.models import Destination, Rollout

PASSWORD = "correct horse battery staple"  # of the people in tests

# CI sets it (.ci/run). A person whose machine lacks a part may skip a test; CI never may.
NOTHING_MAY_BE_SKIPPED = os.environ.get("CI") == "true"


# Files that other programs wrote, which are no part of this project: their tests run where PFX_CORPUS names their
# folder, or it lies beside the project.
CORPUS = Path(os.environ.get("PFX_CORPUS") or Path(__file__).resolve().parents[2] / "shared" / "pfx")
collect_ignore = [] if CORPUS.is_dir() else ["certificates/test_corpus.py"]


def pytest_report_header() -> str:
    corpus = "with" if CORPUS.is_dir() else "WITHOUT"
    return f"engines: {os.environ['COUNTERSIGN_TEST_ENGINES']}, corpus: {corpus} the folder of known PKCS #12 files"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the other engines (tests/settings.py), only what asks the database by itself: no other test differs. And the
    longest test first, so that nobody waits for it at the end."""
    if os.environ["COUNTERSIGN_TEST_ENGINES"] == "others":
        asking = [item for item in items if _asks_the_database(item) and not item.get_closest_marker("corpus")]
        config.hook.pytest_deselected(items=[item for item in items if item not in asking])
        items[:] = asking
    items.sort(key=lambda item: item.get_closest_marker("year") is None)


def _asks_the_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "django_db_setup"}
    return item.get_closest_marker("django_db") is not None or bool(fixtures & set(getattr(item, "fixturenames", ())))


def _no_skipping(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NOTHING_MAY_BE_SKIPPED and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}. On CI a skipped test counts as failed: give the machine what the test needs."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    _no_skipping(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    _no_skipping(report)
    return report


# --- A small world: a vault, people, an environment that runs a real app ----------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def vault_key() -> None:
    """One vault key for the test process, in the data folder that tests/settings.py makes and forgets."""
    from django.conf import settings

    from vault.keyrings import local

    path = Path(settings.VAULT_KEYRING["path"])
    if not path.exists():
        local.generate(path)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Before the database is made, what makes emptying it after a test cheap. Nobody here asks for Django's own
    permissions and content types, which would be written anew each time; and PostgreSQL takes longer to make a hundred
    empty tables anew (TRUNCATE) than to delete the few rows that there are, in any order, since its constraints are
    looked at when the transaction ends."""
    from django.contrib.contenttypes.management import create_contenttypes
    from django.db import connection
    from django.db.models.signals import post_migrate

    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    if connection.vendor == "postgresql":
        operations: Any = type(connection.ops)
        operations.sql_flush = lambda self, _style, tables, **_options: [
            f"DELETE FROM {self.quote_name(table)}" for table in tables
        ]


@pytest.fixture
def owner(db: None) -> Person:
    """An installation owner who has a password of their own."""
    from environments.models import Person

    return Person.objects.create_user("grace", password=PASSWORD, first_name="Grace", is_superuser=True, is_staff=True)


@pytest.fixture
def nobody_writes() -> Callable[[], AbstractContextManager[None]]:
    """Holds the whole database, so that whoever writes waits; reading goes on. For a thread, too."""
    from django.db import connection

    @contextmanager
    def hold() -> Iterator[None]:
        if connection.vendor == "sqlite":
            with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                yield
                other.execute("ROLLBACK")
        else:
            with closing(connection.copy()) as other, other.cursor() as cursor:
                tables = ", ".join(map(other.ops.quote_name, other.introspection.table_names(cursor)))
                cursor.execute(f"BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE")
                yield
                cursor.execute("ROLLBACK")

    return hold


@pytest.fixture
def application(owner: Person) -> Application:
    from environments import actions

    return actions.create_application(name="Invoicing", by=owner)


@pytest.fixture
def environment(application: Application, owner: Person) -> Environment:
    from environments import actions

    return actions.create_environment(application=application, name="Acceptance", by=owner)


@pytest.fixture
def add_certificate(environment: Environment, owner: Person) -> Callable[..., ClientCertificate]:
    """Adds a client certificate that a made-up partner authority issued; keywords are those of tests.pki.issue."""
    from certificates import actions, pkcs12
    from tests import pki

    partner = pki.make_authority("Partner CA")

    def add(name: str = "Bank payments", **kwargs: Any) -> ClientCertificate:
        file = pki.pfx(pki.issue(kwargs.pop("cn", name), authority=partner, **kwargs), "secret")
        return actions.add(environment=environment, name=name, identity=pkcs12.read(file, "secret"), by=owner)

    return add


@pytest.fixture
def place(settings: Any, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A place named `tiny` in the server's settings, where a small real app runs; it is ended with the test.

    `behaviour` is the file that tells the app how to behave at its next start (tests/contracts/tiny_app.py).
    """
    from rollouts.connectors import local_process

    port = ports.free_port()
    apps = tmp_path / "apps"
    known = {
        "title": "Tiny app",
        "address": f"http://127.0.0.1:{port}/",
        "folder": str(apps / "tiny"),
        "status_url": f"http://127.0.0.1:{port}/status",
        "argv": [
            sys.executable,
            str(Path(__file__).parent / "contracts" / "tiny_app.py"),
            str(port),
            "--configuration",
            "{configuration}",
            "--behaviour",
            str(tmp_path / "behaviour.json"),
        ],
    }
    settings.LOCAL_PROCESSES = {"tiny": known}
    yield known | {"behaviour": tmp_path / "behaviour.json", "apps": apps}
    local_process.stop_all(apps)


@pytest.fixture
def running_app(place: dict[str, Any], environment: Environment, owner: Person) -> Destination:
    """The environment runs on the tiny app, which was started before the portal knew it."""
    from rollouts import actions
    from rollouts.connectors import connect

    app = connect("local-process", place)
    app.start()
    deadline = time.monotonic() + 10
    while app.observe().status != "running":
        assert time.monotonic() < deadline, "the tiny app did not come up"
        time.sleep(0.05)
    return actions.use_place(environment=environment, place="tiny", by=owner)


@pytest.fixture
def run_rollout() -> Callable[[Rollout], Rollout]:
    """Makes the moves of a rollout, as a worker would, until it has ended."""
    from rollouts import moves

    def run(rollout: Rollout) -> Rollout:
        for _move in range(60):
            again_in = moves.advance(rollout.pk)
            if again_in is None:
                break
            time.sleep(again_in)
        rollout.refresh_from_db()
        return rollout

    return run


@pytest.fixture
def apply(environment: Environment, owner: Person, run_rollout: Any) -> Callable[..., Rollout]:
    """Asks for an apply of what is wanted now, and makes its moves."""
    from rollouts import actions

    def apply(**kwargs: Any) -> Rollout:
        shown = actions.pending(environment)[0].digest
        return run_rollout(
            actions.apply(**{"environment": environment, "shown": shown, "reason": "test", "by": owner} | kwargs)
        )

    return apply
