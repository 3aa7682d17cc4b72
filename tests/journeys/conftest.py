"""A browser and the running product. Tests of one file share one product, so that a journey can go on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import ports
from tests.journeys.product import Product


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. Ends with its module: Playwright's event loop would be in the way of later database tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-quic",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("product") / "data")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def context(chromium: Browser, product: Product) -> Iterator[BrowserContext]:
    context = chromium.new_context(base_url=product.address, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Page:
    return context.new_page()


class Inbox(Message):
    """What a mail server was given."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


@pytest.fixture(scope="module")
def inbox() -> Iterator[Controller]:
    """A real mail server on this machine."""
    controller = Controller(Inbox(), hostname="127.0.0.1", port=ports.free_port())
    controller.start()
    yield controller
    with contextlib.suppress(AssertionError, RuntimeError):  # a test has stopped it
        controller.stop()


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")
