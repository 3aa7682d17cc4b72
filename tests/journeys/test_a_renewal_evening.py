"""The evening on which a certificate is renewed that five environments of two applications use: from the notice on the
first page to the evidence in each of them. One upload, one worklist; one place keeps it ready first, and uses it later.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests import ports
from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
TINY = PROJECT / "tests" / "contracts" / "tiny_app.py"
PLACES = {
    "Invoicing / Acceptance": "sandbox-app-1",
    "Invoicing / Production": "tiny-1",
    "Orders / Test": "tiny-2",
    "Orders / Acceptance": "sandbox-app-2",
    "Orders / Production": "tiny-3",
}
# What was done in an earlier year: five environments with the same certificate, pinned to the bank, each running it.
BEFORE = """
import json, sys
from pathlib import Path
from certificates import actions as certificates, pkcs12
from django.conf import settings
from environments import actions as environments
from environments.models import Application, Person
from rollouts import actions
from rollouts.connectors import connect
places, file, password = json.loads(sys.stdin.read())
owner = Person.objects.get(is_superuser=True)
identity = pkcs12.read(Path(file).read_bytes(), password)
asked = []
for title, place in places.items():
    name, _, where = title.partition(" / ")
    application = Application.objects.filter(name=name).first()
    if application is None:
        application = environments.create_application(name=name, by=owner)
    if place.startswith("tiny"):
        connect("local-process", settings.LOCAL_PROCESSES[place]).start()
    made = environments.create_environment(
        application=application, name=where, production=where == "Production", by=owner
    )
    actions.use_place(environment=made, place=place, by=owner)
    added = certificates.add(environment=made, name="Reports to the bank", identity=identity, by=owner)
    target = certificates.read_target(environment=made, text="bank.sandbox.test", never=False)
    certificates.pin(environment=made, target=target, certificate=added, confirmed=True, by=owner)
    asked.append((made, actions.pending(made)[0].digest))
actions.apply_to_several(asked=asked, reason="First certificates", stop_at_failure=False, by=owner)
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    running = Product(folder / "data", {"COUNTERSIGN_PLACES": str(folder / "places.json")})
    places = {}
    for number, port in enumerate(ports.free_ports(3), start=1):
        places[f"tiny-{number}"] = {
            "title": f"App {number}",
            "status_url": f"http://127.0.0.1:{port}/status",
            "trust": str(running.data / "sandbox" / "partner-server-ca.pem"),
            "argv": [
                sys.executable, str(TINY), str(port), "--configuration", "{configuration}",
                "--behaviour", str(folder / "behaviour.json"),
            ],
        }  # fmt: skip
    (folder / "places.json").write_text(json.dumps(places))
    running.start()
    yield running
    running.stop()


def sample(product: Product, slug: str) -> dict[str, Any]:
    return next(one for one in people.samples(product) if one["slug"] == slug)


def row(page: Page, place: str) -> Locator:
    return page.get_by_role("row").filter(has_text=place)


def look_at(page: Page, name: str) -> None:
    """The page, as it stands, is accessible and fits, wide and narrow, light and dark. With SCREENSHOTS set to a
    folder, it is also kept there as pictures."""
    pictures = os.environ.get("SCREENSHOTS")
    for scheme, width in (("light", 1440), ("dark", 390), *((("dark", 1440), ("light", 390)) if pictures else ())):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert Axe().run(page).response["violations"] == [], f"{name}, {scheme}, {width} px"
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways == 0, f"{name} sticks out by {sideways} px at {width} px"
        if pictures:
            page.screenshot(path=Path(pictures) / f"{name}-{scheme}-{width}.png", full_page=True)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")


def test_1_the_notice_leads_to_the_certificate(page: Page, product: Product):
    people.sign_in_first(page, product)
    old = sample(product, "reports-expiring")
    given = json.dumps([PLACES, str(product.data / "sandbox" / "samples" / old["file"]), old["password"]])
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", BEFORE],
        cwd=PROJECT, env=product.environ, input=given, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for title in PLACES:
        page.goto(f"/apps/{title.lower().replace(' / ', '/')}/")
        expect(page.locator("#chips")).to_contain_text("Up to date", timeout=60_000)
    page.goto("/")
    notice = page.locator("#needs").locator("xpath=ancestor::section").get_by_role("listitem").first
    expect(notice).to_contain_text("Reports to the bank")
    page.goto("/certificates/")
    page.get_by_role("row").filter(has_text="Acceptance").filter(has_text="Invoicing").get_by_role(
        "link", name="Reports to the bank"
    ).click()
    expect(page.get_by_role("heading", name="The next renewal")).to_be_visible()
    look_at(page, "certificate")


def test_2_one_upload_goes_to_five_places(page: Page, product: Product, downloads: Path):
    file, password = people.download_sample(page, product, "reports-renewal", downloads)
    page.get_by_role("link", name="Upload renewal").click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_label("Password of the file").fill(password)
    page.get_by_role("button", name="Read the file").click()
    expect(page.get_by_text("A renewal: the same subject and issuer, with a new key.")).to_be_visible()
    expect(page.get_by_role("heading", name="What you replace is also used in 4 other places")).to_be_visible()
    expect(row(page, "Orders / Production")).to_contain_text("Production")
    look_at(page, "preview")
    page.get_by_text("All of these:").locator("xpath=..").get_by_role("button", name="With the next apply").click()
    later = page.get_by_label("Orders / Acceptance · Reports to the bank")
    expect(later).to_have_value("next")
    later.select_option("ready")
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_text("Read the warnings and tick the box to go on.")).to_be_visible()  # one key on both sides
    expect(later).to_have_value("ready")
    page.get_by_label(re.compile("I have read this")).check()
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_role("heading", name="Renewal of Reports")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="0 of 5 applied")).to_be_visible()
    expect(row(page, "Orders / Acceptance")).to_contain_text("Kept ready; what was in use goes on.")
    for title in set(PLACES) - {"Orders / Acceptance"}:
        expect(row(page, title)).to_contain_text("Not running yet")
    look_at(page, "worklist")


def test_3_the_worklist_applies_to_four_and_shows_the_evidence_of_each(page: Page, product: Product):
    worklist = page.url
    page.get_by_role("link", name="Apply to all 4 of these…").click()
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(5)  # and that it stops at the first failure
    page.get_by_label("Why").fill("Renewal of the bank's certificate")
    page.get_by_role("button", name="Apply to all that are ticked").click()
    expect(page).to_have_url(worklist)
    expect(page.get_by_text("4 of 5 applied")).to_be_visible(timeout=90_000)
    for title in set(PLACES) - {"Orders / Acceptance"}:
        expect(row(page, title)).to_contain_text("The app itself reports the digest of what was delivered.")
        expect(row(page, title)).to_contain_text("Running")
    renewed = sample(product, "reports-renewal")["sha256"]
    assert flow.call(product, f"host={flow.BANK}")["sent"]["sha256"] == renewed, "the first app sends the new one"
    assert flow.partner_saw(product, flow.BANK)["certificate"]["sha256"] == renewed, "and the bank saw it"
    look_at(page, "evidence")
    kept = product.get(f"{product.app(2)}/calls.json?host={flow.BANK}")
    assert kept["sent"]["sha256"] == sample(product, "reports-expiring")["sha256"], "where it is ready, nothing changed"


def test_4_what_was_kept_ready_is_used(page: Page, product: Product):
    worklist = page.url
    row(page, "Orders / Acceptance").get_by_role("button", name="Use it").click()
    expect(row(page, "Orders / Acceptance")).to_contain_text("Goes with the next apply.")
    flow.apply(page, re.compile(r"^Apply…"), "The last one")
    page.goto(worklist)
    expect(page.get_by_text("5 of 5 applied")).to_be_visible()
    sent = product.get(f"{product.app(2)}/calls.json?host={flow.BANK}")["sent"]
    assert sent["sha256"] == sample(product, "reports-renewal")["sha256"]
    page.goto("/apps/orders/acceptance/network/")
    expect(row(page, flow.BANK).first).to_contain_text("Reports to the bank")
    page.get_by_role("link", name="Reports to the bank").first.click()
    expect(page.get_by_role("link", name=re.compile("^renewal of"))).to_have_attribute(
        "href", re.compile("/renewals/[0-9a-f-]+/")
    )
