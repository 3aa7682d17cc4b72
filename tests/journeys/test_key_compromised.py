"""A key is compromised: one page leads from the alarm to the proof that nothing runs with it, in two environments.

The chapters are one journey, in order; what runs at the end is what the partner saw.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

NAME = "Bank payments"


def sample(product: Product, slug: str) -> str:
    return str(next(s for s in people.samples(product) if s["slug"] == slug)["sha256"])


def look(page: Page, name: str) -> None:
    """Nothing sticks out and axe finds nothing, light and wide and dark and narrow."""
    for width, scheme in ((1440, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in Axe().run(page).response["violations"]]
        assert found == [], f"{name}, {scheme}"
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways <= 0, f"{name} sticks out by {sideways} px at {width}"
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}-{scheme}.png"), full_page=True)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")


def incident(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name=re.compile("^Go on")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"The key of {NAME} is compromised")


def at(page: Page, environment: str) -> Locator:
    """The row of an environment."""
    return page.get_by_role("row").filter(has_text=f"Invoicing / {environment}")


def test_1_it_says_where_the_key_is_and_what_runs_with_it(page: Page, product: Product, downloads: Path):
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    file, password = people.download_sample(page, product, "bank-payments", downloads)
    for name, runs_on in (("Acceptance", "Sandbox app 1"), ("Production", "Sandbox app 2")):
        page.goto("/apps/invoicing/")
        people.new_environment(page, name, runs_on)
        flow.add_certificate(page, file, password, NAME)
        page.get_by_role("link", name="Add pin").click()
        flow.pin(page, flow.BANK, flow.option(page, NAME))
        flow.apply(page, re.compile("Apply 2 changes and restart"), "The bank goes live")
    page.goto("/apps/invoicing/production/network/")
    flow.in_the_list(page, NAME).get_by_role("link", name=NAME).first.click()
    depends = page.get_by_role("region", name="What depends on it")
    expect(depends).to_contain_text("1 pin depends on it:")
    expect(depends.get_by_role("listitem")).to_contain_text(f"{flow.BANK} Accepted")
    expect(depends).to_contain_text("elsewhere, which stays as it is: 1 environment, 1 pin")
    look(page, "certificate")
    page.get_by_role("link", name="The key is compromised…").click()
    look(page, "compromised")
    page.get_by_label("What happened").fill("The laptop with the .pfx was stolen")
    page.get_by_role("button", name="Say that the key is compromised").click()
    places = page.get_by_role("region", name=re.compile("Take it out"))
    expect(places.get_by_text("Runs with the key")).to_have_count(2)
    expect(places).to_contain_text("2 to take out")
    look(page, "incident-open")
    page.get_by_role("link", name="where this key is used").click()
    expect(page.locator("main")).to_contain_text("2 environments, 2 pins; the first ends")
    look(page, "reach-key")


def test_2_replaced_and_disabled_and_applied_nothing_runs_with_it(page: Page, product: Product, downloads: Path):
    incident(page)
    at(page, "Production").get_by_role("button", name="Disable").click()
    expect(page.get_by_text("1 to take out")).to_be_visible()
    at(page, "Acceptance").get_by_role("link", name="Upload renewal").click()
    file, password = people.download_sample(page, product, "bank-payments-renewal", downloads)
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    page.get_by_label(re.compile("with the next apply", re.I)).check()
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_text("The private key of another version is compromised.")).to_be_visible()
    incident(page)
    expect(page.get_by_text("2 may run with it")).to_be_visible()
    expect(page.get_by_text("Version 1 is still in what runs (revision 1).")).to_have_count(2)
    look(page, "incident-to-apply")
    page.get_by_role("link", name="Apply to several…").click()
    expect(page.get_by_role("checkbox", name=re.compile("^Invoicing"), checked=True)).to_have_count(2)
    page.get_by_label("Why").fill("The key is compromised")
    page.get_by_role("button", name="Apply to all that are ticked").click()
    expect(page.get_by_text("2 of 2 verified")).to_be_visible(timeout=60_000)
    incident(page)
    expect(page.get_by_text("Nothing runs with this key any more")).to_be_visible()
    expect(page.get_by_text("Revision 2 runs without it, as the app itself reports.")).to_have_count(2)
    renewed = sample(product, "bank-payments-renewal")
    assert flow.call(product, f"host={flow.BANK}")["sent"]["sha256"] == renewed
    assert flow.partner_saw(product, flow.BANK)["certificate"]["sha256"] == renewed
    assert product.get(f"{product.app(2)}/calls.json?host={flow.BANK}")["outcome"] == "refused", "it sends none"


def test_3_others_are_told_and_it_is_closed(page: Page, product: Product):
    expect(page.get_by_text("Ask for its revocation first.")).to_be_visible()
    revoke = page.get_by_role("region", name="Have it revoked")
    expect(revoke).to_contain_text("keyCompromise")
    revoke.get_by_label("Note").fill("By mail")
    revoke.get_by_role("button", name="Revocation asked for").click()
    tell = page.get_by_role("region", name="Tell the partner")
    expect(tell).to_contain_text("From now on we use this one")
    tell.get_by_role("button", name="Partner told").click()
    expect(page.get_by_text("Partner told")).to_be_visible()
    look(page, "incident-done")
    page.get_by_role("button", name="Close: all is done").click()
    expect(page.get_by_text("The key stays marked")).to_be_visible()
    look(page, "incident-closed")
    page.goto("/")
    expect(page.get_by_text("Key compromised")).to_have_count(0)
    page.goto("/audit/")
    for said in ("said that the key of Bank payments is compromised", "closed what was done about"):
        expect(page.locator("main")).to_contain_text(said)


def test_4_the_old_version_comes_back_only_with_a_reason(page: Page):
    page.goto("/apps/invoicing/acceptance/network/")
    flow.in_the_list(page, NAME).get_by_role("link", name=NAME).first.click()
    page.get_by_role("button", name="Use this version (1)").click()
    expect(page.get_by_role("alert")).to_contain_text("is compromised; say why it has to be used all the same")
    look(page, "insist")
    page.get_by_role("link", name="Not now").click()
    expect(page.locator("#chips")).to_contain_text("Up to date")
    page.goto("/apps/invoicing/acceptance/revisions/1/roll-back/")
    page.get_by_label("Why").fill("The new one is refused")
    page.get_by_role("button", name=re.compile("^Roll back")).click()
    expect(page.get_by_text("Revision 1 has a compromised key")).to_be_visible()
    expect(page.get_by_label("Why")).to_have_value("The new one is refused")
    look(page, "roll-back")
