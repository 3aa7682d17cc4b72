"""`python -m tests.year.simulate FOLDER HOURS`: five hundred certificates for a year, in steps of so many hours, with
outages of the watcher, the mail server, a team's service and the broker. Prints what was crossed and what arrived.

Worker and clock are the product's own, in processes of their own, over a real broker; mail goes to a real SMTP server,
and the service is a real listener. Only the time is moved.
"""

from __future__ import annotations

import collections
import email
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from tests import ports, services

START = datetime(2027, 1, 4, 1, 0, tzinfo=UTC)
DAYS = 365
APPLICATIONS, CERTIFICATES = 5, 500
# (first day, last day) of each outage; that of the broker is short, since the broker is really stopped.
OUTAGES = {"watcher": (60, 80), "mail": (120, 125), "service": (150, 153), "broker": (200, 203)}


class Postbox:
    def __init__(self) -> None:
        self.received: list[str] = []
        self.port = ports.free_port()
        self.controller: Controller | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.received.append(str(email.message_from_bytes(envelope.content)["Message-ID"]))
        return "250 OK"

    def up(self) -> None:
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def down(self) -> None:
        assert self.controller
        self.controller.stop()


class Team(http.server.BaseHTTPRequestHandler):
    received: list[str] = []
    answers = 200

    def do_POST(self) -> None:
        body, answers = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), Team.answers
        if answers == 200:
            Team.received.append(f"{body['title']}\n{body['message'].strip()}")
        self.send_response(answers)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


class Year:
    def __init__(self, folder: Path, hours: int) -> None:
        self.folder, self.step = folder, timedelta(hours=hours)
        self.postbox, self.broker = Postbox(), services.Valkey()
        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Team)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.looks: list[datetime] = []
        self.broker_is_up = True

    def set_time(self, now: datetime) -> None:
        aside = self.folder / "time.aside"
        aside.write_text(now.isoformat())
        aside.rename(self.folder / "time")
        self.now = now

    def open(self) -> None:
        self.set_time(START)
        self.postbox.up()
        self.broker.__enter__()
        threading.Thread(target=self.listener.serve_forever, args=[0.05], daemon=True).start()
        os.environ |= {
            "COUNTERSIGN_DATA": str(self.folder / "data"),
            "COUNTERSIGN_BROKER_URL": self.broker.url,
            "COUNTERSIGN_MAIL_URL": f"smtp://127.0.0.1:{self.postbox.port}?tls=none",
            "COUNTERSIGN_MAIL_FROM": "portal@example.com",
            "YEAR_WORLD": str(self.folder),
            "YEAR_RECEIVER": f"team.example.com:{self.listener.server_port}",
            "DJANGO_SETTINGS_MODULE": "tests.year.settings",
        }
        import django

        django.setup()
        self.build()
        for name in ("worker", "beat"):
            self.start(name)

    def start(self, name: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen([sys.executable, "-m", "tests.year.process", name], stderr=log)

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()

    def close(self) -> None:
        for name in list(self.processes):
            self.end(name)
        self.listener.shutdown()
        self.broker.__exit__()

    # --- What is watched ---

    def build(self) -> None:
        from django.conf import settings
        from django.core.management import call_command

        from certificates.models import ClientCertificate, Version
        from environments import actions as environments
        from environments.models import Environment, Person
        from notices import actions
        from tests import crowd
        from vault.keyrings import local

        call_command("migrate", verbosity=0)
        local.generate(Path(settings.VAULT_KEYRING["path"]))
        owner = Person.objects.create_user("grace", email="grace@example.com", is_superuser=True)
        chance = random.Random(7)
        for number in range(APPLICATIONS):
            application = environments.create_application(name=f"App {number}", by=owner)
            crowd.fill(
                environments.create_environment(application=application, name="Production", by=owner),
                CERTIFICATES // APPLICATIONS,
            )
        # The last one's team reads a service, too, and has few certificates, since each message is a process.
        quiet = Environment.objects.get(application__name=f"App {APPLICATIONS - 1}")
        actions.add_mail(
            application=quiet.application, title="Mail", to_people=True, addresses="", weekly=True, rollouts=False,
            by=owner,
        )  # fmt: skip
        actions.add_service(
            application=quiet.application, title="Team", weekly=False, rollouts=False, by=owner,
            address=f"json://{os.environ['YEAR_RECEIVER']}/team",
        )  # fmt: skip
        for certificate in ClientCertificate.objects.select_related("in_use"):
            life = timedelta(days=chance.choice([6, 30, 90, 365, 730, 1095]))
            spread = 420 if certificate.environment_id != quiet.pk or certificate.position % 4 == 0 else 3000
            version = certificate.in_use
            assert version
            version.not_after = START + timedelta(days=chance.uniform(3, spread))
            version.not_before = version.not_after - life
            version.chain = []
            version.save()
            certificate.save(update_fields=["in_use"])
        assert Version.objects.count() == CERTIFICATES

    def renew_some(self) -> None:
        """Most are renewed some days before they end; some too late, and some never."""
        from certificates.models import ClientCertificate, Version

        for certificate in ClientCertificate.objects.filter(expires_at__lt=self.now + timedelta(days=4)).select_related(
            "in_use"
        ):
            if certificate.position % 5 == 0 or (certificate.position % 5 == 1 and certificate.expires_at > self.now):
                continue
            old = certificate.in_use
            assert old
            fields = {
                field.name: getattr(old, field.name)
                for field in Version._meta.concrete_fields
                if field.name not in ("id", "sealed", "number", "sha256", "not_before", "not_after", "created_at")
            }
            life = max(old.not_after - old.not_before, timedelta(days=30))
            version = Version.objects.create(
                **fields, number=old.number + 1, sha256=f"{old.number + 1}{old.sha256[1:]}", not_before=self.now,
                not_after=self.now + life,
            )  # fmt: skip
            certificate.in_use = version
            certificate.save(update_fields=["in_use"])
            self.lives[old.pk][1] = self.looks[-1]
            self.lives[version.pk] = [self.now, None]

    # --- The year ---

    def run(self) -> dict[str, Any]:
        from certificates.models import Version

        self.lives: dict[Any, list[datetime | None]] = {
            pk: [START, None] for pk in Version.objects.values_list("pk", flat=True)
        }
        now = START
        while now < START + timedelta(days=DAYS):
            # While nothing is under way: a server that breaks off in the middle of a mail leaves open who has it.
            self.now = now
            self.outages()
            self.set_time(now)
            watched = "worker" in self.processes and self.in_outage("broker") is False
            if watched:
                self.until_looked(now)
                if not any(self.in_outage(name) for name in OUTAGES):
                    self.renew_some()
                self.until_nobody_sends()
            now += self.step
        self.until_sent()
        return self.report()

    def in_outage(self, name: str) -> bool:
        first, last = OUTAGES[name]
        return timedelta(days=first) <= self.now - START < timedelta(days=last)

    def outages(self) -> None:
        away = {name: self.in_outage(name) for name in OUTAGES}
        if away["watcher"] == ("worker" in self.processes):
            self.end("worker") if away["watcher"] else self.start("worker")
        if away["mail"] == (self.postbox.controller is not None):
            if away["mail"]:
                self.postbox.down()
                self.postbox.controller = None
            else:
                self.postbox.up()
        Team.answers = 503 if away["service"] else 200
        if away["broker"] == self.broker_is_up:
            self.broker.stop() if away["broker"] else self.broker.start()
            self.broker_is_up = not away["broker"]

    def until_looked(self, now: datetime) -> None:
        from notices.models import Watch
        from notices.watching import due_at

        self._until(lambda: Watch.objects.filter(due_at=due_at(now), ended_at__isnull=False).exists(), "a look")
        self.looks.append(now)
        if not any(self.in_outage(name) for name in ("mail", "service")):
            self.until_sent()

    def until_sent(self) -> None:
        from notices.models import Message

        waits = Message.objects.filter(state__in=("waiting", "sending"))
        # What waits for another try is due at a later time than this step's.
        self._until(lambda: not waits.filter(next_try_at__lte=self.now).exists(), "messages to be sent")

    def until_nobody_sends(self) -> None:
        """Whoever is in the middle of it would be taken for dead when the clock jumps."""
        from notices.models import Message

        self._until(lambda: not Message.objects.filter(state="sending").exists(), "end of sending")

    def _until(self, there: Any, what: str) -> None:
        deadline = time.monotonic() + 60
        while not there():
            assert time.monotonic() < deadline, f"no {what} at {self.now}: {self.tail()}"
            time.sleep(0.02)

    def tail(self) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text()[-2000:] for name in ("worker", "beat"))

    # --- What came of it ---

    def report(self) -> dict[str, Any]:
        from certificates.models import Version
        from notices.models import Crossing, Message, Told

        expected = {
            (str(version.pk), name)
            for version in Version.objects.all()
            for name, moment in by_hand(version.not_before, version.not_after)
            if self.was_seen(version, moment)
        }
        told = collections.Counter(
            (str(subject), threshold, str(channel))
            for subject, threshold, channel in Told.objects.values_list(
                "crossing__subject", "crossing__threshold", "channel"
            )
        )
        channels = {
            str(version): [str(pk) for pk in application.channels.filter(removed_at=None).values_list("pk", flat=True)]
            for version, application in (
                (v.pk, v.certificate.environment.application)
                for v in Version.objects.select_related("certificate__environment__application")
            )
        }
        wanted = {(subject, name, channel) for subject, name in expected for channel in channels[subject]}
        arrived = collections.Counter(self.postbox.received)
        mails = Message.objects.filter(channel__kind="mail", state="sent")
        by_mail = {f"<{pk}@example.com>" for pk in mails.values_list("pk", flat=True)}
        notices = Message.objects.filter(channel__kind="service", state="sent", kind="notice")
        by_service = collections.Counter(Team.received)
        said = collections.Counter(f"{title}\n{text.strip()}" for title, text in notices.values_list("title", "text"))
        thresholds = collections.Counter(name for _subject, name in expected)
        return {
            "looks": len(self.looks),
            "versions": Version.objects.count(),
            "expected": len(wanted),
            "thresholds": thresholds,
            "crossings": Crossing.objects.count(),
            "missed": sorted(wanted - set(told))[:5],
            "repeated": [key for key, count in told.items() if count > 1][:5],
            "unexpected": sorted(set(told) - wanted)[:5],
            "unsent": Message.objects.exclude(state="sent").count(),
            "mails": sum(arrived.values()),
            "mails twice": [key for key, count in arrived.items() if count > 1],
            "mails lost": sorted(by_mail - set(arrived))[:5],
            "mails unknown": sorted(set(arrived) - by_mail)[:5],
            "services": sum(by_service.values()),
            "services wrong": sorted(((by_service - said) + (said - by_service)).elements())[:5],
            "digests": Message.objects.filter(kind="digest").count(),
            "tried again": Message.objects.filter(tries__gt=1).count(),
        }

    def was_seen(self, version: Any, moment: datetime) -> bool:
        """Whether there was a look at or after that moment while the version was in use."""
        since, until = self.lives[version.pk]
        last = until or self.looks[-1]
        return (
            moment <= last
            and since is not None
            and any(since <= look <= last and look >= moment for look in self.looks)
        )


def by_hand(begins: datetime, ends: datetime) -> list[tuple[str, datetime]]:
    """The rule once more, in other words than the product's: a third of the life or sixty days, two thirds of that, a
    week, a day, the end; only what comes later than the one before."""
    first = min((ends - begins).total_seconds() / 3, 60 * 86400.0)
    named = [("first", first), ("second", first * 2 / 3), ("week", 7 * 86400.0), ("day", 86400.0), ("ended", 0.0)]
    kept: list[tuple[str, datetime]] = []
    least = float("inf")
    for name, seconds in named:
        if seconds < least:
            least = seconds
            kept.append((name, ends - timedelta(seconds=seconds)))
    return kept


def main(folder: Path, hours: int) -> None:
    year = Year(folder, hours)
    year.open()
    try:
        print(json.dumps(year.run()))
    finally:
        year.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
