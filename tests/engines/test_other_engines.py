"""The whole first journey again, on the databases, brokers and storages that teams outgrow one machine with.

Two web servers behind one address, two workers and a clock run by the command lines of docker-compose.yml; what
changes between the two rounds is the environment alone. The chapters are those of tests/journeys.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis
from playwright.sync_api import Page, expect

from tests import services
from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import InParts

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

SETUPS = ("postgresql, valkey and s3", "postgresql, rabbitmq and files")
# What a broker could spoil is seen in the first chapters; the others once more would say the same.
FIRST_CHAPTERS = ("test_1_", "test_2_")


class Team(InParts):
    """With the servers it runs on."""

    database: services.Postgresql
    broker: services.Valkey | services.RabbitMQ
    storage: services.S3 | None = None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "product" in metafunc.fixturenames:
        chapter = metafunc.definition.name
        once = hasattr(flow, chapter) and not chapter.startswith(FIRST_CHAPTERS)
        metafunc.parametrize("product", SETUPS[:1] if once else SETUPS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with ExitStack() as running:
        database = running.enter_context(services.Postgresql())
        broker = running.enter_context(services.Valkey() if "valkey" in request.param else services.RabbitMQ())
        storage = running.enter_context(services.S3()) if "s3" in request.param else None
        variables = {"DATABASE_URL": database.database("countersign"), "COUNTERSIGN_BROKER_URL": broker.url}
        variables |= storage.variables if storage else {}
        # A second clock is one too many, and does no harm.
        clocks = 1 if storage else 2
        team = Team(tmp_path_factory.mktemp("team") / "data", variables, clocks=clocks)
        team.database, team.broker, team.storage = database, broker, storage
        try:
            team.start()
            yield team
        finally:
            team.stop()
        assert team.processes() == [], "nothing is left running"


globals().update({name: chapter for name, chapter in vars(flow).items() if name.startswith("test_")})


def test_both_web_servers_answered_and_neither_failed(product: Team):
    for name in ("web-0", "web-1"):
        said = product.log(name).read_text()
        assert len(re.findall(r" (GET|POST) /\S* (200|302) ", said)) > 10, name
        assert "Traceback" not in said, said
        assert "Internal Server Error" not in said


def test_both_workers_moved_rollouts_and_the_database_has_it_all(product: Team):
    with psycopg.connect(product.variables["DATABASE_URL"]) as database:
        states = [row[0] for row in database.execute("SELECT state FROM rollouts_rollout")]
        sealed = [
            row[0] for row in database.execute("SELECT storage_name FROM vault_sealedobject WHERE header IS NOT NULL")
        ]
    assert len(states) > (8 if product.storage else 0)
    assert set(states) == {"verified"}
    for name in ("worker-0", "worker-1", "clock-0"):
        assert "Traceback" not in product.log(name).read_text(), name
    kept = product.storage.objects() if product.storage else [file.name for file in (product.data / "vault").iterdir()]
    assert set(sealed) <= set(kept), "every sealed object lies where the settings say"
    assert not (product.data / "countersign.sqlite3").exists()
    assert not (product.data / "queue").exists()
    assert (product.data / "vault").exists() == (product.storage is None)


def test_nothing_piles_up_in_the_broker_and_nobody_listens_for_broadcasts(product: Team):
    if isinstance(product.broker, services.RabbitMQ):
        queues = product.broker.queues()
        assert queues.keys() == {"celery"}
        assert queues["celery"] < 10
    else:
        broker = redis.Redis.from_url(product.broker.url)
        names = [key.decode() for key in broker.scan_iter()]
        assert not [name for name in names if "pidbox" in name or "celeryev" in name or "fanout" in name]
        assert broker.llen("celery") < 10


def ask_for_restart(page: Page) -> float:
    """Returns the seconds until the page of the rollout was there."""
    page.goto("/apps/invoicing/test/")
    page.get_by_role("link", name="Restart only").click()
    began = time.monotonic()
    page.get_by_role("button", name=re.compile("Restart")).click()
    expect(page).to_have_url(re.compile("/rollouts/[0-9a-f-]{36}/$"), timeout=60_000)
    return time.monotonic() - began


def wait_for_end(page: Page) -> None:
    """Longer than flow's: whoever lost a server tries again after pauses that grow."""
    expect(page.get_by_role("status").filter(has_text="Verified").first).to_be_visible(timeout=150_000)


def test_what_is_asked_for_while_the_broker_is_gone_is_done_once_it_is_back(page: Page, product: Team, downloads: Path):
    page.goto("/apps/invoicing/")
    people.new_environment(page, "Test", "Sandbox app 2")
    file, password = people.download_sample(page, product, "bank-payments", downloads)
    flow.add_certificate(page, file, password, "Bank payments")
    product.broker.stop()
    page.get_by_role("link", name=re.compile("Apply 1 change and restart")).click()
    page.get_by_label("Why").fill("The broker is gone")
    began = time.monotonic()
    page.get_by_role("button", name=re.compile("^Apply")).click()
    expect(page).to_have_url(re.compile("/rollouts/[0-9a-f-]{36}/$"), timeout=60_000)
    assert time.monotonic() - began < 10, "a person waits two seconds for a broker, and a busy machine for the rest"
    product.broker.start()
    wait_for_end(page)
    assert product.get(f"{product.app(2)}/status")["certificates"] == 1


def test_a_broker_that_stands_still_keeps_nobody_waiting(page: Page, product: Team):
    product.broker.pause()
    try:
        took = ask_for_restart(page)
    finally:
        product.broker.resume()
    assert took < 10
    wait_for_end(page)


def test_after_the_database_was_gone_pages_and_workers_go_on(page: Page, product: Team):
    product.database.stop()
    began = time.monotonic()
    answer = page.goto("/apps/invoicing/test/", timeout=60_000)
    assert answer is not None
    assert answer.status >= 500
    assert time.monotonic() - began < 30, "nothing waits for ever"
    product.database.start()
    # The pool finds out which of its connections are dead, and makes new ones.
    for _web in range(4):
        deadline = time.monotonic() + 60
        while (answer := page.goto("/apps/invoicing/test/")) is None or answer.status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    ask_for_restart(page)
    wait_for_end(page)
    started = [json.loads(line)["call"] for line in (product.data / "apps/sandbox-app-2/platform-log.jsonl").open()]
    assert started == ["start"] + ["stop", "start"] * 3, (
        "each of the three rollouts stopped it once and started it once"
    )
