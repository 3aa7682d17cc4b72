"""A partner without an account sends the next certificate in a browser of their own; an operator confirms it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect

from tests import pki
from tests.journeys import people
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

NETWORK = "/apps/invoicing/test/network/"
AUTHORITY = pki.make_authority("Bank CA")
FIRST, NEXT = pki.issue("client-2026", authority=AUTHORITY), pki.issue("client-2027", authority=AUTHORITY)
PASSWORD, WRONG = "tulip-harbour-9731-Zebra", "wrong-lantern-2284-Otter"
NOT_VALID = "This link is not valid"


def picture(page: Page, name: str) -> None:
    """With SCREENSHOTS set to a folder, the page as it looks now."""
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"link-{name}.png", full_page=True)


def is_accessible(page: Page) -> None:
    assert Axe().run(page).response["violations"] == []
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(sideways) <= 0


def file(issued: pki.Issued, name: str) -> dict[str, object]:
    return {"name": name, "mimeType": "application/x-pkcs12", "buffer": pki.pfx(issued, PASSWORD)}


@pytest.fixture(scope="module")
def partner(chromium: Browser, product: Product) -> Page:
    """A telephone that has never been here."""
    context = chromium.new_context(base_url=product.address, viewport={"width": 390, "height": 844}, locale="en-GB")
    context.set_default_timeout(15_000)
    return context.new_page()


def make_link(page: Page, language: str = "English") -> str:
    page.goto(NETWORK)
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    page.get_by_role("link", name="Ask the partner for the next one…").click()
    is_accessible(page)
    page.get_by_label("Who asks").fill("Example Ltd")
    expect(page.get_by_label("For what")).to_have_value("Bank payments")
    page.get_by_label("Language").select_option(label=language)
    picture(page, "ask")
    page.get_by_role("button", name="Make the link").click()
    is_accessible(page)
    picture(page, "once")
    return page.locator("#upload-link").inner_text()


def test_a_partner_sends_it_and_an_operator_confirms_it(page: Page, partner: Page, product: Product):
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test")
    page.goto(f"{NETWORK}certificates/new/")
    page.get_by_label("File", exact=True).set_input_files(file(FIRST, "bank.pfx"))
    page.get_by_label("Password of the file").fill(PASSWORD)
    page.get_by_role("button", name="Read the file").click()
    page.get_by_label("Name", exact=True).fill("Bank payments")
    page.get_by_role("button", name="Add certificate").click()

    link = make_link(page)
    token = link.split("/partner/")[1].split("/")[0]
    page.get_by_role("link", name="Done").click()
    expect(page.locator("body")).to_contain_text("Open until")
    expect(page.locator("body")).not_to_contain_text(token)

    told: list[str] = []

    def listen(request: Request) -> None:
        told.append(request.all_headers().get("referer", ""))

    partner.on("request", listen)
    partner.goto(link)
    for language, words in (
        ("Deutsch", "benötigt ein neues"),
        ("Nederlands", "heeft een nieuw"),
        ("English", "needs a"),
    ):
        partner.get_by_role("link", name=language).click()
        expect(partner.get_by_role("heading", level=1)).to_contain_text(words)
        is_accessible(partner)
        picture(partner, language)
    partner.get_by_label("File with certificate and private key").set_input_files(file(NEXT, "next.pfx"))
    partner.get_by_label(re.compile("^Password of the file")).fill(WRONG)
    partner.get_by_role("button", name="Send").click()
    expect(partner.locator("#id_password_error")).to_contain_text("The password does not open this file.")
    expect(partner.locator(".kept")).to_contain_text("next.pfx")
    is_accessible(partner)
    picture(partner, "wrong")
    partner.get_by_role("link", name="Nederlands").click()
    partner.get_by_role("link", name="English").click()
    partner.get_by_label("File with certificate and private key").set_input_files(file(NEXT, "next.pfx"))
    partner.get_by_label(re.compile("^Password of the file")).fill(WRONG)
    partner.get_by_role("button", name="Send").click()
    partner.get_by_label(re.compile("^Password of the file")).fill(PASSWORD)
    partner.get_by_role("button", name="Send").click()
    expect(partner.get_by_role("heading", level=1)).to_have_text("Thank you, it has arrived")
    is_accessible(partner)
    picture(partner, "thanks")
    fingerprint = partner.locator("dd.mono").inner_text()
    assert not [referrer for referrer in told if token in referrer], "no referrer tells the address"

    page.goto("/")
    need = page.get_by_role("listitem").filter(has_text="The partner has sent it")
    expect(need).to_contain_text("Bank payments")
    picture(page, "home")
    page.goto(NETWORK)
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    is_accessible(page)
    picture(page, "certificate")
    page.get_by_role("link", name="Look at it").click()
    expect(page.locator("body")).to_contain_text("client-2027")
    expect(page.locator("body")).to_contain_text(fingerprint)
    is_accessible(page)
    picture(page, "preview")
    preview = page.url
    page.get_by_role("link", name="Discard…").click()
    is_accessible(page)
    picture(page, "discard")
    page.goto(preview)
    page.get_by_label("With the next apply").check()
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_role("status").first).to_contain_text("Version 2 goes with the next apply.")
    picture(page, "confirmed")

    for answer in (partner.goto(link), partner.reload()):
        assert answer is not None
        assert answer.status == 404
    expect(partner.get_by_role("heading", level=1)).to_have_text(NOT_VALID)
    is_accessible(partner)
    picture(partner, "closed")
    logs = "".join(path.read_text(errors="replace") for path in (product.data / "logs").rglob("*") if path.is_file())
    for secret in (token, PASSWORD, WRONG):
        assert secret not in product.said + logs


def test_expired_and_withdrawn_links_are_refused(page: Page, partner: Page, product: Product):
    expired = make_link(page)
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0"],
        cwd=PROJECT,
        env=product.environ,
        input="from certificates.models import UploadLink; from django.utils import timezone\n"
        "UploadLink.objects.filter(ended_at=None).update(expires_at=timezone.now())\n",
        text=True,
        check=True,
        timeout=60,
    )
    withdrawn = make_link(page, "Nederlands")
    partner.goto(withdrawn)
    expect(partner.get_by_role("heading", level=1)).to_contain_text("heeft een nieuw clientcertificaat nodig")
    page.get_by_role("link", name="Done").click()
    page.get_by_role("button", name=re.compile("^Withdraw")).click()
    expect(page.get_by_role("status").first).to_contain_text("Withdrawn.")
    expect(page.locator("section", has_text="Asked of the partner").last).to_contain_text("Expired")
    picture(page, "listed")

    # What was open in the browser when it was withdrawn takes nothing either.
    partner.get_by_label("Bestand met certificaat").set_input_files(file(NEXT, "next.pfx"))
    partner.get_by_role("button", name="Versturen").click()
    expect(partner.get_by_role("heading", level=1)).to_have_text("Deze link is niet geldig")
    for link in (expired, withdrawn.replace("/nl/", "/")):
        answer = partner.goto(link)
        assert answer is not None
        assert answer.status == 404
        expect(partner.get_by_role("heading", level=1)).to_have_text(NOT_VALID)
