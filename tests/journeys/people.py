"""What a person does in the browser, in the words of the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.journeys.product import Product

OWN_PASSWORD = "a long sentence that nobody guesses"


def sign_in_first(page: Page, product: Product) -> None:
    """With the one-time password that was printed; it leads to a password of one's own."""
    page.goto("/")
    page.get_by_label("Name").fill("owner")
    page.get_by_label("Password", exact=True).fill(product.password)
    page.get_by_role("button", name="Sign in").click()
    change_password(page, product.password, OWN_PASSWORD)


def change_password(page: Page, current: str, new: str) -> None:
    page.get_by_label("Current password").fill(current)
    page.get_by_label("New password", exact=True).fill(new)
    page.get_by_label("New password again").fill(new)
    page.get_by_role("button", name="Change password").click()


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def new_application(page: Page, name: str) -> None:
    page.goto("/apps/new/")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create application").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def new_environment(page: Page, name: str, runs_on: str = "Export only") -> None:
    page.get_by_role("link", name="New environment").first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_label(runs_on).check()
    page.get_by_role("button", name="Create environment").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"/ {name}")


def download_sample(page: Page, product: Product, slug: str, folder: Path) -> tuple[Path, str]:
    """From the partner's desk, with the password that stands beside it."""
    sample = next(s for s in samples(product) if s["slug"] == slug)
    desk = page.context.new_page()
    desk.goto(product.desk)
    with desk.expect_download() as download:
        desk.locator(f"a[href$='{sample['file']}']").first.click()
    path = folder / sample["file"]
    download.value.save_as(path)
    expect(desk.locator("body")).to_contain_text(sample["password"])
    desk.close()
    return path, sample["password"]


def samples(product: Product) -> list[dict[str, Any]]:
    found = product.get(f"{product.desk}/samples.json")
    return found if isinstance(found, list) else found["samples"]


def pin(page: Page, network: str, target: str, sent: str) -> None:
    page.goto(f"{network}pins/new/")
    page.get_by_label("Service, host or client certificate identifier").fill(target)
    page.get_by_label("Is sent").select_option(label=sent)
    page.get_by_role("button", name="Save (no restart)").click()
    expect(page.get_by_text(target).first).to_be_visible()
