"""Somebody is told in time: by mail, with the way to renew; a snooze that everybody sees; a calendar; and a service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from icalendar import Calendar
from playwright.sync_api import Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
NETWORK = "/apps/invoicing/acceptance/network/"
NOTICES = "/apps/invoicing/settings/notices/"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, inbox: Controller) -> Iterator[Product]:
    mail = f"smtp://127.0.0.1:{inbox.port}?tls=none"
    running = Product(tmp_path_factory.mktemp("product") / "data", {"COUNTERSIGN_MAIL_URL": mail})
    running.variables["COUNTERSIGN_ADDRESS"] = running.address
    running.start()
    yield running
    running.stop()


def look(product: Product) -> str:
    """As whoever cannot wait for the next one."""
    done = subprocess.run(
        [sys.executable, "manage.py", "watch_expiries"],
        cwd=PROJECT, env=product.environ | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_1_who_is_responsible_reads_what_expires_and_where_to_renew_it(
    page: Page, product: Product, inbox: Controller, downloads: Path
) -> None:
    people.sign_in_first(page, product)
    page.get_by_label("Account of Owner").click()
    page.get_by_role("link", name="Name and e-mail").click()
    page.get_by_label("E-mail").fill("grace@example.com")
    page.get_by_role("button", name="Save").click()
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    file, password = people.download_sample(page, product, "reports-expiring", downloads)
    page.goto(NETWORK)
    flow.add_certificate(page, file, password, "Reports")
    page.get_by_role("link", name="Reports", exact=True).first.click()
    page.get_by_role("link", name="Edit name and partner").click()
    page.get_by_label("Their e-mail").fill("pki@bank.example")
    page.get_by_label("Responsible here").select_option(label="Owner")
    page.get_by_role("button", name="Save").click()

    assert "2 new; 1 sent" in look(product)
    [mail] = inbox.handler.mails
    assert mail["To"] == "grace@example.com"
    assert mail["Subject"].startswith("Invoicing: Reports expires in 1")
    text = mail.get_payload(decode=True).decode()
    assert "Ask: pki@bank.example" in text
    (address,) = re.findall(r"Upload renewal: (\S+)", text)
    page.goto(address)
    expect(page.get_by_role("heading", name=re.compile("Reports"))).to_be_visible()
    assert "0 new; 0 sent" in look(product), "once"

    page.goto(NOTICES)
    expect(page.get_by_role("row").filter(has_text="Reports expires in")).to_contain_text("Sent")
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("handed over to grace@example.com")).to_be_visible()
    assert "a test of" in inbox.handler.mails[-1]["Subject"]


def test_2_a_snooze_says_why_and_is_seen_and_ended(page: Page, product: Product) -> None:
    page.goto(NETWORK)
    page.get_by_role("link", name="Reports", exact=True).first.click()
    page.get_by_role("link", name="Snooze…").click()
    page.get_by_label("Until").fill("2001-01-01")
    page.get_by_label("Why").fill("Ordered; arrives on Monday")
    page.get_by_role("button", name="Snooze", exact=True).click()
    expect(page.get_by_text("This is over already; choose a later day.")).to_be_visible()
    expect(page.get_by_label("Why")).to_have_value("Ordered; arrives on Monday")
    tomorrow = page.evaluate("new Date(Date.now() + 2 * 86400000).toISOString().slice(0, 10)")
    page.get_by_label("Until").fill(tomorrow)
    page.get_by_role("button", name="Snooze", exact=True).click()
    panel = page.get_by_role("region", name="Notices")
    expect(panel).to_contain_text("Owner: Ordered; arrives on Monday")
    page.goto(NOTICES)
    expect(page.get_by_role("region", name="Snoozed")).to_contain_text("Ordered; arrives on Monday by Owner")
    page.get_by_role("link", name="Reports", exact=True).click()
    page.get_by_role("button", name="End the snooze").click()
    expect(page.get_by_role("link", name="Snooze…")).to_be_visible()


def test_3_a_calendar_is_read_at_its_address_until_that_is_turned_over(page: Page, product: Product) -> None:
    page.goto("/calendars/")
    page.get_by_label("What it shows").select_option(label="Invoicing")
    page.get_by_role("button", name="Make its address").click()
    address = page.locator("#feed").inner_text()
    with urllib.request.urlopen(address) as answer:
        (event,) = Calendar.from_ical(answer.read()).walk("VEVENT")
    assert event["summary"] == "Reports expires (Invoicing / Acceptance)"
    page.get_by_role("button", name="New address").click()
    expect(page.locator("#feed")).not_to_have_text(address)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address)


def test_4_a_service_inside_is_not_reached_and_its_address_is_shown_no_more(page: Page, product: Product) -> None:
    page.goto(NOTICES)
    page.get_by_role("link", name="Add a service").click()
    page.get_by_label("Name").fill("Team")
    page.get_by_label("Address of the service").fill(f"json://127.0.0.1:{product.port}/t0ps3cret")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Added Team. Send a test to see that it arrives.")).to_be_visible()
    page.get_by_role("row").filter(has_text="Webhook").get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("Team: not sent. This server is not allowed to connect there")).to_be_visible()
    assert "t0ps3cret" not in page.content()
    page.get_by_role("link", name="Remove… Team").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Removed Team.")).to_be_visible()
