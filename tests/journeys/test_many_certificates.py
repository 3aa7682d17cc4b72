"""Forty files in one go, a certificate without its key, chains that are completed, which of them is sent, and
lists of those that expire."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests import pki
from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

NETWORK = "/apps/invoicing/test/network/"
ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing", authority=ROOT)
PASSWORDS = ("Spring1", "summer two", "Pa$$wörd")


def issued(cn: str) -> pki.Issued:
    return pki.issue(cn, authority=ISSUING)


@pytest.fixture(scope="module", autouse=True)
def an_environment(page: Page, product: Product) -> None:
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test")


def test_forty_files_with_a_handful_of_passwords(page: Page):
    said: list[ConsoleMessage] = []
    page.on("console", lambda message: said.append(message))
    files = {f"client-{n}.pfx": pki.pfx(issued(f"client-{n}.example.com"), PASSWORDS[n % 3]) for n in range(37)}
    files["other.pfx"] = pki.pfx(issued("other.example.com"), "one more")
    files["cut.pfx"] = pki.pfx(issued("cut"), "x")[:200]
    files["chain.pem"] = ISSUING.certificate.public_bytes(Encoding.PEM)
    page.goto(f"{NETWORK}certificates/new/")
    page.get_by_role("link", name="Add several certificates at once").click()
    page.get_by_label("Files").set_input_files(
        [{"name": name, "mimeType": "application/x-pkcs12", "buffer": file} for name, file in files.items()]
    )
    page.get_by_role("button", name="Upload the files").click()

    expect(page.get_by_text("1 of 40 opened, 38 still closed")).to_be_visible()
    expect(page.get_by_text("This file stops too early")).to_be_visible()
    page.get_by_role("textbox", name="Passwords").fill("\n".join(PASSWORDS))
    page.get_by_role("button", name="Open the files").click()
    # Part by part, by itself.
    expect(page.get_by_text("38 of 40 opened, 1 still closed, 1 cannot be read")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("textbox", name="Passwords")).to_have_value("\n".join(PASSWORDS))
    row = page.get_by_role("row").filter(has_text="other.pfx")
    expect(row).to_contain_text("The password does not open this file")
    row.get_by_text("Message to the sender").click()
    expect(row.locator("pre")).to_contain_text("openssl pkcs12 -in other.pfx")

    page.get_by_role("textbox", name="Passwords").fill("one more")
    page.get_by_role("button", name="Open the files").click()
    expect(page.get_by_text("39 of 40 opened, 1 cannot be read")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("textbox", name="Passwords")).to_have_count(0)
    name = page.get_by_label("Name for other.pfx")
    expect(name).to_have_value("other.example.com")
    name.fill("client-1.example.com")
    page.get_by_role("button", name="Add the ticked certificates").click()
    expect(page.get_by_text("There is already a certificate “client-1.example.com” here").first).to_be_visible()
    page.get_by_label("Name for other.pfx").fill("The other one")
    page.get_by_role("button", name="Add the ticked certificates").click()

    expect(page.get_by_text("Added 38 certificates.")).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile(r"Certificates for outgoing connections\s+38"))).to_be_visible()
    expect(page.get_by_role("link", name="The other one")).to_be_visible()
    assert [one.text for one in said if one.type == "error" and "422" not in one.text] == []


def test_without_scripts_the_same_takes_a_click_more(page: Page):
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(
        base_url=page.url.split("/apps/")[0], java_script_enabled=False, storage_state=page.context.storage_state()
    )
    plain = context.new_page()
    plain.goto(f"{NETWORK}certificates/many/")
    files = {f"plain-{n}.pfx": pki.pfx(issued(f"plain-{n}"), "secret") for n in range(3)}
    plain.get_by_label("Files").set_input_files(
        [{"name": name, "mimeType": "application/x-pkcs12", "buffer": file} for name, file in files.items()]
    )
    plain.get_by_role("button", name="Upload the files").click()
    plain.get_by_role("textbox", name="Passwords").fill("secret")
    plain.get_by_role("button", name="Open the files").click()
    expect(plain.get_by_text("3 of 3 opened")).to_be_visible()
    plain.get_by_role("button", name="Add the ticked certificates").click()
    expect(plain.get_by_text("Added 3 certificates.")).to_be_visible()
    context.close()


def test_a_certificate_without_its_key_is_tracked_only(page: Page):
    page.goto(f"{NETWORK}certificates/new/")
    watched = issued("watched.example.com").certificate.public_bytes(Encoding.DER)
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "watched.cer", "mimeType": "application/pkix-cert", "buffer": watched}
    )
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_text("There is no private key in this file.")).to_be_visible()
    page.get_by_role("button", name="Track it").click()
    expect(page.get_by_text("Added watched.example.com as tracked only")).to_be_visible()
    page.get_by_role("link", name="watched.example.com").click()
    expect(page.get_by_text("Its private key is not here, so it is sent to nobody")).to_be_visible()
    page.goto(f"{NETWORK}pins/new/")
    expect(page.get_by_label("Is sent").locator("option", has_text="watched.example.com")).to_have_count(0)


def test_a_missing_intermediate_is_completed_and_shown_where(page: Page):
    page.goto(f"{NETWORK}certificates/new/")
    file = pki.pfx(issued("lonely.example.com"), "secret", certificates=[])
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "lonely.pfx", "mimeType": "application/x-pkcs12", "buffer": file}
    )
    page.get_by_label("Password of the file").fill("secret")
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_text("which is added from what is already here")).to_be_visible()
    expect(page.locator("ol.chain")).to_contain_text("added here")
    page.get_by_label("Only what was in the file").check()
    page.get_by_role("button", name="Add certificate").click()
    page.get_by_role("link", name="lonely.example.com").click()
    expect(page.locator("ol.chain")).to_contain_text("not in the file")
    expect(page.locator("ol.chain")).not_to_contain_text("added here")


def test_which_certificate_is_sent_is_answered_on_the_same_page(page: Page):
    people.pin(page, NETWORK, "api.example.com", "client-3.example.com")
    page.goto(NETWORK)
    page.get_by_label("Which certificate is sent to").fill("https://grace:secret@API.example.com:8443/v1?key=2")
    page.get_by_role("button", name="Look up").click()
    answer = page.locator("#answers")
    expect(answer).to_contain_text("api.example.com is sent client-3.example.com, because it is pinned to it")
    assert "secret" not in page.url
    page.get_by_label("Which certificate is sent to").fill("other.example.com")
    page.get_by_role("button", name="Look up").click()
    expect(answer).to_contain_text("No pin names other.example.com, so it may be sent any of these")
    page.get_by_label("Which certificate is sent to").fill("exa mple.com/")
    page.get_by_role("button", name="Look up").click()
    expect(answer.locator(".meaning.bad")).to_be_visible()


def test_the_weeks_on_the_home_page_lead_to_filtered_lists(page: Page, downloads: Path):
    page.goto(f"{NETWORK}certificates/new/")
    soon = pki.issue("soon.example.com", authority=ISSUING, key="rsa-2048", not_after=pki.NOW + timedelta(days=200))
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "soon.pfx", "mimeType": "application/x-pkcs12", "buffer": pki.pfx(soon, "secret")}
    )
    page.get_by_label("Password of the file").fill("secret")
    page.get_by_role("button", name="Read the file").click()
    page.get_by_role("button", name="Add certificate").click()
    expect(page.get_by_text("Added soon.example.com")).to_be_visible()

    page.goto("/")
    week = page.locator(".strip").get_by_role("link", name=re.compile(": 1 certificate, 0 in production"))
    expect(week).to_have_count(1)
    page.get_by_text("As a table").click()
    expect(page.get_by_role("row").filter(has_text="Week of")).not_to_have_count(0)
    week.focus()
    page.keyboard.press("Enter")
    rows = page.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(r"\.example\.com$")))
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("soon.example.com")
    expect(page.get_by_role("heading", level=2)).to_contain_text(re.compile("1 of 4[0-9]"))

    page.get_by_role("link", name=re.compile("Remove the filter: From")).click()
    page.get_by_role("link", name=re.compile("Remove the filter: Until")).click()
    page.get_by_label("Key").select_option("EC P-256")
    page.get_by_label("Not pinned").check()
    page.get_by_label("Issued by").fill("partner issuing")
    page.get_by_role("searchbox").fill("client-")
    page.get_by_role("button", name="Filter", exact=True).click()
    # One of the 37 is pinned by now.
    expect(page.get_by_role("heading", level=2)).to_contain_text(re.compile("36 of 4[0-9]"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    download.value.save_as(downloads / "certificates.csv")
    assert len((downloads / "certificates.csv").read_text().splitlines()) == 37


def test_on_a_phone_the_filters_are_folded_and_nothing_is_in_the_way(page: Page, chromium: Browser, product: Product):
    """Also without scripts, and in the dark."""
    for scripts in (True, False):
        context = chromium.new_context(
            base_url=product.address,
            viewport={"width": 390, "height": 844},
            color_scheme="dark",
            java_script_enabled=scripts,
            storage_state=page.context.storage_state(),
        )
        phone = context.new_page()
        phone.goto("/certificates/?expiry=valid")
        expect(phone.get_by_label("Key")).not_to_be_visible()
        phone.get_by_role("checkbox", name="Filters").check()
        phone.get_by_label("Key").select_option("RSA 2048")
        if scripts:
            assert Axe().run(phone).response["violations"] == []
        phone.get_by_role("button", name="Filter", exact=True).click()
        expect(phone.get_by_role("link", name="Remove the filter: RSA 2048")).to_be_visible()
        expect(phone.get_by_role("link", name="Remove the filter: Not expired")).to_be_visible()
        for address in ("/", "/needs/") if scripts else ():
            phone.goto(address)
            assert Axe().run(phone).response["violations"] == []
            wide = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, "only the strip itself is turned sideways"
        context.close()
