"""Promotion: what Test pins is taken along to Production, with certificates of its own, and runs there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

TEST, PRODUCTION = "/apps/invoicing/test/network/", "/apps/invoicing/production/network/"
BANK_TEST = "bank-test.sandbox.test"


@pytest.fixture(scope="module", autouse=True)
def pins_in_test_and_none_in_production(page: Page, product: Product, downloads: Path) -> None:
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test")
    add(page, product, TEST, "other-authority", "Bank payments", downloads)
    add(page, product, TEST, "reports-expiring", "Reports", downloads)
    people.pin(page, TEST, BANK_TEST, "Bank payments")
    people.pin(page, TEST, "Reports.Filing", "Reports")
    people.pin(page, TEST, "telemetry.vendor.example", "Never send a certificate")
    page.goto("/apps/invoicing/")
    expect(page.get_by_role("link", name="Compare two…")).to_have_count(0)
    page.get_by_role("link", name="New environment").click()
    page.get_by_label("Name").fill("Production")
    page.get_by_label("This is production").check()
    page.get_by_label("Sandbox app 1").check()
    page.get_by_role("button", name="Create environment").click()
    add(page, product, PRODUCTION, "bank-payments", "Bank payments", downloads)


def add(page: Page, product: Product, network: str, slug: str, name: str, downloads: Path) -> None:
    file, password = people.download_sample(page, product, slug, downloads)
    page.goto(network)
    flow.add_certificate(page, file, password, name)


def row(page: Page, key: str) -> Locator:
    return page.get_by_role("region", name="Pins").get_by_role("row").filter(has_text=key)


def test_1_what_differs_is_seen_side_by_side_and_only_that(page: Page):
    page.goto(PRODUCTION)
    page.get_by_role("link", name="Compare with…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Test beside Production")
    expect(page.get_by_role("heading", name="Pins 3 of 3 differ")).to_be_visible()
    expect(row(page, "Reports.Filing")).to_contain_text("Production has no “Reports”; add it there")
    certificates = page.get_by_role("region", name="Client certificates").get_by_role("row")
    expect(certificates.filter(has_text="Bank payments")).to_contain_text("Each its own key")
    page.get_by_label("only differences").check()
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("from=test&to=production&show=differences$"))
    expect(page.get_by_role("region", name="Runtime and settings")).not_to_contain_text("Profile")


def test_2_a_refused_row_takes_nothing_along_and_keeps_what_was_typed(page: Page):
    page.get_by_label("Tick all").check()
    page.get_by_label(f"Target in Production for {BANK_TEST}").fill("bank..sandbox.test")
    page.get_by_role("button", name="Take ticked pins along (no restart)").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was taken along")
    expect(row(page, BANK_TEST)).to_contain_text("This is not a host name")
    expect(row(page, "Reports.Filing")).to_contain_text("Choose a certificate of Production.")
    expect(page.get_by_label(f"Target in Production for {BANK_TEST}")).to_have_value("bank..sandbox.test")


def test_3_pins_come_along_with_production_s_certificate_and_the_partner_names_it(page: Page, product: Product):
    page.get_by_label(f"Target in Production for {BANK_TEST}").fill(f"https://{flow.BANK}/v2/payments")
    page.get_by_role("checkbox", name="Reports.Filing").uncheck()
    page.get_by_role("button", name="Take ticked pins along (no restart)").click()
    expect(page.get_by_text("Took 2 pins along. They are not running yet.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoicing / Production")
    expect(page.get_by_text("2 pins added (you)")).to_be_visible()
    flow.apply(page, re.compile("Apply 3 changes and restart"), "What Test has shown")
    answered = flow.call(product, f"host={flow.BANK}")
    assert answered["answer"]["caller"] == "CN=Bank payments,O=Sandbox Customer", "not the certificate of Test"


def test_4_the_key_of_the_test_enters_production_only_when_it_is_confirmed(
    page: Page, product: Product, downloads: Path
):
    file, password = people.download_sample(page, product, "reports-expiring", downloads)
    page.goto(f"{PRODUCTION}certificates/new/")
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_text("This key is also in use outside production (Invoicing / Test: Reports)")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("Reports")
    page.get_by_label("I have read this and want to use it all the same").check()
    page.get_by_role("button", name="Add certificate").click()

    page.goto("/apps/invoicing/compare/?from=test&to=production")
    page.get_by_role("checkbox", name="Reports.Filing").check()
    page.get_by_role("button", name="Take ticked pins along (no restart)").click()
    expect(page.get_by_role("alert")).to_contain_text("read what is said of the keys of the ticked pins")
    expect(page.get_by_role("checkbox", name="Reports.Filing")).to_be_checked()
    page.get_by_label("I have read this and want the key of “Reports” in production").check()
    page.get_by_role("button", name="Take ticked pins along (no restart)").click()
    expect(page.get_by_text("Took 1 pin along. It is not running yet.")).to_be_visible()
    page.goto("/audit/")
    expect(page.get_by_role("row").filter(has_text="pinned Reports.Filing to Reports").first).to_be_visible()
