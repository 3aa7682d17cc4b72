"""A certificate that the partner refuses: seen on the pin's page, and stopped before the restart."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", autouse=True)
def a_pin_to_the_bank(page: Page, product: Product, downloads: Path) -> None:
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    for slug, name in (("other-authority", "Shipping"), ("bank-payments", "Bank payments")):
        file, password = people.download_sample(page, product, slug, downloads)
        flow.add_certificate(page, file, password, name)
    page.get_by_role("link", name="Add pin").click()
    flow.pin(page, flow.BANK, flow.option(page, "Shipping"))


def row(page: Page, text: str):
    """Of the table of pins."""
    return page.get_by_role("region", name="Pins").get_by_role("row").filter(has_text=text)


def test_1_the_pin_says_what_the_partner_says(page: Page):
    page.goto("/apps/invoicing/acceptance/network/")
    row(page, flow.BANK).get_by_role("link", name="Not tested").click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("status").filter(has_text="Refused")).to_be_visible()
    notice = page.get_by_text("the server does not know the authority that issued it")
    expect(notice.first).to_be_visible()
    expect(page.get_by_text("unknown_ca").first).to_be_visible()
    page.goto("/apps/invoicing/acceptance/network/")
    expect(row(page, flow.BANK)).to_contain_text("Refused")


def test_2_an_apply_stops_before_the_restart_and_the_app_runs_on(page: Page, product: Product):
    before = product.get(f"{product.app()}/status")
    page.goto("/apps/invoicing/acceptance/")
    page.get_by_role("link", name=re.compile("Apply 3 changes and restart")).click()
    expect(page.get_by_text("The last tests say that the apply would stop before the restart")).to_be_visible()
    page.get_by_label("Why").fill("Shipping goes live")
    page.get_by_role("button", name=re.compile("^Apply")).click()
    flow.wait_for_end(page, "Refused, nothing changed")
    expect(page.get_by_role("heading", name="Connection tests 1")).to_be_visible()
    expect(page.get_by_text("Nothing was delivered; what ran before runs on.")).to_be_visible()
    assert product.get(f"{product.app()}/status") == before, "the app was not touched"


def test_3_with_the_right_certificate_both_tests_are_green_and_the_partner_names_it(page: Page, product: Product):
    page.goto("/apps/invoicing/acceptance/network/")
    row(page, flow.BANK).get_by_role("link", name=f"Edit {flow.BANK}").click()
    page.get_by_label("Is sent").select_option(label=flow.option(page, "Bank payments"))
    page.get_by_role("button", name="Save (no restart)").click()
    # What was found of the other certificate says nothing of this one.
    expect(row(page, flow.BANK)).to_contain_text("Not tested")
    flow.apply(page, re.compile("Apply 3 changes and restart"), "The right one")
    tests = page.get_by_role("row").filter(has_text=flow.BANK)
    expect(tests.get_by_text("Accepted", exact=True)).to_have_count(2)
    prints_as_a_whole(page)
    page.goto("/apps/invoicing/acceptance/network/")
    expect(row(page, flow.BANK)).to_contain_text("Accepted")
    assert flow.call(product, f"host={flow.BANK}")["answer"]["own_authority"] is True


def prints_as_a_whole(page: Page) -> None:
    """The page of an end goes on paper: the log to its last line, and nothing to click."""
    expect(page.get_by_role("button", name="Print")).to_be_visible()
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".top")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.locator("#log").evaluate("log => log.scrollHeight <= log.clientHeight + 1")
    assert page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor") == "rgb(255, 255, 255)"
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "rollout-printed.png", full_page=True)
    page.emulate_media(media="screen", color_scheme="light")


def test_4_an_address_to_test_is_kept_with_the_pin(page: Page, product: Product):
    page.goto("/apps/invoicing/acceptance/network/")
    row(page, flow.BANK).get_by_role("link", name=f"Edit {flow.BANK}").click()
    page.get_by_label("Address to test").fill("http://bank.sandbox.test")
    page.get_by_role("button", name="Save (no restart)").click()
    expect(page.get_by_text("Over http:// no certificate is sent; give the https:// address.")).to_be_visible()
    page.get_by_label("Address to test").fill(f"https://{flow.BANK}:{product.sandbox_port + 363}/who")
    page.get_by_role("button", name="Save (no restart)").click()
    row(page, flow.BANK).get_by_role("link", name="Not tested").click()
    expect(page.get_by_text(f"{flow.BANK}:{product.sandbox_port + 363}/who").first).to_be_visible()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("status").filter(has_text="Accepted")).to_be_visible()
    expect(page.get_by_text("It answered 200.").first).to_be_visible()
    # Nothing of this is exported, so nothing waits to be applied.
    page.goto("/apps/invoicing/acceptance/")
    expect(page.get_by_text("Up to date").first).to_be_visible()
