"""Input that is not one .pfx: other formats become a certificate; bad input is one sentence beside the field, with a
message to whoever sent it, nothing stored, nothing lost of what was typed, the password aside."""

from __future__ import annotations

import io
import os
import re
import signal
import zipfile
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Locator, Page, expect

from tests import pki
from tests.certificates.made import entry_password_file
from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

ENVIRONMENT = "/apps/invoicing/test/"
PARTNER = pki.make_authority("Partner CA")
GOOD = pki.issue("client", authority=PARTNER)
PASSWORD = "secret"


def a_zip() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("client.pfx", b"...")
    return written.getvalue()


@pytest.fixture(scope="module", autouse=True)
def signed_in(page: Page, product: Product) -> None:
    people.sign_in_first(page, product)
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test", "Sandbox app 1")


def name_field(page: Page) -> Locator:
    """Its label says “(optional)” where it is."""
    return page.get_by_label(re.compile("^Name"))


def upload(page: Page, file: bytes, password: str, file_name: str = "client.pfx", name: str = "Typed name") -> None:
    page.goto(f"{ENVIRONMENT}network/certificates/new/")
    page.get_by_label("File", exact=True).set_input_files(
        {"name": file_name, "mimeType": "application/x-pkcs12", "buffer": file}
    )
    name_field(page).fill(name)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()


def nothing_is_stored(page: Page) -> None:
    page.goto(f"{ENVIRONMENT}network/")
    expect(page.get_by_role("heading", name="Certificates for outgoing connections")).to_be_visible()
    expect(page.get_by_text("Typed name")).to_have_count(0)


@pytest.mark.parametrize(
    ("file_name", "file", "sentence"),
    [
        ("client.key", GOOD.key_pem, "private key but no certificate"),
        ("client.zip", a_zip(), "[Zz][Ii][Pp]"),
        ("empty.pfx", b"", "empty"),
        ("large.pfx", b"0" * (2 * 1024 * 1024), "1 MiB|1.0 MiB|1,048,576"),
        ("no-key.pfx", pki.pfx(GOOD, PASSWORD, key=False), "key"),
        ("cut.pfx", pki.pfx(GOOD, PASSWORD)[:300], "cut|end|truncated|incomplete"),
    ],
)
def test_a_file_that_is_none_is_named(page: Page, file_name: str, file: bytes, sentence: str):
    upload(page, file, PASSWORD, file_name)
    said = page.locator(".field .error")
    expect(said).to_have_count(1)
    expect(said).to_have_text(re.compile(sentence))
    expect(page.get_by_label("Password of the file")).to_have_value("")
    if name_field(page).count():
        expect(name_field(page)).to_have_value("Typed name")
    nothing_is_stored(page)


def chosen(page: Page, *files: tuple[str, bytes], password: str = "") -> None:
    page.goto(f"{ENVIRONMENT}network/certificates/new/")
    page.get_by_label("File", exact=True).set_input_files(
        [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
    )
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()


def pem_key(issued: pki.Issued) -> bytes:
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def is_in_the_preview(page: Page, *words: str) -> None:
    expect(page.get_by_role("heading", name="What is in the file")).to_be_visible()
    for word in words:
        expect(page.locator("main")).to_contain_text(word)
    page.get_by_role("button", name="Cancel").click()


def test_a_key_and_a_certificate_in_pem_become_a_certificate(page: Page):
    chosen(page, ("client.key", pem_key(GOOD)), ("client.crt", GOOD.certificate_pem))
    is_in_the_preview(page, "client.key, client.crt", "Partner CA")


def test_a_pfx_and_a_separate_chain_become_one_certificate(page: Page):
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in GOOD.chain)
    chosen(page, ("client.pfx", pki.pfx(GOOD, PASSWORD, certificates=())), ("chain.pem", chain), password=PASSWORD)
    is_in_the_preview(page, "client.pfx, chain.pem", "Partner CA")


def test_text_from_a_mail_is_pasted(page: Page):
    page.goto(f"{ENVIRONMENT}network/certificates/new/")
    page.get_by_text("Paste text instead").click()
    page.get_by_label(re.compile("^Text")).fill((pem_key(GOOD) + GOOD.certificate_pem).decode())
    page.get_by_role("button", name="Read the file").click()
    is_in_the_preview(page, "pasted text")


def test_of_several_keys_one_is_chosen(page: Page):
    other = pki.issue("other.example.com")
    both = b"".join([pem_key(GOOD), GOOD.certificate_pem, pem_key(other), other.certificate_pem])
    chosen(page, ("both.pem", both))
    expect(page.get_by_role("heading", name="The file holds 2 certificates")).to_be_visible()
    page.get_by_role("button", name="Go on with this one").click()
    expect(page.get_by_role("alert")).to_have_text("Choose one of the certificates.")
    page.get_by_label("other.example.com").check()
    page.get_by_role("button", name="Go on with this one").click()
    expect(name_field(page)).to_have_value("other.example.com")
    is_in_the_preview(page, "both.pem")


def test_a_key_with_a_password_of_its_own_is_asked_for_it(page: Page):
    chosen(page, ("java.p12", entry_password_file(GOOD, "another")), password="Passw0rd!")
    expect(page.locator(".field .error")).to_contain_text("the private key inside has another one")
    expect(page.get_by_label("Message to the sender")).to_contain_text("keytool -importkeystore -srckeystore java.p12")
    page.get_by_label("Password of the file").fill("Passw0rd!")
    page.get_by_label("Password of the key").fill("another")
    page.get_by_role("button", name="Open the file").click()
    is_in_the_preview(page, "java.p12")


REFUSED = {
    "jks": (b"\xfe\xed\xfe\xed" + bytes(40), "", "keytool -importkeystore"),
    "wrong password": (pki.pfx(GOOD, PASSWORD), "wrong", "openssl pkcs12 -in sent.pfx -noout -info"),
    "no key": (pki.pfx(GOOD, PASSWORD, key=False), PASSWORD, "openssl pkcs12 -export"),
    "cut": (pki.pfx(GOOD, PASSWORD)[:400], PASSWORD, "It arrived incomplete"),
    "a flipped bit": (pki.pfx(GOOD, PASSWORD)[:-1] + b"\x7f", PASSWORD, "openssl pkcs12 -export"),
    "a web page": (b"<html>", "", "a web page"),
}


@pytest.mark.parametrize(("file", "password", "words"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_has_its_message_to_the_sender(page: Page, file: bytes, password: str, words: str):
    chosen(page, ("sent.pfx", file), password=password)
    expect(page.locator(".field .error")).to_have_count(1)
    message = page.get_by_label("Message to the sender")
    expect(message).to_contain_text("sent.pfx")
    expect(message).to_contain_text(words)
    expect(message.get_by_role("button", name="Copy message")).to_be_visible()


def test_a_wrong_password_keeps_the_file(page: Page):
    upload(page, pki.pfx(GOOD, PASSWORD), "wrong")
    expect(page.locator(".field .error")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("client.pfx")
    page.get_by_label("Password of the file").fill(PASSWORD)
    page.get_by_role("button", name=re.compile("Read|Open")).click()
    expect(name_field(page)).to_have_value("Typed name")
    page.get_by_role("button", name="Cancel").click()
    nothing_is_stored(page)


def test_a_nul_in_the_password_reaches_nothing(page: Page, product: Product):
    upload(page, pki.pfx(GOOD, PASSWORD), "a\0b")
    expect(page.locator(".field .error")).to_have_count(1)
    expect(page.locator(".field .error")).to_contain_text(re.compile("NUL|null|control|password", re.I))
    logs = "".join(path.read_text(errors="replace") for path in (product.data / "logs").iterdir())
    assert "NulError" not in logs
    assert "panicked" not in logs
    nothing_is_stored(page)


def test_an_expired_certificate_is_confirmed_or_not_stored(page: Page):
    old = pki.issue(
        "old", authority=PARTNER, not_before=pki.NOW - timedelta(days=90), not_after=pki.NOW - timedelta(days=3)
    )
    upload(page, pki.pfx(old, PASSWORD), PASSWORD)
    expect(page.locator("main")).to_contain_text("expired")
    page.get_by_role("button", name="Add certificate").click()
    expect(page.locator(".field .error")).to_have_text("Read the warnings and tick the box to go on.")
    page.get_by_role("button", name="Cancel").click()
    nothing_is_stored(page)


def test_names_and_targets_are_taken_once(page: Page):
    upload(page, pki.pfx(GOOD, PASSWORD), PASSWORD, name="Bank")
    page.get_by_role("button", name="Add certificate").click()
    upload(page, pki.pfx(pki.issue("other", authority=PARTNER), PASSWORD), PASSWORD, name="bank")
    page.get_by_role("button", name="Add certificate").click()
    expect(page.locator(".field .error")).to_contain_text("There is already a certificate")
    expect(name_field(page)).to_have_value("bank")
    page.get_by_role("button", name="Cancel").click()

    page.goto(f"{ENVIRONMENT}network/pins/new/")
    page.get_by_label("Service, host or client certificate identifier").press_sequentially(
        "https://API.example.com/v1?x=1"
    )
    expect(page.locator("#meaning")).to_contain_text("Host api.example.com.")
    expect(page.locator("#meaning")).to_contain_text(re.compile("path.*removed", re.I))
    page.get_by_label("Is sent").select_option(label="Bank")
    page.get_by_role("button", name="Save (no restart)").click()
    page.goto(f"{ENVIRONMENT}network/pins/new/")
    page.get_by_label("Service, host or client certificate identifier").fill("api.example.com")
    page.get_by_label("Is sent").select_option(label="Never send a certificate")
    page.get_by_label("Note").fill("typed before")
    page.get_by_role("button", name="Save (no restart)").click()
    expect(page.locator(".field .error")).to_contain_text("api.example.com is already pinned here (Bank)")
    expect(page.get_by_label("Note")).to_have_value("typed before")
    page.goto("/apps/new/")
    page.get_by_label("Name").fill("INVOICING")
    page.get_by_role("button", name="Create application").click()
    expect(page.locator(".field .error")).to_contain_text("There is already an application with this name")


def test_an_apply_whose_changes_moved_on_shows_the_new_ones(page: Page):
    page.goto(f"{ENVIRONMENT}apply/")
    page.get_by_label("Why").fill("Typed before somebody else came")
    other = page.context.new_page()
    other.goto(f"{ENVIRONMENT}network/pins/new/")
    other.get_by_label("Service, host or client certificate identifier").fill("late.example.com")
    other.get_by_label("Is sent").select_option(label="Bank")
    other.get_by_role("button", name="Save (no restart)").click()
    expect(other.get_by_text("late.example.com").first).to_be_visible()
    other.close()
    page.get_by_role("button", name=re.compile("^Apply")).click()
    expect(page.locator("main")).to_contain_text("Somebody changed something meanwhile")
    expect(page.get_by_role("row").filter(has_text="late.example.com")).to_be_visible()
    expect(page.get_by_label("Why")).to_have_value("Typed before somebody else came")


def test_a_worker_that_is_down_is_named_and_a_double_click_makes_one_rollout(page: Page, product: Product):
    workers = product.pids_of("celery", "worker")
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.goto(f"{ENVIRONMENT}apply/")
        page.get_by_label("Why").fill("Double click")
        page.get_by_role("button", name=re.compile("^Apply")).dblclick()
        expect(page.locator("main")).to_contain_text(
            "It waits for a worker, and runs as soon as one comes.", timeout=45_000
        )
        second = page.context.new_page()
        second.goto(f"{ENVIRONMENT}apply/")
        if second.get_by_label("Why").count():
            second.get_by_label("Why").fill("Second tab")
            second.get_by_role("button", name=re.compile("^Apply")).click()
        expect(second.locator("main")).to_contain_text(re.compile("already being applied|Applying|Requested", re.I))
        second.close()
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    expect(page.get_by_role("status").filter(has_text="Verified").first).to_be_visible(timeout=60_000)
    page.goto(f"{ENVIRONMENT}rollouts/")
    expect(page.get_by_text("Double click")).not_to_have_count(0)
    expect(page.get_by_text("Second tab")).to_have_count(0)
