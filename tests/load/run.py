"""`make load`: fifty people for five minutes on each set-up, and what became of what they did.

    python -m tests.load.run [--people 50] [--minutes 5] [--on files] [--on servers] [--keep FOLDER]

Starts the whole product out of a folder of its own, with apps for twenty environments, and Locust beside it; then
waits for the last rollout, and compares what people were told with rows, audit log and apps. Exit 1 for an error, a
lost update, a locked database or a rollout without an end.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests import pki, ports, services
from tests.journeys.product import PROJECT, Product

TITLES = {"files": "SQLite, files", "servers": "PostgreSQL, Valkey, S3"}
PASSWORD = "a long sentence that nobody guesses"
TEAM = 10
"""People who share two environments."""
OWN_APPS = 10
"""People whose own environment runs somewhere, too; the others' are for export."""
RAMP_UP = 1.0
"""People who come in a second: each costs a third of a second of hashing."""

# Run by `manage.py shell` in the product's own settings.
PREPARE = """
import json
from django.contrib.auth.hashers import make_password
from audit.actors import PORTAL
from environments import actions
from environments.models import Person
from rollouts import actions as rollouts
wanted = json.loads(%r)
hashed = make_password(wanted["password"])
people = {}
for who in wanted["people"]:
    people[who["name"]] = Person.objects.create(username=who["name"], password=hashed)
for app, environments in wanted["applications"].items():
    application = actions.create_application(name=app, by=PORTAL)
    for name, place in environments["places"].items():
        environment = actions.create_environment(application=application, name=name, by=PORTAL)
        if place:
            rollouts.use_place(environment=environment, place=place, by=PORTAL)
    for member in environments["members"]:
        actions.add_member(application=application, person=people[member], role="owner", by=PORTAL)
"""
TRUTH = """
import json
from audit.models import Event
from certificates.models import ClientCertificate, Pin
from environments.models import Environment
from rollouts.models import Destination, Rollout
from rollouts.states import FINAL
where = {e.pk: e.get_absolute_url() for e in Environment.objects.select_related("application")}
print("TRUTH" + json.dumps({
    "events": [[e.actor, e.action] for e in Event.objects.filter(refused=False)],
    "certificates": [
        [where[c.environment_id], c.name, c.contact, c.versions.count(), c.removed_at is not None, c.position]
        for c in ClientCertificate.objects.prefetch_related("versions")
    ],
    "pins": [[where[p.environment_id], p.key, p.certificate.name if p.certificate else None]
             for p in Pin.objects.select_related("certificate")],
    "environments": {where[e.pk]: e.runtime_version for e in Environment.objects.all()},
    "rollouts": {str(r.pk): [r.kind, r.state, r.state in FINAL, r.revision.digest if r.revision else "", r.failure]
                 for r in Rollout.objects.select_related("revision")},
    "places": {d.place: [d.wanted_running, d.observed_status, d.bundle.digest if d.bundle else ""]
               for d in Destination.objects.select_related("bundle")},
}))
"""


class Loaded(Product):
    """With places for many apps, and perhaps with servers."""

    def __init__(self, data: Path, variables: dict[str, str]) -> None:
        super().__init__(data)
        self.places = data.parent / "places.json"
        self.variables = variables | {"COUNTERSIGN_PLACES": str(self.places)}
        self.ports = ports.free_ports(20)
        app = [sys.executable, str(PROJECT / "tests/contracts/tiny_app.py")]
        self.places.write_text(
            json.dumps(
                {
                    f"place-{number}": {
                        "title": f"App {number}",
                        "argv": [*app, str(port), "--configuration", "{configuration}", "--behaviour", "/dev/null/no"],
                        "status_url": f"http://127.0.0.1:{port}/status",
                    }
                    for number, port in enumerate(self.ports, start=1)
                }
            )
        )

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | self.variables

    def manage(self, program: str) -> str:
        ran = subprocess.run(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", program],
            cwd=PROJECT, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise RuntimeError(ran.stdout + ran.stderr)
        return ran.stdout


# --- What is prepared -------------------------------------------------------------------------------------------------


def plan(number_of_people: int) -> dict[str, Any]:
    """Who works where: `people` for Locust, `applications` for the database."""
    names = [f"person{number:02}" for number in range(1, number_of_people + 1)]
    applications: dict[str, Any] = {}
    people, running, places = [], [], iter(f"place-{number}" for number in range(1, 21))
    teams = [names[i : i + TEAM] for i in range(0, len(names), TEAM)]
    for number, team in enumerate(teams, start=1):
        shared = {"Test": next(places), "Acceptance": next(places)}
        applications[f"Team {number}"] = {"places": shared, "members": team}
        running += [f"/apps/team-{number}/{name.lower()}/" for name in shared]
    for number, name in enumerate(names):
        team = number // TEAM + 1
        own = next(places, "") if number % (len(names) / OWN_APPS or 1) < 1 else ""
        applications[f"Of {name}"] = {"places": {"Test": own}, "members": [name]}
        people.append(
            {
                "name": name,
                "password": PASSWORD,
                "own": f"/apps/of-{name}/test/",
                "shared": [f"/apps/team-{team}/test/", f"/apps/team-{team}/acceptance/"],
            }
        )
        running += [f"/apps/of-{name}/test/"] if own else []
    return {"password": PASSWORD, "people": people, "applications": applications, "running": running}


def write_files(folder: Path, count: int = 60) -> None:
    """The .pfx files that are uploaded: RSA and EC in turn, each with its partner's chain."""
    authority = pki.make_authority("Partner CA", authority=pki.make_authority("Partner Root"))
    for number in range(count):
        kind = "rsa-2048" if number % 2 else "ec-p256"
        issued = pki.issue(f"client{number}.example", authority=authority, key=kind)
        (folder / f"client-{number:02}.pfx").write_bytes(pki.pfx(issued, "secret"))


# --- What is measured -------------------------------------------------------------------------------------------------


class Memory(threading.Thread):
    """Resident memory of every process of the product, in MiB by its part, every few seconds; and the CPU that each
    took, which says more than times do where the machine has other work, too."""

    def __init__(self, product: Product) -> None:
        super().__init__(daemon=True)
        self.product = product
        self.enough = threading.Event()
        self.samples: list[tuple[float, dict[str, float]]] = []
        self.cpu: dict[str, dict[int, float]] = collections.defaultdict(dict)
        self.load: list[float] = []

    def run(self) -> None:
        began = time.monotonic()
        while not self.enough.wait(5):
            self.samples.append((time.monotonic() - began, self.now()))
            self.load.append(os.getloadavg()[0])

    def now(self) -> dict[str, float]:
        found: dict[str, float] = collections.defaultdict(float)
        for pid in self.product.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                status = Path(f"/proc/{pid}/status").read_text()
                ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            except OSError:
                continue
            kilobytes = re.search(r"VmRSS:\s+(\d+)", status)
            if kilobytes:
                found[_part(words)] += int(kilobytes[1]) / 1024
                self.cpu[_part(words)][pid] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return dict(found)

    def table(self) -> list[str]:
        """At the beginning (once all are in), in the middle and at the end."""
        if len(self.samples) < 3:
            return ["too few samples"]
        length = self.samples[-1][0]
        columns = [min(self.samples, key=lambda s: abs(s[0] - at)) for at in (length * 0.2, length * 0.6, length)]
        lines = [f"{'memory, MiB':28}" + "".join(f"{at:>9.0f} s" for at, _parts in columns) + f"{'CPU, s':>11}"]
        for part in sorted({name for _at, parts in columns for name in parts}):
            values = [*(parts.get(part, 0) for _at, parts in columns), sum(self.cpu[part].values())]
            lines.append(f"{part:28}" + "".join(f"{value:>11.1f}" for value in values))
        # Those who wait for a core, of this product and of everything else on the machine.
        lines.append(f"Load of the machine: {statistics.mean(self.load):.0f} for {os.cpu_count()} cores.")
        return lines


def _part(words: str) -> str:
    for word, name in (
        ("gunicorn", "web server (3)"),
        (" beat ", "clock"),
        ("celery", "worker (3)"),
        ("tiny_app", "apps"),
        ("sandbox.", "sandbox"),
        ("manage.py run", "supervisor"),
    ):
        if word in words:
            return name
    return "other"


def figures(folder: Path) -> list[str]:
    lines = [f"{'':24}{'requests':>9}{'errors':>8}{'p50':>8}{'p95':>8}{'p99':>8}  ms"]
    with (folder / "locust_stats.csv").open() as rows:
        for row in csv.DictReader(rows):
            values = (row["50%"], row["95%"], row["99%"])
            name = row["Name"] if row["Type"] != "WATCH" else "a rollout, to its end"
            lines.append(
                f"{name[:24]:24}{row['Request Count']:>9}{row['Failure Count']:>8}" + "".join(f"{v:>8}" for v in values)
            )
    return lines


def failures(folder: Path) -> list[str]:
    with (folder / "locust_failures.csv").open() as rows:
        return [f"{row['Occurrences']} × {row['Method']} {row['Name']}: {row['Error']}" for row in csv.DictReader(rows)]


# --- What became of it ------------------------------------------------------------------------------------------------


def lost(deeds: list[dict[str, Any]], truth: dict[str, Any]) -> list[str]:
    """What people were told that they did, and is not there; and what is there twice."""
    found = []
    told = collections.Counter((d["who"], d["do"]) for d in deeds if "who" in d)
    recorded = collections.Counter((who, action) for who, action in truth["events"])
    for (who, action), times in sorted(told.items()):
        if action != "unknown" and not 0 <= recorded[who, action] - times <= told[who, "unknown"]:
            found.append(f"{who} was told {times} × {action}, the audit log has {recorded[who, action]}")
    rows = {(where, name): rest for where, name, *rest in truth["certificates"]}
    contacts: dict[tuple[str, str], str] = {}
    versions: collections.Counter[tuple[str, str]] = collections.Counter()
    removed, pinned = set(), {}
    settings: dict[str, str] = {}
    for deed in deeds:
        key = (deed.get("where", ""), deed.get("name", ""))
        match deed["do"]:
            case "certificate.added" | "certificate.renewed":
                versions[key] += 1
            case "certificate.described":
                contacts[key] = deed["contact"]
            case "certificate.removed":
                removed.add(key)
            case "pin.added":
                pinned[deed["where"], deed["target"]] = deed["name"]
            case "pin.removed":
                pinned.pop((deed["where"], deed["target"]), None)
            case "environment.changed":
                settings[deed["where"]] = deed["runtime_version"]
            case "rollout.requested":
                row = truth["rollouts"].get(deed["rollout"])
                if row is None or (deed["shown"] and row[3] != deed["shown"]):
                    found.append(f"the rollout {deed['rollout']} is not there, or is not what was shown")
    for key, count in versions.items():
        row = rows.get(key)
        if row is None or row[1] != count or row[2] != (key in removed) or row[0] != contacts.get(key, row[0]):
            found.append(f"certificate {key}: {count} versions, contact {contacts.get(key)}, but there is {row}")
    there = {(where, target): name for where, target, name in truth["pins"]}
    if there != pinned:
        found.append(f"pins differ: {sorted(set(there.items()) ^ set(pinned.items()))[:6]}")
    for where, version in settings.items():
        if truth["environments"][where] != version:
            found.append(f"{where} has runtime version {truth['environments'][where]}, not {version}")
    places = collections.defaultdict(list)
    for where, _name, _contact, _versions, gone, position in truth["certificates"]:
        if not gone:
            places[where].append(position)
    for where, positions in places.items():
        if sorted(positions) != list(range(1, len(positions) + 1)):
            found.append(f"the order in {where} is {sorted(positions)}")
    return found


def astray(product: Loaded, truth: dict[str, Any]) -> list[str]:
    """Apps that do not do what the rows say, by the app's own word."""
    found = []
    for place, (wanted, _observed, digest) in truth["places"].items():
        port = product.ports[int(place.removeprefix("place-")) - 1]
        try:
            status = product.get(f"http://127.0.0.1:{port}/status")
        except OSError:
            status = {}
        if wanted != (status.get("status") == "running"):
            found.append(f"{place} should {'run' if wanted else 'be stopped'} and says {status}")
        elif wanted and digest and status["digest"] != digest:
            found.append(f"{place} runs {status['digest'][:8]}, the rows say {digest[:8]}")
    return found


def complaints(logs: Path) -> list[str]:
    """Lines of the product's logs that say that something went wrong, each kind once, with its number."""
    kinds: collections.Counter[str] = collections.Counter()
    for file in sorted(logs.glob("*.log")):
        for line in file.read_text(errors="replace").splitlines():
            # What a page would have kept for the next one, and did not wait for, is no complaint.
            if "was not kept" not in line and re.search(
                r"database is locked|Traceback|\bERROR\b|\bCRITICAL\b|Error:|deadlock|\s5\d\d \d+ ", line
            ):
                kinds[f"{file.name}: {re.sub('[0-9a-f-]{8,}|[0-9]+', '#', line)[:200]}"] += 1
    return [f"{count} × {kind}" for kind, count in kinds.most_common(20)]


# --- One run ----------------------------------------------------------------------------------------------------------


def load(setup: str, people: int, minutes: float, folder: Path) -> bool:
    """Whether everything was as it must be. Prints the figures."""
    with contextlib.ExitStack() as stack:
        variables: dict[str, str] = {}
        if setup == "servers":
            variables = {
                "DATABASE_URL": stack.enter_context(services.postgresql()),
                "COUNTERSIGN_BROKER_URL": stack.enter_context(services.valkey()),
            } | stack.enter_context(services.s3())
        product = Loaded(folder / "data", variables)
        stack.callback(product.stop)
        print(f"\n== {TITLES[setup]}: {people} people, {minutes:g} minutes; ready after {product.start():.1f} s")
        wanted = plan(people)
        product.manage(PREPARE % json.dumps(wanted))
        (folder / "plan.json").write_text(json.dumps(wanted | {"address": product.address}))
        write_files(folder)
        (folder / "deeds.jsonl").touch()
        memory = Memory(product)
        memory.start()
        with (folder / "locust.log").open("w") as log:
            subprocess.run(
                [
                    sys.executable, "-m", "locust", "-f", str(PROJECT / "tests/load/locustfile.py"), "--headless",
                    "--users", str(people), "--spawn-rate", str(RAMP_UP), "--run-time",
                    f"{minutes * 60 + people / RAMP_UP:.0f}s", "--stop-timeout", "150", "--only-summary",
                    "--csv", str(folder / "locust"), "--exit-code-on-error", "0",
                ],
                cwd=PROJECT, stdout=log, stderr=log, check=True,
                env=os.environ | {"COUNTERSIGN_LOAD_FOLDER": str(folder), "PYTHONPATH": str(PROJECT)},
            )  # fmt: skip
        memory.enough.set()
        truth = settled(product)
        return told(folder, product, memory, truth)


def settled(product: Loaded) -> dict[str, Any]:
    """What is there once every rollout has ended, or after two minutes."""
    deadline = time.monotonic() + 120
    while True:
        said = product.manage(TRUTH)
        truth: dict[str, Any] = json.loads(said[said.index("TRUTH") + 5 :])
        if all(final for _kind, _state, final, *_rest in truth["rollouts"].values()) or time.monotonic() > deadline:
            return truth
        time.sleep(2)


def told(folder: Path, product: Loaded, memory: Memory, truth: dict[str, Any]) -> bool:
    deeds = [json.loads(line) for line in (folder / "deeds.jsonl").read_text().splitlines()]
    refused = collections.Counter(d["sentence"] for d in deeds if d["do"] == "refused")
    open_ended = [pk for pk, row in truth["rollouts"].items() if not row[2]]
    states = collections.Counter(f"{row[0]} {row[1]}" for row in truth["rollouts"].values())
    reasons = collections.Counter(row[4] for row in truth["rollouts"].values() if row[4])
    wrong = {
        "Errors": failures(folder),
        "Lost updates": lost(deeds, truth),
        "Rollouts without an end": open_ended,
        "Apps astray": astray(product, truth),
        "In the logs": complaints(product.data / "logs"),
    }
    print("\n".join(figures(folder)))
    print("\n".join(memory.table()))
    print(f"Deeds: {len(deeds)}. Rollouts: {', '.join(f'{n} {s}' for s, n in states.most_common())}.")
    for reason, count in reasons.most_common(5):
        print(f"  {count} × {reason}")
    print(
        "Refused as several people at once must expect: "
        + (", ".join(f"{n} × {s}" for s, n in refused.items()) or "none")
    )
    for what, found in wrong.items():
        print(f"{what}: {len(found) or 'none'}")
        for line in found[:12]:
            print(f"  {line}")
    return not any(wrong.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Fifty people for five minutes on each set-up.")
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--on", action="append", choices=list(TITLES), help="only there; may be given twice")
    parser.add_argument("--keep", type=Path, help="a folder that is kept, with logs and figures")
    options = parser.parse_args()
    # Asked to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    good = True
    for setup in options.on or TITLES:
        folder = (options.keep or Path(tempfile.mkdtemp(prefix="countersign-load-"))) / setup
        folder.mkdir(parents=True)
        try:
            good = load(setup, options.people, options.minutes, folder) and good
        finally:
            if not options.keep:
                shutil.rmtree(folder.parent, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
