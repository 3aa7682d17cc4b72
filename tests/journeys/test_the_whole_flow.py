"""From a downloaded .pfx to the partner naming it: the whole flow in a browser, as `make run` starts the product.

The chapters are one journey, in order; what is asserted at the end of each is what the partner or the app saw.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

BANK = "bank.sandbox.test"
OPEN = "open.sandbox.test"


def in_the_list(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Environment").get_by_role("link", name=name).click()


def wait_for_end(page: Page, chip: str) -> None:
    """On the page of a rollout, until it says how it ended."""
    expect(page.get_by_role("status").filter(has_text=chip).first).to_be_visible(timeout=60_000)


def apply(page: Page, button: re.Pattern[str], reason: str, ticket: str = "") -> None:
    page.get_by_role("link", name=button).click()
    page.get_by_label("Why").fill(reason)
    if ticket:
        page.get_by_label("Ticket").fill(ticket)
    page.get_by_role("button", name=re.compile("^Apply")).click()
    wait_for_end(page, "Verified")


def call(product: Product, query: str) -> Any:
    """What the app sends to a target, and what the partner answered."""
    return product.get(f"{product.app()}/calls.json?{query}")


def partner_saw(product: Product, host: str) -> Any:
    """The partner's own record of the last call to one of its names."""
    return next(c for c in product.get(f"{product.desk}/calls.json")["calls"] if c["host"] == host)


def add_certificate(page: Page, file: Path, password: str, name: str) -> None:
    open_tab(page, "Network")
    page.get_by_role("link", name="Add client certificate").first.click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Add certificate").click()
    expect(in_the_list(page, name)).to_be_visible()


def pin(page: Page, typed: str, sent: str) -> None:
    page.get_by_label("Service, host or client certificate identifier").fill(typed)
    page.get_by_label("Is sent").select_option(label=sent)
    page.get_by_role("button", name="Save (no restart)").click()


def option(page: Page, name: str) -> str:
    """How the editor of a pin calls a certificate: its name, and until when it is valid."""
    found = page.get_by_label("Is sent").locator("option").filter(has_text=name).first
    expect(found).to_be_attached()
    return found.text_content() or ""


def test_1_the_first_certificate_goes_from_a_download_to_the_partner(page: Page, product: Product, downloads: Path):
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoicing / Acceptance")
    refused = call(product, f"host={BANK}")
    assert refused["outcome"] == "refused", "before, the partner refuses the app"

    file, password = people.download_sample(page, product, "bank-payments", downloads)
    add_certificate(page, file, password, "Bank payments")
    in_the_list(page, "Bank payments").dblclick(position={"x": 600, "y": 10})
    page.get_by_role("link", name=re.compile("Pin client certificate to services")).click()
    pin(page, f"https://{BANK}/v2/payments", "Bank payments")
    expect(page.get_by_text("2 changes are not running.")).to_be_visible()
    page.get_by_role("link", name="View changes").click()
    expect(page.get_by_role("row").filter(has_text=BANK).first).to_be_visible()
    apply(page, re.compile("Apply 2 changes and restart"), "The bank goes live", "CHG-4711")

    expect(page.locator(".notice.good")).to_contain_text("digest")
    page.goto("/apps/invoicing/acceptance/")
    expect(page.locator("#chips")).to_contain_text("Up to date")
    answered = call(product, f"host={BANK}")
    assert answered["sent"]["file"].startswith("bank-payments")
    assert answered["answer"]["caller"] == "CN=Bank payments,O=Sandbox Customer"
    saw = partner_saw(product, BANK)["certificate"]
    assert saw["subject"] == "CN=Bank payments,O=Sandbox Customer", "the partner's own record names the caller"


def test_2_the_apps_page_shows_the_partner_naming_the_certificate(page: Page, product: Product):
    app = page.context.new_page()
    app.goto(product.app())
    app.get_by_role("button", name=re.compile("Call")).first.click()
    expect(app.locator("body")).to_contain_text("You are CN=Bank payments,O=Sandbox Customer")
    app.close()


def test_3_a_renewal_waits_until_it_is_used(page: Page, product: Product, downloads: Path):
    file, password = people.download_sample(page, product, "bank-payments-renewal", downloads)
    renewed = next(s for s in people.samples(product) if s["slug"] == "bank-payments-renewal")["sha256"]
    open_tab(page, "Network")
    page.get_by_role("link", name="Bank payments", exact=True).first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Upload renewal").click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_role("heading", name=re.compile("old beside new"))).to_be_visible()
    page.get_by_label(re.compile("Keep ready")).check()
    page.get_by_role("button", name="Add version").click()
    expect(page.locator("#chips")).to_contain_text("Up to date")

    page.goto(page.url)
    page.get_by_role("button", name="Use this version").click()
    expect(page.get_by_text("1 change is not running.")).to_be_visible()
    apply(page, re.compile("Apply 1 change and restart"), "Renewal")
    assert call(product, f"host={BANK}")["sent"]["sha256"] == renewed
    assert partner_saw(product, BANK)["certificate"]["sha256"] == renewed, "the partner saw the new certificate"


def test_4_never_send_and_services_and_the_default_rule(page: Page, product: Product, downloads: Path):
    page.goto("/apps/invoicing/acceptance/network/")
    page.get_by_role("link", name="Add pin").click()
    pin(page, OPEN, "Never send a certificate")
    expect(page.get_by_role("row").filter(has_text=OPEN)).to_be_visible()
    page.get_by_role("link", name="Add pin").click()
    pin(page, "Billing.PaymentService", "Bank payments")
    before = call(product, f"host={OPEN}")
    assert before["rule"] == "default", "not applied yet: nothing has changed for the app"
    apply(page, re.compile("Apply 2 changes and restart"), "Telemetry gets no certificate")
    assert call(product, f"host={OPEN}")["sent"] is None
    assert call(product, "service=Billing.PaymentService")["sent"]["file"].startswith("bank-payments")
    assert partner_saw(product, OPEN)["certificate"] is None, "the partner saw none"


def test_5_stop_and_start_both_ways(page: Page, product: Product, downloads: Path):
    page.goto("/apps/invoicing/acceptance/")
    page.get_by_role("link", name="Stop", exact=True).first.click()
    page.get_by_role("button", name="Stop").click()
    wait_for_end(page, "Stopped")
    page.goto("/apps/invoicing/acceptance/")
    file, password = people.download_sample(page, product, "bank-payments", downloads)
    add_certificate(page, file, password, "Second")
    page.get_by_role("link", name=re.compile(r"Start as before \(3\)")).click()
    page.get_by_role("button", name=re.compile("Start with revision 3")).click()
    wait_for_end(page, "Verified")
    assert product.get(f"{product.app()}/status")["certificates"] == 1
    page.goto("/apps/invoicing/acceptance/")
    page.get_by_role("link", name="Stop", exact=True).first.click()
    page.get_by_role("button", name="Stop").click()
    wait_for_end(page, "Stopped")
    page.goto("/apps/invoicing/acceptance/")
    page.get_by_role("link", name=re.compile("Start with 1 change")).click()
    page.get_by_label("Why").fill("Start with the second one")
    page.get_by_label("Start the app with it").check()
    page.get_by_role("button", name=re.compile("^Apply")).click()
    wait_for_end(page, "Verified")
    assert product.get(f"{product.app()}/status")["certificates"] == 2


def test_6_restart_only_leaves_changes_waiting_and_undo_takes_them_back(page: Page, product: Product):
    started = product.get(f"{product.app()}/status")["incarnation"]
    page.goto("/apps/invoicing/acceptance/network/")
    row = in_the_list(page, "Second")
    row.get_by_role("button", name=re.compile("up", re.I)).click()
    expect(page.get_by_text("1 change is not running.")).to_be_visible()
    page.get_by_role("link", name="Restart only").click()
    expect(page.get_by_text("Your 1 change stays waiting.")).to_be_visible()
    page.get_by_role("button", name=re.compile("Restart")).click()
    wait_for_end(page, "Verified")
    assert product.get(f"{product.app()}/status")["incarnation"] != started
    page.goto("/apps/invoicing/acceptance/network/")
    page.get_by_role("link", name=re.compile("Undo changes")).click()
    page.get_by_role("button", name=re.compile("Undo")).click()
    expect(page.locator("#chips")).to_contain_text("Up to date")


def test_7_rename_disable_and_remove(page: Page, product: Product):
    page.goto("/apps/invoicing/acceptance/network/")
    page.get_by_role("link", name="Second", exact=True).first.click()
    page.get_by_role("link", name="Edit name and partner").click()
    page.get_by_label("Name", exact=True).fill("Spare")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#chips")).to_contain_text("Up to date")
    page.get_by_role("button", name=re.compile("Disable")).click()
    expect(page.get_by_text("1 change is not running.")).to_be_visible()
    page.get_by_role("button", name=re.compile("Enable")).click()
    expect(page.locator("#chips")).to_contain_text("Up to date")
    page.get_by_role("link", name=re.compile("Remove")).click()
    page.get_by_role("button", name=re.compile("Remove")).click()
    expect(page.get_by_text("1 change is not running.")).to_be_visible()
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    expect(page.get_by_text(re.compile(f"pinned to.*{BANK}|{BANK}.*", re.S)).first).to_be_visible()
    apply(page, re.compile("Apply 1 change and restart"), "Spare is not needed")


def test_8_roll_back_to_an_earlier_revision(page: Page, product: Product):
    first = next(s for s in people.samples(product) if s["slug"] == "bank-payments")["sha256"]
    page.goto("/apps/invoicing/acceptance/revisions/1/")
    page.get_by_role("link", name=re.compile("Roll back")).click()
    page.get_by_label("Why").fill("The bank refuses the renewal")
    page.get_by_role("button", name=re.compile("Roll back")).click()
    wait_for_end(page, "Verified")
    assert call(product, f"host={BANK}")["sent"]["sha256"] == first
    page.goto("/apps/invoicing/acceptance/rollouts/")
    expect(page.locator("main")).to_contain_text("The bank refuses the renewal")
    expect(page.locator("main")).to_contain_text("CHG-4711")


def test_9_an_export_is_downloaded_after_the_password(page: Page, product: Product, downloads: Path):
    page.goto("/apps/invoicing/acceptance/export/")
    page.get_by_label("Why").fill("Local test")
    page.get_by_label("Your password").fill("not my password")
    page.get_by_role("button", name="Download zip").click()
    expect(page.get_by_text("This is not your password; nothing was exported.")).to_be_visible()
    page.get_by_label("Your password").fill(people.OWN_PASSWORD)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download zip").click()
    path = downloads / "export.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert "custom-settings.json" in archive.namelist()
        assert [name for name in archive.namelist() if name.endswith(".pfx")]


def test_99_archive_and_the_audit_log(page: Page, product: Product):
    page.goto("/apps/invoicing/acceptance/settings/")
    page.get_by_role("link", name=re.compile("Archive")).click()
    page.get_by_role("button", name=re.compile("Archive")).click()
    page.goto("/audit/")
    for words in ("Bank payments", "export", "rolled back", "archived"):
        expect(page.locator("main")).to_contain_text(re.compile(words, re.I))
    assert product.get(f"{product.app()}/status")["status"] == "running", "what runs goes on running"
