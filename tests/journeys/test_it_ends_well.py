"""An app that does not come up with what was applied: what ran before is back by itself, and the partner proves it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests import ports
from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "/apps/billing/acceptance/"

# The sandbox's app behind a script that does not let it start with a file called “renewed”, for as long as it is picky.
PICKY = """\
picky="$1" configuration="$2"; shift 2
if [ -e "$picky" ] && find -L "$configuration" -name '*renewed*' | grep -q .; then
  echo "renewed.pfx cannot be read by this runtime" >&2; exit 1
fi
exec "$@"
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    running = Product(folder / "data", {"COUNTERSIGN_PLACES": str(folder / "places.json")})
    port = ports.free_port()
    trust = str(running.data / "sandbox" / "partner-server-ca.pem")
    (folder / "start.sh").write_text(PICKY)
    (folder / "picky").touch()
    place = {
        "title": "A picky app",
        "address": f"http://127.0.0.1:{port}/",
        "status_url": f"http://127.0.0.1:{port}/status",
        "cwd": str(PROJECT),
        "trust": trust,
        "argv": [
            "/bin/sh", str(folder / "start.sh"), str(folder / "picky"), "{configuration}",
            sys.executable, "-m", "sandbox.app", "--name", "A picky app", "--configuration", "{configuration}",
            "--port", str(port), "--partner-port", str(running.sandbox_port + 363), "--trust", trust,
        ],
    }  # fmt: skip
    (folder / "places.json").write_text(json.dumps({"picky": place}))
    running.start()
    running.picky, running.picky_app = folder / "picky", f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
    yield running
    running.stop()


def sent(product: Any) -> str:
    """The SHA-256 of what the app sends to the bank, as the bank itself has seen it."""
    said = product.get(f"{product.picky_app}/calls.json?host={flow.BANK}")
    saw: str = flow.partner_saw(product, flow.BANK)["certificate"]["sha256"]
    assert said["sent"]["sha256"] == saw
    return saw


def sample(product: Product, slug: str) -> str:
    return str(next(s for s in people.samples(product) if s["slug"] == slug)["sha256"])


def test_1_the_first_apply_says_what_it_would_go_back_to(page: Page, product: Product, downloads: Path):
    people.sign_in_first(page, product)
    people.new_application(page, "Billing")
    people.new_environment(page, "Acceptance", "A picky app")
    file, password = people.download_sample(page, product, "bank-payments", downloads)
    flow.add_certificate(page, file, password, "Bank payments")
    page.get_by_role("link", name="Add pin").click()
    flow.pin(page, flow.BANK, flow.option(page, "Bank payments"))
    page.goto(f"{ENVIRONMENT}apply/")
    expect(page.get_by_text("Nothing was applied here before, so there is nothing to go back to")).to_be_visible()
    page.get_by_label("Why").fill("The bank goes live")
    page.get_by_role("button", name=re.compile("^Apply")).click()
    flow.wait_for_end(page, "Verified")
    assert sent(product) == sample(product, "bank-payments")


def test_2_an_app_that_does_not_come_up_is_back_with_its_old_certificate(page: Page, product: Product, downloads: Path):
    file, password = people.download_sample(page, product, "bank-payments-renewal", downloads)
    page.goto(f"{ENVIRONMENT}network/")
    flow.add_certificate(page, file, password, "Renewed")
    pins = page.get_by_role("region", name="Pins")
    pins.get_by_role("link", name=f"Edit {flow.BANK}").click()
    page.get_by_label("Is sent").select_option(label=flow.option(page, "Renewed"))
    page.get_by_role("button", name="Save (no restart)").click()
    page.goto(f"{ENVIRONMENT}apply/")
    expect(page.get_by_text("If this fails, revision 1 returns by itself.")).to_be_visible()
    page.get_by_label("Why").fill("Renewal")
    page.get_by_role("button", name=re.compile("^Apply")).click()
    flow.wait_for_end(page, "Rolled back to revision 1")
    expect(page.locator(".notice.bad")).to_contain_text("The app did not come up")
    expect(page.locator(".notice.bad")).to_contain_text("renewed.pfx cannot be read by this runtime")
    tests = page.get_by_role("region", name="Connection tests")
    expect(tests.get_by_role("columnheader", name="With what ran before")).to_be_visible()
    expect(tests.get_by_text("Accepted", exact=True)).to_have_count(2)
    assert sent(product) == sample(product, "bank-payments"), "the partner is still sent the old certificate"
    if folder := os.environ.get("SCREENSHOTS"):
        for width, scheme in ((1440, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=str(Path(folder) / f"rolled-back-{width}-{scheme}.png"), full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(ENVIRONMENT)
    expect(page.locator("#chips")).to_contain_text("Rolled back, 1 is running")


def test_3_what_failed_is_blocked_until_somebody_insists(page: Page, product: Any):
    page.goto(f"{ENVIRONMENT}apply/")
    expect(page.get_by_text("This configuration failed before and is blocked")).to_be_visible()
    page.get_by_label("Why").fill("Once more")
    page.get_by_role("button", name=re.compile("^Apply")).click()
    expect(page.locator("main")).to_contain_text("failed before")
    expect(page.get_by_label("Why")).to_have_value("Once more")
    product.picky.unlink()
    page.get_by_label("Why").fill("The runtime was updated")
    page.get_by_label("Try it again all the same").check()
    page.get_by_role("button", name=re.compile("^Apply")).click()
    flow.wait_for_end(page, "Verified")
    expect(page.get_by_text("“The runtime was updated”")).to_be_visible()
    assert sent(product) == sample(product, "bank-payments-renewal")
    page.goto(ENVIRONMENT)
    expect(page.locator("#chips")).to_contain_text("Up to date")


def test_4_what_no_worker_has_begun_is_cancelled_and_nothing_changes(page: Page, product: Product):
    before = sent(product)
    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_role("region", name="Pins").get_by_role("link", name=f"Edit {flow.BANK}").click()
    page.get_by_label("Is sent").select_option(label=flow.option(page, "Bank payments"))
    page.get_by_role("button", name="Save (no restart)").click()
    workers = product.pids_of("celery", "worker")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.goto(f"{ENVIRONMENT}apply/")
        page.get_by_label("Why").fill("Back to the old one")
        page.get_by_role("button", name=re.compile("^Apply")).click()
        page.get_by_role("button", name="Cancel").click()
        flow.wait_for_end(page, "Cancelled")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    expect(page.locator("main")).to_contain_text("nothing was changed")
    page.goto(ENVIRONMENT)
    expect(page.get_by_text("1 change is not running.")).to_be_visible()
    assert sent(product) == before
