"""A renewal that is kept ready, used, and applied at a time: frozen before it, in use after it, and not on a bad night.

With SCREENSHOTS set to a folder, the pages are kept there as pictures, to be looked at.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
ENVIRONMENT = "/apps/invoicing/acceptance/"
# Its clocks never change, so that no hour is missing or comes twice on the day of a test.
ZONE = "Asia/Kolkata"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("product") / "data", {"COUNTERSIGN_TIME_ZONE": ZONE})
    running.start()
    yield running
    running.stop()


def sample(product: Product, slug: str) -> str:
    return str(next(s for s in people.samples(product) if s["slug"] == slug)["sha256"])


def let_its_time_come(product: Product, late: timedelta = timedelta(seconds=1)) -> None:
    """Nobody sits here until the evening: what is scheduled is due `late` ago. Nothing else is touched."""
    due_at = f"{datetime.now(UTC) - late:%Y-%m-%d %H:%M:%S}"
    with closing(sqlite3.connect(product.data / "countersign.sqlite3", timeout=20)) as database, database:
        database.execute("UPDATE rollouts_rollout SET due_at = ? WHERE state = 'scheduled'", [due_at])


def fill_in_a_time(page: Page, ahead: timedelta) -> None:
    page.get_by_label("Day and time").fill(f"{datetime.now(ZoneInfo(ZONE)) + ahead:%Y-%m-%dT%H:%M}")


def look_at(page: Page, product: Product, chromium: Browser, addresses: dict[str, str]) -> None:
    """Each page light and dark, wide and narrow: accessible, and nothing sticks out."""
    state, found = page.context.storage_state(), []
    pictures = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else None
    wide, narrow = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
    looks = [("light", wide), ("dark", narrow)] + ([("light", narrow), ("dark", wide)] if pictures else [])
    for scheme, viewport in looks:
        context = chromium.new_context(
            base_url=product.address, viewport=viewport, color_scheme=scheme, storage_state=state
        )
        looked_at = context.new_page()
        for name, address in addresses.items():
            looked_at.goto(address)
            for summary in looked_at.locator("main details > summary").all():
                summary.click()
            where = f"{name} ({scheme}, {viewport['width']} px)"
            found += [f"{where}: {violation['id']}" for violation in Axe().run(looked_at).response["violations"]]
            sideways = looked_at.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            found += [f"{where}: sticks out by {sideways} px"] if sideways > 0 else []
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                looked_at.screenshot(path=pictures / f"{name}-{scheme}-{viewport['width']}.png", full_page=True)
        context.close()
    assert found == []


def test_1_a_renewal_is_kept_ready_used_and_scheduled(page: Page, product: Product, downloads: Path, chromium: Browser):
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    flow.add_certificate(page, *people.download_sample(page, product, "bank-payments", downloads), "Bank payments")
    people.pin(page, f"{ENVIRONMENT}network/", flow.BANK, "Bank payments")
    flow.apply(page, re.compile("Apply 2 changes and restart"), "The bank goes live")

    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    page.get_by_role("link", name="Upload renewal").click()
    file, password = people.download_sample(page, product, "bank-payments-renewal", downloads)
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    page.get_by_label(re.compile("Keep ready")).check()
    page.get_by_role("button", name="Add version").click()
    expect(page.locator("#chips")).to_contain_text("Up to date")
    page.goto(page.url)
    page.get_by_role("button", name="Use this version").click()

    page.get_by_role("link", name=re.compile("Apply 1 change and restart")).click()
    page.get_by_label("Why").fill("The renewal, when nobody works")
    page.get_by_text("Schedule for later…").click()
    page.get_by_role("button", name="Schedule", exact=True).click()
    expect(page.locator(".field .error")).to_have_text("Say when: day and time.")
    fill_in_a_time(page, timedelta(hours=-1))
    page.get_by_role("button", name="Schedule", exact=True).click()
    expect(page.locator(".field .error")).to_contain_text("has passed; choose a later time, or apply now.")
    expect(page.get_by_label("Why")).to_have_value("The renewal, when nobody works")
    fill_in_a_time(page, timedelta(days=2))
    page.get_by_label("Why").press("Enter")
    expect(page.locator(".field .error")).to_contain_text("Nothing was applied.")
    page.get_by_role("button", name="Schedule", exact=True).click()
    expect(page.locator("#scheduled")).to_contain_text("Revision 2 is scheduled for")
    expect(page.locator("#scheduled")).to_contain_text("time zone Asia/Kolkata, UTC+05:30")
    page.get_by_role("link", name="Change time…").click()
    fill_in_a_time(page, timedelta(hours=5))
    page.get_by_role("button", name="Change time").click()
    expect(page.locator("#scheduled")).to_contain_text("In 5 h")
    scheduled = page.url

    people.pin(page, f"{ENVIRONMENT}network/", flow.OPEN, "Never send a certificate")
    expect(page.locator("#scheduled")).to_contain_text("1 change made since then is not part of it.")
    certificate = page.get_by_role("link", name="Bank payments", exact=True).first.get_attribute("href")
    addresses = {
        "overview": ENVIRONMENT,
        "apply": f"{ENVIRONMENT}apply/",
        "rollout": scheduled,
        "schedule": f"{scheduled}schedule/",
        "rollouts": f"{ENVIRONMENT}rollouts/",
        "certificate": str(certificate),
        "remove": f"{certificate}remove/",
        "home": "/",
    }
    look_at(page, product, chromium, addresses)


def test_2_when_its_time_comes_it_is_verified_and_the_partner_saw_it(page: Page, product: Product, chromium: Browser):
    page.goto(ENVIRONMENT)
    page.locator("#scheduled").get_by_role("link").click()
    before = flow.call(product, f"host={flow.BANK}")["sent"]["sha256"]
    assert before == sample(product, "bank-payments"), "frozen and waiting, not running"
    let_its_time_come(product)
    flow.wait_for_end(page, "Verified")  # without a click: the page follows
    expect(page.locator(".notice.good")).to_contain_text("The app itself reports the digest")
    renewed = sample(product, "bank-payments-renewal")
    assert flow.call(product, f"host={flow.BANK}")["sent"]["sha256"] == renewed
    assert flow.partner_saw(product, flow.BANK)["certificate"]["sha256"] == renewed, "the partner saw the renewal"
    assert flow.call(product, f"host={flow.OPEN}")["rule"] == "default", "the later pin is no part of it"
    look_at(page, product, chromium, {"verified": page.url})
    page.goto(ENVIRONMENT)
    expect(page.get_by_text("1 change is not running.")).to_be_visible()


def test_3_an_app_that_does_not_run_then_is_left_alone_and_a_person_is_called(
    page: Page, product: Product, chromium: Browser
):
    page.goto(f"{ENVIRONMENT}apply/")
    page.get_by_label("Why").fill("Telemetry gets none")
    page.get_by_text("Schedule for later…").click()
    fill_in_a_time(page, timedelta(hours=5))
    page.get_by_role("button", name="Schedule", exact=True).click()
    expect(page.locator("#scheduled")).to_be_visible()
    for pid in product.pids_of("sandbox.app", str(product.sandbox_port + 1)):
        os.kill(pid, signal.SIGKILL)
    let_its_time_come(product, late=timedelta(minutes=2))
    expect(page.get_by_role("status").filter(has_text="Not begun, nothing changed")).to_be_visible(timeout=60_000)
    expect(page.locator(".notice.bad")).to_contain_text("when its time came")
    look_at(page, product, chromium, {"missed": page.url, "missed-overview": ENVIRONMENT, "missed-home": "/"})
    page.goto("/")
    needed = page.get_by_role("listitem").filter(has_text="Scheduled apply cancelled")
    expect(needed).to_contain_text("when its time came")
    needed.get_by_role("link", name=re.compile("See why")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("revision 3")
