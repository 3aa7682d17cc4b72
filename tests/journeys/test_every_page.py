"""Every page that a person can reach, light and dark, wide and narrow: axe-core finds nothing, nothing sticks out.

With SCREENSHOTS set to a folder, each page is also kept there as a picture, to be looked at.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

# What the width or the colours change; the structure is looked at once.
ON_A_PHONE = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "meta-viewport"]
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def hear(errors: list[ConsoleMessage], said: ConsoleMessage) -> None:
    errors.append(said)


def set_the_stage(page: Page, product: Product, downloads: Path) -> None:
    """One environment with certificates, pins, a verified rollout and changes; one for export only; a second person."""
    people.sign_in_first(page, product)
    page.goto("/people/new/")
    page.get_by_label("Sign-in name").fill("ada")
    page.get_by_label("Full name").fill("Ada Lovelace")
    page.get_by_role("button", name="Create person").click()
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    page.goto("/apps/invoicing/")
    people.new_environment(page, "Production")
    network = "/apps/invoicing/acceptance/network/"
    for slug, name in (("bank-payments", "Bank payments API"), ("expiring", "Tax authority")):
        found = next(s for s in people.samples(product) if slug in s["slug"])
        file, password = people.download_sample(page, product, found["slug"], downloads)
        page.goto(f"{network}certificates/new/")
        page.get_by_label("File", exact=True).set_input_files(file)
        page.get_by_label("Password of the file").fill(password)
        page.get_by_role("button", name="Read the file").click()
        page.get_by_label("Name", exact=True).fill(name)
        if page.get_by_label(re.compile("I have read this")).count():
            page.get_by_label(re.compile("I have read this")).check()
        page.get_by_role("button", name="Add certificate").click()
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    for target, sent in (("bank.sandbox.test", "Bank payments API"), ("Billing.PaymentService", "Bank payments API")):
        people.pin(page, network, target, sent)
    page.goto("/apps/invoicing/acceptance/apply/")
    page.get_by_label("Why").fill("First certificates")
    page.get_by_role("button", name=re.compile("^Apply")).click()
    expect(page.get_by_role("status").filter(has_text="Verified").first).to_be_visible(timeout=60_000)
    people.pin(page, network, "telemetry.vendor.example", "Never send a certificate")
    people.pin(page, network, "Tax.FilingService", "Tax authority")


def every_address(page: Page, product: Product) -> list[str]:
    """What can be reached by links from the home page, one address for each kind of page."""
    seen: dict[str, str] = {}
    waiting = [product.address + "/"]
    while waiting:
        address = waiting.pop(0)
        kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", urlsplit(address).path)
        kind += "?" if urlsplit(address).query else ""
        if kind in seen or any(word in kind for word in (".csv", ".json", "/chips/")):
            continue
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, f"{address} answers {answer.status}"
        seen[kind] = address
        for link in page.locator("a[href]").evaluate_all("links => links.map(a => a.getAttribute('href'))"):
            target = urljoin(address, link).partition("#")[0]
            if target.startswith(product.address + "/"):
                waiting.append(target)
    return list(seen.values())


def test_every_page_is_accessible_and_fits(page: Page, product: Product, chromium: Browser, downloads: Path):
    set_the_stage(page, product, downloads)
    addresses = every_address(page, product)
    assert len(addresses) >= 30, addresses
    addresses += [product.address + "/apps/nothing/here/"]
    pictures = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else None
    state = page.context.storage_state()
    found = []
    # Contrast and structure do not depend on the width, nor targets and overflow on the colours.
    looks = [("light", WIDE), ("dark", NARROW)] + ([("light", NARROW), ("dark", WIDE)] if pictures else [])
    for scheme, viewport in looks:
        context = chromium.new_context(
            base_url=product.address, viewport=viewport, color_scheme=scheme, storage_state=state
        )
        looked_at = context.new_page()
        errors: list[ConsoleMessage] = []
        looked_at.on("console", partial(hear, errors))
        rules = {} if viewport is WIDE else {"runOnly": {"type": "rule", "values": ON_A_PHONE}}
        for address in addresses:
            looked_at.goto(address)
            where = f"{urlsplit(address).path} ({scheme}, {viewport['width']} px)"
            for violation in Axe().run(looked_at, options=rules).response["violations"]:
                nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
                found.append(f"{where}: {violation['id']}: {violation['help']}: {nodes}")
            sideways = looked_at.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if sideways > 0:
                found.append(f"{where}: sticks out by {sideways} px")
            if pictures is not None:
                name = re.sub(r"[^a-z0-9]+", "-", urlsplit(address).path.lower()).strip("-") or "home"
                pictures.mkdir(parents=True, exist_ok=True)
                looked_at.screenshot(path=pictures / f"{name[:80]}-{scheme}-{viewport['width']}.png", full_page=True)
        said = [error.text for error in errors if error.type == "error" and "404" not in error.text]
        found += [f"{scheme}: the browser says {text}" for text in said]
        context.close()
    assert found == []


def test_the_sign_in_page_is_accessible_in_both_schemes(chromium: Browser, product: Product):
    for scheme in ("light", "dark"):
        context = chromium.new_context(base_url=product.address, viewport=NARROW, color_scheme=scheme)
        page = context.new_page()
        page.goto("/sign-in/")
        assert Axe().run(page).response["violations"] == []
        context.close()
