"""Files that ask for absurd work, uploaded to the running product while others look at its pages."""

from __future__ import annotations

import itertools
import os
import queue
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates.diagnosis import Refusal
from certificates.outline import outline
from tests import bombs, pki
from tests.bombs import Bomb
from tests.conftest import CORPUS
from tests.journeys.product import Product
from tests.load.person import Page, Person

OWN_PASSWORD = "a long sentence that nobody guesses"
UPLOADERS = 3
# Seconds: what anybody who uploads, and anybody else meanwhile, may have to wait.
AN_ANSWER, A_PAGE = 12.0, 0.3

SHOWN = [bomb for bomb in bombs.all_bombs() if not bomb.hidden]


@pytest.mark.parametrize("bomb", SHOWN, ids=[bomb.name for bomb in SHOWN])
def test_what_a_file_asks_for_is_refused_before_its_password_is_asked_for(bomb: Bomb) -> None:
    began = time.thread_time()
    with pytest.raises(Refusal) as refused:
        outline(bomb.file)
    # Of this thread alone. It holds up the others of its web process for as long.
    assert time.thread_time() - began < 1
    assert any(words in str(refused.value) for words in bomb.said)
    assert len(str(refused.value)) < 400


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("bombs") / "data")
    running.start()
    yield running
    running.stop()


def signed_in(product: Product) -> Person:
    person = Person(product.address)
    page = person.sign_in("owner", OWN_PASSWORD)
    assert page.path == "/", page.said
    return person


@pytest.fixture(scope="module")
def network(product: Product) -> str:
    """The Network tab of an environment with a certificate."""
    owner = Person(product.address)
    page = owner.change_password(owner.sign_in("owner", product.password), product.password, OWN_PASSWORD)
    page = owner.look("/apps/new/")
    page = owner.send(page, page.form("name"), {"name": "Invoicing"})
    page = owner.look(f"{page.path}new/")
    page = owner.send(page, page.form("place"), {"name": "Test", "place": "export-only"})
    address = f"{page.path}network/"
    page = upload(owner, address, pki.pfx(pki.issue("client.example"), "secret"))
    assert owner.send(page, page.form("name")).path == address
    return address


def upload(person: Person, network: str, file: bytes, password: str = bombs.PASSWORD) -> Page:
    return timed_upload(person, network, file, password)[0]


def timed_upload(person: Person, network: str, file: bytes, password: str) -> tuple[Page, float]:
    """The answer, and how many seconds after the file was sent it came."""
    page = person.look(f"{network}certificates/new/")
    files = {"file": ("client.pfx", file, "application/x-pkcs12")}
    began = time.monotonic()
    return person.send(page, page.form("file"), {"password": password}, files=files), time.monotonic() - began


def everything() -> list[tuple[str, bytes, str, tuple[str, ...]]]:
    """Name, file, password, what the refusal may say: the generated set, and the corpus where it is here."""
    found = [(bomb.name, bomb.file, bombs.PASSWORD, bomb.said) for bomb in bombs.all_bombs()]
    for file in sorted((CORPUS / "dos").glob("*.p12")):
        # Three of them are damaged instead, so that the password says no more than that.
        said = (*bombs.ASKS_FOR_MORE, "stops too early", "ask the partner to")
        found.append((file.name, file.read_bytes(), "Passw0rd!", said))
    return found


class Onlooker(threading.Thread):
    """Looks at pages all the while, one after the other, and writes down the seconds that each took."""

    def __init__(self, person: Person, pages: list[str]) -> None:
        super().__init__(daemon=True)
        self.person = person
        self.pages = itertools.cycle(pages)
        self.took: list[float] = []
        self.bad: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            began = time.monotonic()
            page = self.person.look(next(self.pages))
            self.took.append(time.monotonic() - began)
            if page.status != 200:
                self.bad.append(page.status)
            self.enough.wait(0.05)

    def p95(self) -> float:
        return statistics.quantiles(self.took, n=20)[-1]


def in_peace(person: Person, pages: list[str]) -> float:
    """The p95 while nobody uploads anything."""
    onlooker = Onlooker(person, pages)
    onlooker.start()
    time.sleep(5)
    onlooker.enough.set()
    onlooker.join()
    return onlooker.p95()


@pytest.mark.quiet
@pytest.mark.timeout(600)
def test_others_do_not_notice_the_bombs_of_three(product: Product, network: str) -> None:
    person = signed_in(product)
    pages = ["/", network, network.removesuffix("network/"), f"{network}certificates/new/", "/audit/"]
    before = in_peace(person, pages)

    waiting: queue.SimpleQueue[tuple[str, bytes, str, tuple[str, ...]]] = queue.SimpleQueue()
    for one in everything():
        waiting.put(one)
    took: dict[str, float] = {}
    wrong: list[str] = []

    def post(uploader: Person) -> None:
        while True:
            try:
                name, file, password, said = waiting.get_nowait()
            except queue.Empty:
                return
            page, took[name] = timed_upload(uploader, network, file, password)
            if page.status != 422 or not any(words in page.text for words in said):
                wrong.append(f"{name}: {page.status} {page.said[:400]}")

    onlooker = Onlooker(person, pages)
    uploaders = [threading.Thread(target=post, args=[signed_in(product)]) for _number in range(UPLOADERS)]
    onlooker.start()
    for uploader in uploaders:
        uploader.start()
    for uploader in uploaders:
        uploader.join()
    onlooker.enough.set()
    onlooker.join()
    peace = max(before, in_peace(person, pages))

    slowest = max(took, key=took.__getitem__)
    print(
        f"\n{len(took)} bombs by {UPLOADERS}: slowest {took[slowest]:.1f} s ({slowest}). {len(onlooker.took)} pages of"
        f" another person: p50 {statistics.median(onlooker.took) * 1000:.0f} ms, p95 {onlooker.p95() * 1000:.0f} ms,"
        f" longest {max(onlooker.took) * 1000:.0f} ms; without bombs, p95 {peace * 1000:.0f} ms."
    )
    assert wrong == []
    assert {name: seconds for name, seconds in took.items() if seconds > AN_ANSWER} == {}
    assert onlooker.bad == []
    # A machine that is busy with other things is as slow without any bomb.
    assert onlooker.p95() < max(A_PAGE, 2 * peace)
    assert readers_of(product) == []
    # And an honest file is read as before.
    assert "client.example" in upload(person, network, pki.pfx(pki.issue("client.example"), "secret")).text


@pytest.mark.quiet
def test_what_reads_files_ends_with_the_product(product: Product) -> None:
    """Runs after the test above, on its product."""
    forking = [
        pid for web in product.pids_of("gunicorn") for pid in children_of(web) if b"reader_child" in words_of(pid)
    ]
    assert forking
    product.stop()
    deadline = time.monotonic() + 10
    while left := [pid for pid in forking if b"reader_child" in words_of(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    """Of all its threads: a child belongs to the one that started it."""
    return [int(word) for task in Path(f"/proc/{pid}/task").glob("*/children") for word in task.read_text().split()]


def words_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def readers_of(product: Product) -> list[int]:
    """The processes that hold one of this product's places for a reader, as each reader does while it lives."""
    places = str(product.data.parent / "tmp" / f"countersign-readers-{os.getuid()}")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            held = [str(link.readlink()) for link in (folder / "fd").iterdir()]
        except OSError:
            continue
        if any(name.startswith(places) for name in held):
            found.append(int(folder.name))
    return found
