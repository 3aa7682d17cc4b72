"""A team is set up in the browser alone: people, roles, and what each of them then sees."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys import people
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]


def new_person(page: Page, name: str, full_name: str) -> str:
    """Returns the one-time password that the page shows once."""
    page.goto("/people/")
    page.get_by_role("link", name="New person").click()
    page.get_by_label("Sign-in name").fill(name)
    page.get_by_label("Full name").fill(full_name)
    page.get_by_role("button", name="Create person").click()
    password = page.locator("#one-time-password").inner_text()
    page.reload()
    expect(page.locator("body")).not_to_contain_text(password)
    return password


def add_member(page: Page, app: str, name: str, where: str, role: str) -> None:
    page.goto(f"/apps/{app}/members/")
    page.get_by_label("Person").fill(name)
    page.get_by_label("Where").select_option(label=where)
    page.get_by_role("radio", name=re.compile(f"^{role}")).check()
    page.get_by_role("button", name="Add member").click()
    expect(page.get_by_role("row").filter(has_text=role).filter(has_text=name)).to_be_visible()


def test_a_team_is_set_up_without_a_command(page: Page, product: Product, chromium: Browser):
    people.sign_in_first(page, product)
    passwords = {
        name: new_person(page, name, full) for name, full in (("ada", "Ada Viewer"), ("oscar", "Oscar Operator"))
    }
    stranger = new_person(page, "sam", "Sam Stranger")
    people.new_application(page, "Invoicing")
    people.new_environment(page, "Test", "Sandbox app 1")
    page.goto("/apps/invoicing/")
    people.new_environment(page, "Production")
    add_member(page, "invoicing", "ada", "All environments", "Viewer")
    add_member(page, "invoicing", "oscar", "Test", "Operator")

    def browse_as(name: str, password: str) -> Page:
        own = chromium.new_context(base_url=product.address)
        own.set_default_timeout(15_000)
        other = own.new_page()
        people.sign_in(other, name, password)
        people.change_password(other, password, people.OWN_PASSWORD)
        return other

    ada = browse_as("ada", passwords["ada"])
    ada.goto("/apps/invoicing/production/network/")
    expect(ada.get_by_role("link", name="Add client certificate")).to_have_count(0)
    assert ada.goto("/apps/invoicing/production/network/certificates/new/").status == 403
    expect(ada.locator("main")).to_contain_text("You may not change certificates and pins here; ask")

    oscar = browse_as("oscar", passwords["oscar"])
    oscar.goto("/apps/invoicing/test/network/")
    expect(oscar.get_by_role("link", name="Add client certificate").first).to_be_visible()
    assert oscar.goto("/apps/invoicing/production/").status == 404, "another environment does not exist for him"
    expect(oscar.get_by_role("link", name="People")).to_have_count(0)
    assert oscar.goto("/people/").status in (403, 404)

    sam = browse_as("sam", stranger)
    assert sam.goto("/apps/invoicing/").status == 404
    assert sam.goto("/apps/invoicing/test/network/").status == 404

    # The refused attempt is in the audit log, and a person who is locked out is a stranger at the next click.
    page.goto("/audit/?refused=on")
    expect(page.locator("main")).to_contain_text(re.compile("ada", re.I))
    page.goto("/people/")
    page.get_by_role("row").filter(has_text="oscar").get_by_role("button", name=re.compile("Lock out")).click()
    oscar.goto("/apps/invoicing/test/network/")
    expect(oscar.get_by_role("heading", name="Sign in")).to_be_visible()
    for other in (ada, oscar, sam):
        other.context.close()
