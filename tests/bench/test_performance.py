"""What things cost, as ratios and numbers of queries: written as a table into docs/performance.md.

Nothing here is asserted as a time, for times are those of a machine; `make test` asserts the numbers of queries. Each
figure is the least of several, which is what the work costs when nothing else wants the processor.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sqlite3
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, load_pkcs12, serialize_key_and_certificates
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates import actions as certificates
from certificates import current, pkcs12
from certificates.content import Content, PinnedTarget, Slot
from certificates.models import Comparison
from certificates.selection import Selector
from certificates.targets import interpret
from environments import actions as environments
from environments.models import Environment, Person
from notices import actions as actions_of_notices
from notices import telling, watching
from notices.models import Crossing, Message
from rollouts import actions, exporters, unseal
from tests import crowd, pki
from tests.journeys.product import Product
from tests.load.person import Person as Visitor
from tests.readers import read_in_child

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800), pytest.mark.django_db(transaction=True)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured by make bench -->\n", "<!-- end of what was measured -->\n"
SECTIONS = (
    *(
        "Upload",
        "Pages of an environment",
        "Lists and search",
        "Home page and filters",
        "Looking at what expires",
        "Lookup",
        "Export",
        "Forms of an export",
        "From click to app",
    ),
    "The whole product",
)

Row = tuple[str, ...]


class Figures:
    def __init__(self) -> None:
        self.tables: dict[str, tuple[Row, list[Row]]] = {}

    def add(self, section: str, head: Row, rows: list[Row]) -> None:
        self.tables[section] = head, rows
        print(f"\n{section}\n{self._table(section)}")

    def _table(self, section: str) -> str:
        head, rows = self.tables[section]
        lines = [head, tuple("---" for _ in head), *rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in lines)

    def write(self) -> None:
        """Puts what was measured now in its place; other sections stay, each with its own day."""
        before, _, rest = PAGE.read_text().partition(BEGIN)
        kept, _, after = rest.partition(END)
        sections = {part.partition("\n")[0]: part.rstrip() for part in kept.split("### ")[1:]}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        database = f"{connection.display_name} {'.'.join(map(str, connection.get_database_version()))}"
        told = (
            f"{datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, {memory:.0f} GiB, {database}."
        )
        sections |= {section: f"{section}\n\n{self._table(section)}\n\n{told}" for section in self.tables}
        written = "\n\n".join(f"### {sections[section]}" for section in SECTIONS if section in sections)
        PAGE.write_text(f"{before}{BEGIN}\n{written}\n\n{END}{after}")


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    found = Figures()
    yield found
    if found.tables:
        found.write()


def least(work: Callable[[], Any], times: int = 9, before: Callable[[], Any] | None = None) -> float:
    """Milliseconds."""
    found = []
    for _time in range(times):
        if before:
            before()
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return min(found)


def processor(work: Callable[[], Any]) -> float:
    """Milliseconds of this thread's processor time."""
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def ms(figure: float) -> str:
    return f"{figure:.1f} ms" if figure < 100 else f"{figure:,.0f} ms"


def times(figure: float) -> str:
    return f"{figure:.2f} ×" if figure < 10 else f"{figure:.0f} ×"


Look = Callable[..., dict[Any, tuple[float, int]]]


@pytest.fixture
def look(owner: Person) -> Look:
    """Milliseconds of processor time, SQLite's included, and queries of pages that were looked at before, by what they
    are called here. They take turns, so that whatever else this machine does meets them alike."""
    client = Client()
    client.force_login(owner)

    def get(address: str) -> float:
        began = time.thread_time()
        answer = client.get(address)
        took = (time.thread_time() - began) * 1000
        assert answer.status_code == 200, address
        return took

    def look(addresses: dict[Any, str], rounds: int = 30) -> dict[Any, tuple[float, int]]:
        queries = {}
        for name, address in addresses.items():
            get(address)
            with CaptureQueriesContext(connection) as captured:
                get(address)
            queries[name] = len(captured)
        found = {name: [get(address)] for name, address in addresses.items()}
        for _round in range(rounds):
            for name, address in addresses.items():
                found[name].append(get(address))
        return {name: (min(took), queries[name]) for name, took in found.items()}

    return look


# --- Upload -----------------------------------------------------------------------------------------------------------


def test_upload_against_the_bare_reading_of_the_same_file(figures, environment, owner):
    """Medians, for what somebody waits for is not the least of several."""
    authority = pki.make_authority("Partner CA")
    client = Client()
    client.force_login(owner)
    rows = []
    kinds = (
        ("RSA 2048, 2,048 rounds (OpenSSL, Windows)", "rsa-2048", 2048, 41),
        ("EC P-256, 2,048 rounds", "ec-p256", 2048, 41),
        ("RSA 2048, 600,000 rounds (NSS, GnuTLS)", "rsa-2048", 600_000, 7),
    )
    for words, key, rounds, turns in kinds:
        identity = pki.issue("invoicing", authority=authority, key=key)
        file = file_with(identity, rounds)
        address = environment.url("certificate-new")
        names = iter(range(10_000))
        drafts: list[str] = []

        def upload(file: bytes = file, address: str = address, drafts: list[str] = drafts) -> None:
            sent = {"file": SimpleUploadedFile("bank.pfx", file), "password": "secret"}
            answer = client.post(address, sent)
            assert answer.status_code == 302
            drafts.append(answer.headers["Location"])

        def confirm(words: str = words, names: Iterator[int] = names, drafts: list[str] = drafts) -> None:
            answer = client.post(drafts.pop(), {"name": f"{words} {next(names)}"})
            assert answer.status_code == 302

        with CaptureQueriesContext(connection) as captured:
            upload()
            confirm()
            queries = sum(1 for query in captured if not query["sql"].startswith(("SAVEPOINT", "RELEASE")))
        reading = (
            lambda f=file: load_pkcs12(f, b"secret"),
            lambda f=file: pkcs12.read(f, "secret"),
            lambda f=file: read_in_child(f, "secret"),
            upload,
            confirm,
        )
        spans = [[least(work, 1) for work in reading] for _turn in range(turns)]
        bare, own, child, whole, row = (statistics.median(found) for found in zip(*spans, strict=True))
        rows.append(
            (words, ms(bare), ms(own), times(own / bare), ms(child), ms(whole), ms(whole - bare), ms(row), str(queries))
        )
    head = (
        *("one file", "the library's `load_pkcs12`", "our reader", "ratio", "in a child", "upload and preview's draft"),
        *("more than the library", "confirmed, to the row", "queries"),
    )
    figures.add("Upload", head, rows)


def file_with(issued: pki.Issued, rounds: int) -> bytes:
    algorithm = PrivateFormat.PKCS12.encryption_builder().key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
    sealed = algorithm.kdf_rounds(rounds).hmac_hash(SHA256()).build(b"secret")
    return serialize_key_and_certificates(b"client", issued.key, issued.certificate, list(issued.chain), sealed)


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_the_pages_of_an_environment_with_10_1000_and_10000_certificates(figures, application, owner, look):
    places = {}
    for count in (10, 50, 1000, 10_000):
        places[count] = environments.create_environment(application=application, name=f"With {count}", by=owner)
        crowd.fill(places[count], count)
    rows = []
    for words, name in (
        ("Overview", "environment"),
        ("Network, first page", "network"),
        ("Rollouts", "rollouts"),
        ("Settings", "environment-settings"),
    ):
        counts = [count for count in places if count != 50 or name == "network"]
        found = look({count: places[count].url(name) for count in counts})
        for count, (took, queries) in found.items():
            rows.append((words, f"{count:,}", str(queries), ms(took), times(took / found[10][0])))
    address = places[10_000].url("network")
    found = look({"first": address, "last": f"{address}?page=200&pins=200"})
    took, queries = found["last"]
    rows.append(
        ("Network, last page", "10,000", str(queries), ms(took), f"{times(took / found['first'][0])} the first")
    )
    client = Client()
    client.force_login(owner)
    for count, environment in places.items():
        url = environment.url("environment")
        cold = least(lambda url=url: client.get(url), 5, before=Comparison.objects.all().delete)
        rows.append(("Overview, first look after a change", f"{count:,}", "", ms(cold), ""))
    figures.add("Pages of an environment", ("page", "certificates", "queries", "time", "against 10"), rows)


def test_lists_and_search_at_10000_and_100000(figures, owner, look):
    rows = []
    total = 0
    for target in (10_000, 100_000):
        while total < target:
            made = environments.create_application(name=f"App {total}", by=owner)
            crowd.fill(environments.create_environment(application=made, name="Live", by=owner), 10_000)
            total += 10_000
        environment = Environment.objects.order_by("created_at")[0]
        one = environment.certificates.get(position=77).in_use
        colons = ":".join(re.findall("..", one.serial.zfill(32)))
        everywhere = {
            "All certificates, first page": "",
            "All certificates, last page": f"?page={target // 50}",
            "search for a word that a few have": "?q=mutual-777.",
            "search for a word that nobody has": "?q=nothing-like-it",
            "search for a word that all have": "?q=example.com",
            "search for a fingerprint": f"?q={one.sha256}",
            "search for a serial number with colons": f"?q={colons}",
        }
        addresses = {words: f"/certificates/{query}" for words, query in everywhere.items()}
        addresses["in one environment of 10,000: a word that a few have"] = (
            f"{environment.url('network')}?q=mutual-777."
        )
        addresses["in one environment of 10,000: a word that nobody has"] = f"{environment.url('network')}?q=no-such"
        addresses["home page"] = "/"
        for words, (took, queries) in look(addresses, 5).items():
            rows.append((words, f"{target:,}", str(queries), ms(took)))
    figures.add("Lists and search", ("what", "certificates in all", "queries", "time"), rows)


def test_the_home_page_and_every_filter_at_100_and_100000(figures, owner, look):
    """The same ten environments, one of them production, five of six certificates pinned; issuers, keys, ends and
    warnings as they are mixed in life."""
    made = environments.create_application(name="Invoicing", by=owner)
    places = [
        environments.create_environment(application=made, name=f"Place {n}", production=n == 0, by=owner)
        for n in range(10)
    ]
    week = datetime.now(UTC) + timedelta(days=17)
    asked = {
        "home page": "/",
        "Needs you, all": "/needs/",
        "All certificates": "/certificates/",
        "by name": "/certificates/?sort=name",
        "by application": "/certificates/?sort=application",
        "of one issuer": "/certificates/?issuer=Partner+Issuing+CA+7",
        "of issuers with a word": "/certificates/?issuer=issuing+ca+1",
        "with one kind of key": "/certificates/?key=EC+P-256",
        "expired": "/certificates/?expiry=expired",
        "within 30 days": "/certificates/?expiry=30",
        "of one week": f"/certificates/?from={week:%Y-%m-%d}&to={week + timedelta(days=6):%Y-%m-%d}&state=enabled",
        "in one environment": "/certificates/?in=invoicing/place-3",
        "production only": "/certificates/?production=1",
        "not pinned": "/certificates/?unpinned=1",
        "weak": "/certificates/?weak=1",
        "tracked only": "/certificates/?tracked=1",
        "disabled": "/certificates/?state=disabled",
        "several filters": "/certificates/?key=RSA+2048&expiry=90&production=1&state=enabled",
        "several filters and a word that all have": "/certificates/?key=RSA+2048&expiry=90&q=example.com",
    }
    found = {}
    for total in (100, 100_000):
        for place in places:
            each = total // len(places)
            missing = each - place.certificates.count()
            crowd.fill(place, missing, pins=missing * 5 // 6)
            crowd.mix(place)
        found[total] = look(asked, 5)
    rows = []
    for words in asked:
        (few, queries), (many, more) = found[100][words], found[100_000][words]
        rows.append((words, str(queries), str(more), ms(few), ms(many), times(many / few)))
    head = ("what", "queries at 100", "queries at 100,000", "time at 100", "time at 100,000", "ratio")
    figures.add("Home page and filters", head, rows)


def test_one_look_at_what_expires_at_100_and_100000(figures, owner, settings):
    """Every tenth environment's people are told; of 61 certificates, one has expired and one ends in 20 days."""
    settings.MAILS = False
    made = [environments.create_application(name=f"Application {n}", by=owner) for n in range(10)]
    places = [environments.create_environment(application=one, name="Production", by=owner) for one in made]
    for application in made:
        actions_of_notices.add_mail(
            application=application, title="Mail", to_people=False, addresses="team@example.com", weekly=False,
            rollouts=False, by=owner,
        )  # fmt: skip
    found = {}
    for total in (100, 100_000):
        for place in places:
            crowd.fill(place, total // len(places) - place.certificates.count())
            crowd.mix(place)
        found[total] = _looks()
    rows = []
    for words in ("the first look", "telling what it found", "the next look", "what speaks against renewals"):
        (few, small), (many, large) = found[100][words], found[100_000][words]
        rows.append((words, ms(few), ms(many), times(many / few), f"{small:.1f} MB", f"{large:.1f} MB"))
    head = ("what", "at 100", "at 100,000", "ratio", "memory at its most, at 100", "at 100,000")
    figures.add("Looking at what expires", head, rows)


def _looks() -> dict[str, tuple[float, float]]:
    """Milliseconds, and the megabytes that were held at once, of each part of a look."""
    now = timezone.now()
    look = watching.begin_anew(now)

    def forget() -> None:
        Crossing.objects.all().delete()
        Message.objects.all().delete()

    def anew() -> None:
        forget()
        watching.look(look, now)

    parts: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "the first look": (lambda: watching.look(look, now), forget),
        "telling what it found": (lambda: telling.tell(now), anew),
        "the next look": (lambda: watching.look(look, now), lambda: None),
        "what speaks against renewals": (lambda: watching.look_ahead(now), lambda: None),
    }
    measured = {}
    for words, (work, before) in parts.items():
        took = least(work, 3, before)
        before()
        tracemalloc.start()
        work()
        measured[words] = took, tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return measured


def test_ten_thousand_questions_to_ten_thousand_pins(figures):
    slots = tuple(Slot(f"certificate-{n}", f"{n:064x}") for n in range(100))
    pins = tuple(PinnedTarget("host", f"host-{n}.example.com", f"certificate-{n % 100}") for n in range(10_000))
    content = Content("mendix", "10.12.3", "modern", "/srv", slots, pins)
    asked = [f"https://HOST-{n * 2}.example.com:443/v1" for n in range(10_000)]
    keys = [interpret(text).key for text in asked]
    selector = Selector(content)
    building = least(lambda: Selector(content))
    reading = least(lambda: [interpret(text) for text in asked], 3)
    answering = least(lambda: [selector.select(key) for key in keys])
    head = ("pins", "questions", "building the index", "reading the addresses", "answering")
    figures.add("Lookup", head, [("10,000", "10,000", ms(building), ms(reading), ms(answering))])


# --- Export -----------------------------------------------------------------------------------------------------------


def test_export_of_200_against_writing_and_reading_200_files(figures, environment, owner, monkeypatch):
    # The same rounds on both sides, and few: with 50,000 they take 40 ms a file, and their swings hide the rest.
    monkeypatch.setattr(pkcs12, "WRITTEN_ROUNDS", 1000)
    authority = pki.make_authority("Partner CA")
    number = 200
    identities = [pkcs12.read(pki.pfx(pki.issue(f"c{n}", authority=authority), "x"), "x") for n in range(number)]
    for n, identity in enumerate(identities):
        certificates.add(environment=environment, name=f"Certificate {n}", identity=identity, by=owner)

    def raw() -> None:
        for n, identity in enumerate(identities):
            password = pkcs12.new_password()
            pkcs12.read(pkcs12.write(identity, password=password, friendly_name=f"c{n}"), password)

    content = replace(current.content(environment), base_folder="/srv/app/certificates")

    def export() -> None:
        versions = actions.wanted_versions(environment)
        exported = unseal.export(content, versions, exporter="mendix-settings", trusted={}, reason="bench", by=owner)
        assert exported.files

    with CaptureQueriesContext(connection) as captured:
        export()
    # In turns and by the processor's time, so that whatever else this machine does meets both alike.
    spans = [(processor(raw), processor(export)) for _time in range(9)]
    bare, whole = (min(found) for found in zip(*spans, strict=True))
    events = sum(1 for query in captured if "INSERT INTO" in query["sql"] and "audit_event" in query["sql"])
    row = (
        f"{number} certificates, 1,000 rounds",
        ms(bare),
        ms(whole),
        times(whole / bare),
        ms((whole - bare) / number),
    )
    head = (
        "one export",
        "writing and reading alone",
        "export",
        "ratio",
        "more, for each file",
        "queries",
        "of which audit events",
    )
    rows = [(*row, str(len(captured)), str(events))]
    figures.add("Export", head, rows)

    files = unseal.written(actions.wanted_versions(environment), one_password=True, reason="bench", by=owner)
    forms = []
    for kind in exporters.EXPORTERS:
        # Linux starts no program with a variable that holds more.
        fits = 50 if kind == "buildpack-env" else number
        some = replace(content, slots=content.slots[:fits])
        given = {slot.slug: files[slot.slug] for slot in some.slots}
        spent = least(lambda: exporters.export(kind, some, given), 3)  # noqa: B023
        forms.append((kind, str(fits), ms(spent), ms(spent / fits)))
    figures.add("Forms of an export", ("export", "certificates", "its files from written PFX", "for each"), forms)


# --- The running product ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, float, float]]:
    """The product with how long it took to be ready: the first time, and from then on."""
    product = Product(tmp_path_factory.mktemp("bench") / "data")
    first = product.start()
    product.stop()
    again = min(start_again(product) for _time in range(3))
    product.start()
    yield product, first, again
    product.stop()


def start_again(product: Product) -> float:
    took = product.start()
    product.stop()
    return took


NEW_PASSWORD = "staple battery horse correct 7"


def test_from_the_click_on_apply_to_the_app(figures, started):
    product = started[0]
    visitor = Visitor(product.address)
    first = visitor.sign_in("owner", product.password)
    visitor.change_password(first, product.password, NEW_PASSWORD)
    new = visitor.look("/apps/new/")
    visitor.send(new, new.form("name"), {"name": "Invoicing"})
    new = visitor.look("/apps/invoicing/new/")
    visitor.send(new, new.form("place"), {"name": "Test", "place": "sandbox-app-1"})
    home = "/apps/invoicing/test/"
    database = sqlite3.connect(f"file:{product.data}/countersign.sqlite3?mode=ro", uri=True, timeout=10)
    spans: dict[str, list[float]] = {"answer": [], "begun": [], "delivering": [], "stop": [], "verified": []}
    for number in range(7):
        settings = visitor.look(f"{home}settings/")
        visitor.send(settings, settings.form("runtime_version"), {"runtime_version": f"10.{number}"})
        page = visitor.look(f"{home}apply/")
        clicked = time.time()
        follow = visitor.send(page, page.form("reason"), {"reason": "bench"})
        spans["answer"].append(time.time() - clicked)
        key = follow.path.rstrip("/").rpartition("/")[2].replace("-", "")
        deadline = time.monotonic() + 90
        while True:
            row = database.execute("SELECT state, finished_at FROM rollouts_rollout WHERE id = ?", [key]).fetchone()
            if row and row[1]:
                break
            assert time.monotonic() < deadline, row
            time.sleep(0.05)
        assert row[0] == "verified"
        steps = database.execute("SELECT state, started_at FROM rollouts_step WHERE rollout_id = ? ORDER BY id", [key])
        begun: dict[str, float] = {}
        for state, at in steps:
            begun.setdefault(state, moment(at) - clicked)
        spans["begun"].append(min(begun.values()))
        spans["delivering"].append(begun["delivering"])
        log = (product.data / "apps/sandbox-app-1/platform-log.jsonl").read_text().splitlines()
        stops = [moment(line["time"]) for line in map(json.loads, log) if line["call"] == "stop"]
        spans["stop"].append(stops[-1] - clicked)
        spans["verified"].append(moment(row[1]) - clicked)
    words = {
        "answer": "the browser has its answer",
        "begun": "a worker has begun",
        "delivering": "the connector is called to deliver",
        "stop": "the app's host is told to stop it",
        "verified": "the app runs with it, and that is proved",
    }
    rows = [(words[name], ms(min(found) * 1000), ms(sorted(found)[3] * 1000)) for name, found in spans.items()]
    figures.add("From click to app", ("after the click on Apply, until", "least of 7", "median"), rows)


def moment(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


KINDS = (
    ("web server, first process", ("gunicorn",)),
    ("worker", ("celery", "worker")),
    ("clock", ("celery", "beat")),
    ("sandbox partner", ("sandbox.partner",)),
    ("sandbox app", ("sandbox.app",)),
    ("manage.py run", ("manage.py", "run")),
)


def test_ready_time_and_idle_memory_of_all_processes(figures, started):
    product, first, again = started
    time.sleep(5)
    found: dict[str, list[float]] = {}
    for pid in product.processes():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = next((name for name, words in KINDS if all(word in line for word in words)), line[:60])
            if name == "web server, first process" and f"/{product.data.name}" and _parent_is_like(pid, "gunicorn"):
                name = "web server, each process that answers"
            if name == "worker" and _parent_is_like(pid, "celery"):
                name = "worker, each process that works"
            found.setdefault(name, []).append(_own_memory(pid))
    rows = [("ready, the first time (keys, database, first owner)", "", f"{first:.1f} s")]
    rows.append(("ready, every other time", "", f"{again:.1f} s"))
    for name, sizes in sorted(found.items()):
        rows.append((f"memory: {name}", str(len(sizes)), f"{max(sizes):.0f} MB each"))
    rows.append(("memory of all", str(sum(map(len, found.values()))), f"{sum(map(sum, found.values())):.0f} MB"))
    figures.add("The whole product", ("what", "processes", "figure"), rows)


def _own_memory(pid: int) -> float:
    """Its proportional share (PSS) in MB: what is shared with others counts in parts."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) / 1000  # type: ignore[index]


def _parent_is_like(pid: int, word: str) -> bool:
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    with contextlib.suppress(OSError):
        return (
            word.encode() in Path(f"/proc/{parent}/cmdline").read_bytes()
            and b"manage.py" not in Path(f"/proc/{parent}/cmdline").read_bytes()
        )
    return False
