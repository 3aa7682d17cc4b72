"""Twenty environments in one go with a failure in the third; an upload by hand, taken back and then done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import ports
from tests.contracts.worlds import DeployApi
from tests.journeys import people
from tests.journeys import test_the_whole_flow as flow
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
SITES = 20
TINY = PROJECT / "tests" / "contracts" / "tiny_app.py"

# What would take a person an hour in the browser: twenty environments of one application, a certificate in each.
PREPARE = """
from pathlib import Path
import sys
from certificates import actions as certificates, pkcs12
from environments import actions as environments
from environments.models import Person
from rollouts import actions
from rollouts.connectors import connect
from django.conf import settings
from tests import pki
owner = Person.objects.get(is_superuser=True)
application = environments.create_application(name="Sites", by=owner)
identity = pkcs12.read(pki.pfx(pki.issue("client", authority=pki.make_authority("CA")), "x"), "x")
for number in range(20):
    made = environments.create_environment(application=application, name=f"Site {number:02}", by=owner)
    if number < 3:
        connect("local-process", settings.LOCAL_PROCESSES[f"site-{number}"]).start()
    actions.use_place(environment=made, place=f"site-{number}", by=owner)
    certificates.add(environment=made, name="Bank", identity=identity, by=owner)
"""


@pytest.fixture(scope="module")
def deploy_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployApi]:
    api = DeployApi(tmp_path_factory.mktemp("deploy"))
    yield api
    api.close()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, deploy_api: DeployApi) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    places = {}
    for number, port in enumerate(ports.free_ports(SITES)):
        behaviour = folder / f"behaviour-{number}.json"
        places[f"site-{number}"] = {
            "title": f"Site {number:02}",
            "status_url": f"http://127.0.0.1:{port}/status",
            "argv": [
                sys.executable, str(TINY), str(port), "--configuration", "{configuration}",
                "--behaviour", str(behaviour),
            ],
        }  # fmt: skip
    (folder / "behaviour-2.json").write_text('{"refuse": "bank"}')
    (folder / "places.json").write_text(json.dumps(places))
    running = Product(
        folder / "data",
        {
            "COUNTERSIGN_PLACES": str(folder / "places.json"),
            "DJANGO_SETTINGS_MODULE": "tests.journeys.platform_settings",
            "JOURNEY_DEPLOY_PORT": str(deploy_api.port),
        },
    )
    running.start()
    yield running
    running.stop()


def shoot(page: Page, name: str) -> None:
    """For eyes, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        for width, scheme in ((1440, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=str(Path(folder) / f"{name}-{width}-{scheme}.png"), full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})


def test_1_twenty_environments_stop_at_the_third_which_fails(page: Page, product: Product):
    people.sign_in_first(page, product)
    prepared = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", PREPARE],
        cwd=PROJECT, env=product.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stderr[-2000:]
    page.goto("/")
    page.get_by_role("link", name="Apply to several…").click()
    boxes = page.get_by_role("group", name="Environments").get_by_role("checkbox")
    expect(boxes).to_have_count(SITES)
    expect(boxes.first).not_to_be_checked()
    page.get_by_role("link", name="Tick all").click()
    expect(boxes.last).to_be_checked()
    shoot(page, "several")
    page.get_by_label("Why").fill("Renewal of the bank's certificate")
    page.get_by_role("button", name="Apply to all that are ticked").click()
    expect(page.get_by_text("2 of 20 verified")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Not begun, because one that came before it")).to_have_count(17, timeout=60_000)
    third = page.get_by_role("row").filter(has_text="Site 02")
    expect(third).to_contain_text("Rolled back")
    expect(third).to_contain_text("this configuration is refused")
    expect(page.get_by_role("link", name="Reload")).to_have_count(0)
    shoot(page, "series")


def test_2_a_platform_is_described_and_looked_at_without_restarting_anything(page: Page, deploy_api: DeployApi):
    people.new_application(page, "Billing")
    people.new_environment(page, "Acceptance")
    flow.open_tab(page, "Settings")
    page.get_by_role("link", name="It runs on a platform of its own…").click()
    shoot(page, "platforms")
    page.get_by_role("link", name="Mendix Cloud").click()
    page.get_by_label("App ID").fill("billing")
    page.get_by_label("Environment there").fill("Acceptance")
    page.get_by_label("User", exact=True).fill("ops@example.com")
    page.get_by_label("API key").fill("Key-0f-the-api")
    shoot(page, "platform")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Check connection").click()
    expect(page.get_by_text("Everything that an apply needs is there.")).to_be_visible()
    shoot(page, "platform-check")
    assert deploy_api.calls() == []


def test_3_an_upload_that_is_handed_over_can_be_taken_back(
    page: Page, product: Product, deploy_api: DeployApi, downloads: Path
):
    file, password = people.download_sample(page, product, "bank-payments", downloads)
    page.goto("/apps/billing/acceptance/")
    flow.add_certificate(page, file, password, "Bank payments")
    page.get_by_role("link", name="Add pin").click()
    flow.pin(page, "api.bank.example.com", page.get_by_label("Is sent").locator("option").all_text_contents()[1])
    ask(page)
    expect(page.get_by_text("It waits for you: upload the files by hand, then say so.")).to_be_visible(timeout=30_000)
    shoot(page, "handing-over")
    page.get_by_role("link", name="Files and steps…").click()
    page.get_by_role("button", name="Cancel this rollout").click()
    expect(page.get_by_text("the app was not restarted")).to_be_visible()
    assert deploy_api.calls() == []


def test_4_and_done_it_ends_in_a_restart_and_says_what_is_proved(
    page: Page, product: Product, deploy_api: DeployApi, downloads: Path
):
    ask(page)
    page.get_by_role("link", name="Files and steps…").click(timeout=30_000)
    expect(page.get_by_text("Add Client Certificate → choose")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text=re.compile("^api.bank.example.com$"))).to_be_visible()
    shoot(page, "hand-over")
    page.get_by_label("Your password").fill(people.OWN_PASSWORD)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download the files").click()
    with zipfile.ZipFile(str(downloading.value.path())) as files:
        assert files.namelist() == ["01-bank-payments.pfx", "passwords.txt"]
    page.get_by_role("button", name="The upload is done, restart the app").click()
    flow.wait_for_end(page, "Verified")
    expect(page.get_by_text("Uploaded by hand, as the operator confirmed, and restarted after that")).to_be_visible()
    shoot(page, "handed-over")
    assert deploy_api.calls() == ["start"]


def ask(page: Page) -> None:
    page.goto("/apps/billing/acceptance/apply/")
    page.get_by_label("Why").fill("The bank's certificate")
    if page.get_by_label("Start the app with it").count():
        page.get_by_label("Start the app with it").check()
    page.get_by_role("button", name=re.compile("^Apply")).click()
