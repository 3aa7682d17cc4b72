"""Fifty people who do everything at once. Started by tests/load/run.py, which tells each who they are.

Each has an environment of their own and shares two with the rest of a team. What a person was told that they did is
written down as a deed, in the words of the audit log; run.py compares the deeds with what is there in the end. A
refusal that several people at once must expect is no failure; any other one is.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any

import gevent
from locust import HttpUser, between, events, task
from locust.exception import StopUser

from tests.load.person import Page, Person

FOLDER = Path(os.environ["COUNTERSIGN_LOAD_FOLDER"])
PLAN: dict[str, Any] = json.loads((FOLDER / "plan.json").read_text())
FILES = [path.read_bytes() for path in sorted(FOLDER.glob("*.pfx"))]
PEOPLE = iter(PLAN["people"])
ROLLOUT_LIMIT = 120.0

# What somebody is told whom another was quicker than.
EXPECTED = re.compile(
    "Something is already being applied|Somebody changed something meanwhile|Nothing has changed since"
    "|start it instead|is running already|is stopped|[Oo]ther files are being read|There is nothing to"
    # One of a few files was chosen that this certificate has had already.
    "|which is already here"
)
# Who is told this is led to the rollout of somebody who was quicker.
ANOTHERS = re.compile(
    "Something is already being applied|start it instead|is running already"
    "|Nothing has changed since|Somebody changed something meanwhile"
)
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def write_down(**deed: Any) -> None:
    with (FOLDER / "deeds.jsonl").open("a") as deeds:
        deeds.write(json.dumps(deed) + "\n")


class Counted(Person):
    """Locust counts each request, and each answer that nobody should get, with its sentence."""

    name = ""

    def _page(self, method: str, address: str, name: str | None, **more: Any) -> Page:
        with self.session.request(method, address, name=name, timeout=60, catch_response=True, **more) as answer:
            written = answer.headers and answer.headers.get("Content-Type", "").startswith("text/html")
            text = (answer.text or "") if written else (answer.content or b"")[:2].decode("latin-1")
            page = Page(answer.url or address, answer.status_code, text)
            if page.status == 422 and (sentence := EXPECTED.search(page.text)):
                write_down(do="refused", sentence=sentence[0])
                answer.success()
            elif page.status == 0 or page.status >= 400:
                if page.status == 0 and method == "POST":
                    # No answer came; what was asked for may have been done all the same.
                    write_down(do="unknown", who=self.name)
                answer.failure(f"{page.status} {answer.error or self._sentence(page)}")
        return page

    @staticmethod
    def _sentence(page: Page) -> str:
        told = re.findall(r'(?s)class="(?:errors?|notice bad)"[^>]*>(.*?)</', page.text)
        return " ".join(re.sub("<[^>]+>", " ", " ".join(told) or page.said[-300:]).split())[:300]


class Operator(HttpUser):
    wait_time = between(2, 6)
    host = PLAN["address"]

    def on_start(self) -> None:
        who = next(PEOPLE, None)
        if who is None:
            raise StopUser
        self.name, self.password = who["name"], who["password"]
        self.own, self.shared = who["own"], who["shared"]
        self.person = Counted(self.host, self.client)
        self.person.name = self.name
        self.number = 0
        # What this person made and can change again, by environment: address -> name, or target and name.
        self.certificates: dict[str, dict[str, str]] = {where: {} for where in [self.own, *self.shared]}
        self.pins: dict[str, dict[str, tuple[str, str]]] = {where: {} for where in [self.own, *self.shared]}
        self.come_in()

    def come_in(self) -> None:
        page = self.person.sign_in(self.name, self.password)
        if page.path == "/":
            self.did("person.signed-in")

    def did(self, what: str, **more: Any) -> None:
        write_down(who=self.name, do=what, **more)

    def somewhere(self) -> str:
        return random.choice([self.own, *self.shared])

    def new_name(self) -> str:
        self.number += 1
        return f"{self.name} {self.number}"

    # --- Looking ---

    @task(12)
    def look_around(self) -> None:
        where = self.somewhere()
        self.person.look("/", "home")
        self.person.look(where, "environment")
        self.person.look(f"{where}network/", "network")
        page = random.choice(["changes/", "rollouts/", "export/", "settings/", "chips/", "network/certificates.csv"])
        self.person.look(where + page, page)

    @task(3)
    def look_at_a_certificate(self) -> None:
        page = self.person.look(f"{self.somewhere()}network/", "network")
        if found := page.links(rf"/apps/[^\"]*/certificates/{UUID}/"):
            self.person.look(random.choice(found), "certificate")

    @task(1)
    def look_into_the_audit_log(self) -> None:
        self.person.look("/audit/", "audit log")

    @task(1)
    def search(self) -> None:
        self.person.look(f"{self.somewhere()}network/?q={self.name}", "network?q=")

    # --- Certificates and pins ---

    @task(4)
    def upload(self) -> None:
        where, name = self.somewhere(), self.new_name()
        preview = self.read_a_file(f"{where}network/certificates/new/", "upload")
        if preview is None:
            return
        added = self.person.send(preview, preview.form("name"), {"name": name}, name="confirm upload")
        if not added.path.endswith("/network/"):
            return
        self.did("certificate.added", where=where, name=name)
        found = self.person.look(f"{where}network/?q={name}", "network?q=")
        for link in found.links(rf"/apps/[^\"]*/certificates/{UUID}/"):
            if re.search(rf'href="{link}"><b[^>]*>{name}</b>', found.text):
                self.certificates[where][link] = name

    @task(1)
    def renew(self) -> None:
        where = self.somewhere()
        if not self.certificates[where]:
            return
        link, name = random.choice(list(self.certificates[where].items()))
        preview = self.read_a_file(f"{link}renew/", "renew")
        if preview is None:
            return
        done = self.person.send(preview, preview.form("use"), {"use": "now"}, name="confirm renewal")
        if done.path == link:
            self.did("certificate.renewed", where=where, name=name)

    def read_a_file(self, address: str, name: str) -> Page | None:
        """The preview; None where it could not be read now (other files are being read) or is here already."""
        page = self.person.look(address, f"{name} form")
        file = random.choice(FILES)
        files = {"file": ("client.pfx", file, "application/x-pkcs12")}
        page = self.person.send(page, page.form("file"), {"password": "secret"}, files=files, name=name)
        return page if page.status == 200 and "/drafts/" in page.path else None

    @task(4)
    def pin(self) -> None:
        where, host = self.somewhere(), f"{self.new_name().replace(' ', '-')}.example.com"
        if not self.certificates[where]:
            return
        link, name = random.choice(list(self.certificates[where].items()))
        page = self.person.look(f"{where}network/pins/new/?certificate={link.split('/')[-2]}", "pin form")
        page = self.person.send(page, page.form("target"), {"target": host}, name="pin")
        # The link of its own row: the page's message names the host as well, above all rows.
        row = re.search(rf'href="(/apps/[^"]*/pins/{UUID}/)"[^>]*>[^<]*<span[^>]*> {re.escape(host)}<', page.text)
        if page.status == 200 and row:
            self.did("pin.added", where=where, target=host, name=name)
            self.pins[where][row[1]] = (host, name)

    @task(1)
    def unpin(self) -> None:
        where = self.somewhere()
        if not self.pins[where]:
            return
        link, (host, _name) = random.choice(list(self.pins[where].items()))
        page = self.person.look(f"{link}remove/", "unpin form")
        page = self.person.send(page, page.form(action="remove/"), name="unpin")
        if page.status == 200:
            self.did("pin.removed", where=where, target=host)
            del self.pins[where][link]

    @task(2)
    def describe(self) -> None:
        where = self.somewhere()
        if not self.certificates[where]:
            return
        link, name = random.choice(list(self.certificates[where].items()))
        contact = f"{self.new_name()} at the bank"
        page = self.person.look(f"{link}rename/", "describe form")
        page = self.person.send(page, page.form("contact"), {"contact": contact}, name="describe")
        if page.path == link:
            self.did("certificate.described", where=where, name=name, contact=contact)

    @task(1)
    def move(self) -> None:
        where = self.somewhere()
        if len(self.certificates[where]) < 2:
            return
        link = random.choice(list(self.certificates[where]))
        page = self.person.look(f"{where}network/", "network")
        try:
            arrow = page.form(action=f"{link}move/")
        except LookupError:
            return
        self.person.send(page, arrow, {"to": str(random.randint(1, 5))}, name="move")

    @task(1)
    def remove(self) -> None:
        where = self.somewhere()
        pinned = {name for _host, name in self.pins[where].values()}
        free = [(link, name) for link, name in self.certificates[where].items() if name not in pinned]
        if len(self.certificates[where]) < 3 or not free:
            return
        link, name = random.choice(free)
        page = self.person.look(f"{link}remove/", "remove form")
        page = self.person.send(page, page.form(action="remove/"), name="remove")
        if page.path.endswith("/network/"):
            del self.certificates[where][link]
            self.did("certificate.removed", where=where, name=name)

    # --- The app ---

    def somewhere_that_runs(self) -> str:
        return random.choice([self.own, *self.shared] if self.own in PLAN["running"] else self.shared)

    @task(3)
    def apply(self) -> None:
        where = self.somewhere_that_runs()
        page = self.person.look(f"{where}apply/", "apply form")
        try:
            form = page.form("shown", "reason")
        except LookupError:
            return  # nothing to apply, or somebody applies: then it is their rollout's page
        page = self.person.send(page, form, {"reason": self.new_name()}, name="apply")
        self.watch(where, page, form.values["shown"])

    @task(1)
    def stop_and_start(self) -> None:
        where = self.somewhere_that_runs()
        for kind in ("stop", "start"):
            page = self.person.look(f"{where}ask/{kind}/", f"{kind} form")
            page = self.person.send(page, page.form("reason"), {"reason": self.new_name()}, name=kind)
            if not self.watch(where, page):
                return

    def watch(self, where: str, page: Page, shown: str = "") -> bool:
        """Follows a rollout to its end; whether it was this person's own."""
        found = re.fullmatch(rf"{where}rollouts/({UUID})/", page.path)
        if not found:
            return False
        others = ANOTHERS.search(page.text)
        if not others:
            self.did("rollout.requested", where=where, rollout=found[1], shown=shown)
        began = time.monotonic()
        while "hx-get" in page.text:
            gevent.sleep(1)
            page = self.person.look(f"{where}rollouts/{found[1]}/live/", "rollout, live")
            if page.status not in (200, 286):
                return False
            if time.monotonic() - began > ROLLOUT_LIMIT:
                events.request.fire(
                    request_type="WATCH", name="rollout", response_time=0, response_length=0,
                    exception=TimeoutError(f"a rollout did not end in {ROLLOUT_LIMIT:.0f} s"),
                )  # fmt: skip
                return False
        if not others:
            took = (time.monotonic() - began) * 1000
            events.request.fire(request_type="WATCH", name="rollout", response_time=took, response_length=0)
        return not others

    # --- The rest ---

    @task(1)
    def export(self) -> None:
        if not self.certificates[self.own]:
            return
        page = self.person.look(f"{self.own}export/?exporter=buildpack-env", "export form")
        typed = {"reason": "load", "password": self.password, "exporter": "buildpack-env"}
        done = self.person.send(page, page.form("reason", "password"), typed, name="export")
        if done.status == 200 and done.text.startswith("PK"):
            self.did("export.downloaded", where=self.own)

    @task(1)
    def change_settings(self) -> None:
        version = f"10.{random.randint(1, 20)}.{self.number}"
        self.number += 1
        page = self.person.look(f"{self.own}settings/", "settings/")
        page = self.person.send(page, page.form("runtime_version"), {"runtime_version": version}, name="settings")
        if page.status == 200:
            self.did("environment.changed", where=self.own, runtime_version=version)

    @task(1)
    def go_and_come_back(self) -> None:
        page = self.person.look("/", "home")
        self.person.send(page, page.form(action="/sign-out/"), name="sign out")
        self.did("person.signed-out")
        gevent.sleep(1)
        self.come_in()
