"""From what runs today to an export for another runtime: import, authority, lookup, search, preview, download."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from certificates import pkcs12
from tests import pki
from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

ENVIRONMENT = "/apps/invoicing/test/"
PARTNER = pki.make_authority("Partner CA")
FILES = {name: pki.pfx(pki.issue(cn, authority=PARTNER), password) for name, cn, password in (
    ("Mx1.pfx", "bank.client", "pwd1"), ("Mx2.pfx", "tax.client", "pwd2"))}  # fmt: skip
SETTINGS = r"""ClientCertificates
D:\App\Mx1.pfx, D:\App\Mx2.pfx
ClientCertificatePasswords
pwd1, pwd2
ClientCertificateUsages
{ "Billing.PaymentService": "D:\\App\\Mx1.pfx", "api.example.com": "D:\\App\\Mx2.pfx", "open.example.com": "" }
"""
ERROR = """javax.net.ssl.SSLHandshakeException: Received fatal alert: bad_certificate
    at java.base/sun.security.ssl.Alert.createSSLException(Alert.java:131)
Caused by: POST https://api.example.com:8443/v1/pay failed"""


@pytest.fixture(scope="module", autouse=True)
def an_environment(page: Page, product: Product) -> list[ConsoleMessage]:
    said: list[ConsoleMessage] = []
    page.on("console", lambda message: said.append(message) if message.type == "error" else None)
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test")
    return said


def sent(files: dict[str, bytes]) -> list[dict[str, object]]:
    return [{"name": name, "mimeType": "application/octet-stream", "buffer": file} for name, file in files.items()]


def test_what_runs_today_is_looked_at_and_comes_in(page: Page):
    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_role("link", name="Import what runs today").click()
    expect(page.get_by_role("combobox", name="Environment")).to_have_value("invoicing/test")
    page.get_by_text("Paste the configuration instead").click()
    page.get_by_role("textbox", name="Configuration").fill(SETTINGS.replace("pwd2", "wrong"))
    page.locator("input[type=file]").set_input_files(sent(FILES))
    page.get_by_role("button", name="Read it").click()
    # One password is wrong: it says which file, and nothing can come in.
    expect(page.get_by_role("alert")).to_contain_text("Mx2.pfx: The password does not open this file")
    expect(page.get_by_role("button", name="Bring it in")).to_have_count(0)

    page.get_by_role("link", name="Choose other files").click()
    page.get_by_role("combobox", name="Environment").select_option("invoicing/test")
    page.get_by_text("Paste the configuration instead").click()
    page.get_by_role("textbox", name="Configuration").fill(SETTINGS)
    page.locator("input[type=file]").set_input_files(sent(FILES))
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("Can come in")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="api.example.com")).to_contain_text("tax.client")
    page.get_by_role("button", name="Bring it in (no restart)").click()
    expect(
        page.get_by_text("brought in 2 certificates and 3 pins. Exported again, they mean the same.")
    ).to_be_visible()
    expect(page.get_by_role("link", name="bank.client").first).to_be_visible()


def test_an_authority_is_compared_and_added(page: Page):
    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_role("link", name="Add authority").click()
    authority = pki.make_authority("Partner Server CA")
    page.locator("input[type=file]").set_input_files(sent({"ca.pem": authority.certificate_pem}))
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_role("heading", name="Partner Server CA")).to_be_visible()
    page.get_by_role("button", name="Add authority").click()
    expect(page.get_by_text("Added Partner Server CA.")).to_be_visible()
    page.get_by_role("link", name="Partner Server CA").click()
    expect(page.get_by_text("-----BEGIN CERTIFICATE-----")).to_be_visible()


def test_an_address_and_an_exception_lead_to_the_certificate(page: Page):
    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_label("Which certificate is sent to").fill("https://api.example.com/v1?key=secret")
    page.get_by_role("button", name="Look up").click()
    answers = page.locator("#answers")
    expect(answers).to_contain_text("api.example.com is sent tax.client, because it is pinned to it")
    answers.get_by_text("1 other certificate, and why it is not sent").click()
    expect(answers.get_by_role("link", name="bank.client").first).to_be_visible()
    assert "secret" not in page.url
    page.get_by_role("navigation").get_by_role("link", name="Search").click()
    page.get_by_role("textbox", name="Text").fill(ERROR)
    page.get_by_role("button", name="Find it").click()
    expect(page.get_by_role("row").filter(has_text="api.example.com")).to_contain_text("tax.client")
    expect(page.get_by_text("The server refuses the certificate that it was sent")).to_be_visible()


def test_the_preview_shows_no_secret_and_the_download_has_them(page: Page, downloads: Path):
    page.goto(f"{ENVIRONMENT}export/")
    page.get_by_label("m2ee-tools (YAML)").check()
    page.get_by_role("button", name="Show preview").click()
    page.get_by_label("Base folder").fill("/srv/app")
    page.get_by_role("button", name="Show preview").click()
    preview = page.locator("pre").filter(has_text="mxruntime")
    expect(preview).to_contain_text('"api.example.com": "/srv/app/certificates/taxclient.pfx"')
    expect(preview).to_contain_text("••••••")
    expect(preview).to_contain_text("/srv/app/authorities/ca-")
    page.get_by_label("Why").fill("Moving to m2ee")
    page.get_by_label("Your password").fill("not this one")
    page.get_by_role("button", name="Download zip").click()
    expect(page.get_by_text("This is not your password; nothing was exported.")).to_be_visible()
    page.get_by_label("Your password").fill(people.OWN_PASSWORD)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download zip").click()
    path = downloads / "m2ee.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        settings = archive.read("client-certificates.yaml").decode()
        password = re.findall(r'ClientCertificatePasswords":\n  - "(\w+)"', settings)[0]
        opened = pkcs12.read(archive.read("certificates/bankclient.pfx"), password)
    assert opened.key


def test_another_runtime_is_chosen_knowing_what_it_cannot_be_told(page: Page):
    page.goto(f"{ENVIRONMENT}settings/")
    page.get_by_label("nginx, curl and others that read PEM").check()
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_text("1 of 3 pins cannot be expressed on nginx")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Billing.PaymentService")
    page.get_by_label("Change it all the same").check()
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_text("Settings saved.")).to_be_visible()
    page.goto(f"{ENVIRONMENT}export/?folder=/etc/nginx/certificates")
    expect(page.get_by_text("cannot be told about Billing.PaymentService")).to_be_visible()
    expect(page.get_by_role("button", name="Download zip")).to_have_count(0)

    # A new pin of that kind is refused while it is typed, with the reason.
    page.goto(f"{ENVIRONMENT}network/pins/new/")
    page.get_by_label("Service, host or client certificate identifier").fill("Other.Service")
    page.get_by_label("Is sent").select_option(label="bank.client")
    page.get_by_role("button", name="Save (no restart)").click()
    expect(page.get_by_text("cannot be told about Other.Service").first).to_be_visible()

    page.goto(f"{ENVIRONMENT}network/")
    page.get_by_role("row").filter(has_text="Billing.PaymentService").get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove pin").click()
    page.goto(f"{ENVIRONMENT}export/?folder=/etc/nginx/certificates")
    expect(page.locator("pre").filter(has_text="map $proxy_host").first).to_contain_text("api\\.example\\.com")
    targets = page.locator("pre").filter(has_text='"open.example.com"').first.inner_text()
    assert json.loads(targets)["open.example.com"] is None


def test_the_browser_had_nothing_to_complain_of(an_environment: list[ConsoleMessage]):
    assert [one.text for one in an_environment if "422" not in one.text] == []
