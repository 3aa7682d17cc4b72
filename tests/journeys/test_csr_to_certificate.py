"""From a request to a certificate: the key is made here, OpenSSL signs as the partner does, and the partner names
the caller. Mail goes to a real mail server on this machine.

With SCREENSHOTS set to a folder, the pages are also kept there as pictures.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
NETWORK = "/apps/invoicing/acceptance/network/"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, inbox: Controller) -> Iterator[Product]:
    mail = f"smtp://127.0.0.1:{inbox.port}?tls=none"
    running = Product(tmp_path_factory.mktemp("product") / "data", {"COUNTERSIGN_MAIL_URL": mail})
    running.start()
    yield running
    running.stop()


def openssl(*arguments: str | Path) -> str:
    ran = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def sign(product: Product, request: Path) -> Path:
    """As the partner would, who answers with a .p7b: the issuing authority's certificate, ours, and the root's."""
    authority = product.data / "sandbox" / "authority"
    leaf, bundle = request.with_suffix(".pem"), request.with_suffix(".p7b")
    openssl("req", "-in", request, "-noout", "-verify")
    openssl(
        "x509", "-req", "-in", request, "-CA", authority / "client-issuing.pem", "-days", "90",
        "-copy_extensions", "copy", "-out", leaf,
    )  # fmt: skip
    above = product.data / "sandbox" / "partner-client-ca.pem"
    openssl("crl2pkcs7", "-nocrl", "-certfile", above, "-certfile", leaf, "-outform", "DER", "-out", bundle)
    return bundle


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as given:
        page.get_by_role("link", name=re.compile(r"Download .*\.csr")).click()
    path = folder / given.value.suggested_filename
    given.value.save_as(path)
    return path


def look(page: Page, name: str) -> None:
    """Nothing for axe-core to find, nothing sticks out on a phone; and a picture, where they are wanted."""
    looks = [(1440, "light"), (390, "dark")]
    for width, scheme in looks + ([(1440, "dark"), (390, "light")] if "SCREENSHOTS" in os.environ else []):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}-{scheme}.png"), full_page=True)
        if (width, scheme) in looks:
            violations = Axe().run(page).response["violations"]
            assert [(one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in violations] == []
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")


def test_1_a_new_certificate_is_asked_for_and_the_partner_names_it(page: Page, product: Product, downloads: Path):
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Acceptance", "Sandbox app 1")
    page.goto(NETWORK)
    page.get_by_role("link", name="Request a certificate").click()
    look(page, "new")
    page.get_by_label("Name", exact=True).fill("Bank payments")
    page.get_by_label("Subject").fill("CN=Bank payments, O=Sandbox Customer")
    page.get_by_role("button", name="Make key and request").click()
    expect(page.get_by_text("is more than one part; put each on a line of its own")).to_be_visible()
    page.get_by_label("Subject").fill("CN=Bank payments\nO=Sandbox Customer")
    page.get_by_label("Alternative names").fill("invoicing.example.com")
    page.get_by_label("EC P-256").check()
    page.get_by_role("button", name="Make key and request").click()
    expect(page.get_by_text("The key is made and waits here.")).to_be_visible()
    look(page, "request")
    request = download(page, downloads)

    page.goto(NETWORK)
    waiting = page.get_by_role("region", name="Waiting for a certificate")
    expect(waiting).to_contain_text("by Owner")
    look(page, "network")
    waiting.get_by_role("link", name="Bank payments").click()
    page.get_by_label("Certificate", exact=True).set_input_files(request)
    page.get_by_role("button", name="Read the certificate").click()
    expect(page.get_by_text("This is a request; choose the certificate that was issued for it")).to_be_visible()
    page.get_by_label("Certificate", exact=True).set_input_files(sign(product, request))
    page.get_by_role("button", name="Read the certificate").click()
    expect(page.get_by_text("Its private key waits here")).to_be_visible()
    look(page, "preview")
    page.get_by_role("button", name="Add certificate").click()
    expect(flow.in_the_list(page, "Bank payments")).to_be_visible()
    expect(page.get_by_role("region", name="Waiting for a certificate")).to_have_count(0)

    page.get_by_role("link", name="Add pin").click()
    flow.pin(page, flow.BANK, "Bank payments")
    flow.apply(page, re.compile("Apply 2 changes and restart"), "The bank goes live")
    answered = flow.call(product, f"host={flow.BANK}")["answer"]
    assert answered["caller"] == "CN=Bank payments,O=Sandbox Customer", "the partner knows the app by its certificate"


def test_2_its_renewal_is_mailed_signed_and_used(page: Page, product: Product, inbox: Controller, downloads: Path):
    before = flow.partner_saw(product, flow.BANK)["certificate"]
    page.goto(NETWORK)
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    page.get_by_role("link", name="Request a new one").click()
    expect(page.get_by_label("Subject")).to_have_value("CN=Bank payments\nO=Sandbox Customer")
    expect(page.get_by_label("Alternative names")).to_have_value("invoicing.example.com")
    expect(page.get_by_label("EC P-256")).to_be_checked()
    look(page, "renewal")
    page.get_by_label("RSA 3072").check()
    page.get_by_role("button", name="Make key and request").click()

    page.get_by_label("To", exact=True).fill("certificates@bank.example")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Mailed to certificates@bank.example.")).to_be_visible()
    [mail] = inbox.handler.mails
    body, attached = mail.get_payload()
    assert mail["To"] == "certificates@bank.example"
    assert "please issue a client certificate" in body.get_payload(decode=True).decode()
    assert "PRIVATE KEY" not in mail.as_string()
    request = downloads / "renewal.csr"
    request.write_bytes(attached.get_payload(decode=True))
    # What the page tells the partner to compare.
    public = downloads / "public.der"
    pem = downloads / "public.pem"
    pem.write_text(openssl("req", "-in", request, "-noout", "-pubkey"))
    openssl("pkey", "-pubin", "-in", pem, "-outform", "DER", "-out", public)
    mark = openssl("dgst", "-sha256", public).rpartition("= ")[2].strip()
    assert (page.locator("#copy-key").text_content() or "").strip() == mark

    page.get_by_label("Certificate", exact=True).set_input_files(sign(product, request))
    page.get_by_role("button", name="Read the certificate").click()
    expect(page.get_by_role("heading", name=re.compile("old beside new"))).to_be_visible()
    expect(page.get_by_label("With the next apply")).to_be_checked()
    look(page, "preview-renewal")
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_text("Version 2 goes with the next apply.")).to_be_visible()
    flow.apply(page, re.compile("Apply 1 change and restart"), "Renewal")
    answered = flow.call(product, f"host={flow.BANK}")["answer"]
    assert answered["caller"] == "CN=Bank payments,O=Sandbox Customer"
    assert flow.partner_saw(product, flow.BANK)["certificate"]["sha256"] != before["sha256"]


def test_3_a_mail_server_that_is_away_loses_nothing_and_a_withdrawn_key_is_gone(
    page: Page, product: Product, inbox: Controller
):
    page.goto(NETWORK)
    page.get_by_role("link", name="Bank payments", exact=True).first.click()
    page.get_by_role("link", name="Request a new one").click()
    page.get_by_label("EC P-384").check()
    page.get_by_role("button", name="Make key and request").click()
    address = page.url
    inbox.stop()
    page.get_by_label("To", exact=True).fill("certificates@bank.example")
    page.get_by_label("Message").fill("My own words")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Nothing was sent: the mail server cannot be reached.")).to_be_visible()
    expect(page.get_by_label("Message")).to_have_value("My own words")
    look(page, "mail-away")
    page.get_by_role("link", name="Bank payments").click()
    expect(page.get_by_text("A new key for it waits for its certificate")).to_be_visible()
    look(page, "certificate")
    page.get_by_role("link", name="Look at the request").click()
    page.get_by_role("link", name="Withdraw…").click()
    look(page, "withdraw")
    page.get_by_role("button", name="Withdraw and destroy the key").click()
    expect(page.get_by_text("its key is gone")).to_be_visible()
    page.goto(address)
    expect(page.get_by_text("a certificate that is still issued for it can be used by nobody")).to_be_visible()
    expect(page.get_by_role("button")).not_to_contain_text(["Read the certificate"])
    look(page, "withdrawn")
