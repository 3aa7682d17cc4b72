"""What release 0.1.0 leaves behind: its tables, its sealed files, and the folders and processes of its apps.

Written from that release's migrations, formats and folder layout, and kept as it is for ever: rows go in through
historical models, and nothing of the application is asked for but the vault's envelope, whose format has frozen vectors
of its own (tests/vault/test_frozen_vectors.py). The next release gets a file like this one beside it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests import pki

# The last migration of each app, and the SHA-256 of its file: a released migration is never changed.
LEAVES = {
    "audit": "0001_initial",
    "certificates": "0001_initial",
    "environments": "0001_initial",
    "rollouts": "0001_initial",
    "vault": "0001_initial",
}
DIGESTS = {
    "audit": "6260a76096ea7bb1e0e15422f56439128b9548df15155b1351f2fc959cff2a25",
    "certificates": "8e1e6f77a86a8b5bc806750bc466ca5dfbe293476d29382fe6d81a1812845cfc",
    "environments": "7fc1669ea199684169b36ef6777e89710fa64c0593e4f60c7aa5748def9ee37b",
    "rollouts": "989f7e59e0efc41dd2f22a469d331ccb5b5fd3ff93c6259553f1572866709826",
    "vault": "c9c45c6df9dc30bcf7cdcbd763bc4295cb0f8663e09277f51b25ad8d672315db",
}
# Those of what it was built on.
FOUNDATION = {"contenttypes": "0002_remove_content_type_name", "auth": "0012_alter_user_first_name_max_length"}
FOUNDATION |= {"sessions": "0001_initial"}

PERSON, PASSWORD = "grace", "correct horse battery staple"


@dataclass(frozen=True)
class InFlight:
    """Where a rollout was when the worker of that release stopped, and how things stood on its app's machine.

    `delivered`: the new files lie there. `app`: what runs, "old" or "new" by the files that it read, or "".
    """

    state: str
    ends: str
    delivered: bool = False
    app: str = "old"
    phase: str = ""
    kind: str = "apply"

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.kind, self.state.replace("_", " "), self.phase)))


# Every state of 0.1.0 in which a rollout was active, and every phase of its going back.
IN_FLIGHT = (
    InFlight("requested", "verified"),
    InFlight("exporting", "verified"),
    InFlight("checking", "verified"),
    InFlight("delivering", "verified"),
    InFlight("stopping", "verified", delivered=True),
    InFlight("starting", "verified", delivered=True, app=""),
    InFlight("verifying", "verified", delivered=True, app="new"),
    InFlight("rolling_back", "rolled_back", delivered=True, app="new", phase="deliver"),
    InFlight("rolling_back", "rolled_back", app="new", phase="stop"),
    InFlight("rolling_back", "rolled_back", app="", phase="start"),
    InFlight("rolling_back", "rolled_back", app="old", phase="verify"),
    InFlight("stopping", "verified", kind="stop"),
    InFlight("starting", "verified", app="", kind="start"),
    InFlight("requested", "verified", kind="restart"),
)


# --- The app's machine ------------------------------------------------------------------------------------------------


class App:
    """An app as that release's local-process connector kept it: versions/<digest>/, current, previous, process.json."""

    def __init__(self, folder: Path, argv: list[str]) -> None:
        self.folder, self.argv = folder, argv
        (folder / "versions").mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        (folder / "lock").touch(mode=0o600)

    def deliver(self, files: dict[str, bytes]) -> None:
        version = self.folder / "versions" / digest_of(files)
        if not version.exists():
            for path, content in files.items():
                place = version / path
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.touch(mode=0o600)
                place.write_bytes(content)
            for folder in (version, *(p for p in version.rglob("*") if p.is_dir())):
                folder.chmod(0o700)
        current = self.folder / "current"
        if current.is_symlink():
            (self.folder / "previous").unlink(missing_ok=True)
            (self.folder / "previous").symlink_to(current.readlink())
            current.unlink()
        current.symlink_to(Path("versions", version.name))

    def start(self) -> str:
        """Returns its incarnation: pid and kernel start time."""
        with (self.folder / "app.log").open("ab") as log:
            process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        line = Path(f"/proc/{process.pid}/stat").read_text()
        start_time = int(line.rpartition(")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record = {
            "pid": process.pid,
            "start_time": start_time,
            "boot": boot,
            "started_at": datetime.now(UTC).isoformat(),
        }
        (self.folder / "process.json").write_text(json.dumps(record))
        (self.folder / "process.json").chmod(0o600)
        self.process = process
        return f"{process.pid}-{start_time}"


def digest_of(files: dict[str, bytes]) -> str:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# --- The tables -------------------------------------------------------------------------------------------------------


@dataclass
class Filled:
    """What was put where, for the test to look for. Keys are the names of `IN_FLIGHT`."""

    rollouts: dict[str, Any] = field(default_factory=dict)
    environments: dict[str, Any] = field(default_factory=dict)
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)
    secret: bytes = b""


class Filler:
    """Fills an empty database of that release. `apps`: its historical models. `places`: in-flight name -> place."""

    def __init__(self, apps: Any, places: dict[str, str], machines: dict[str, App]) -> None:
        self.model = apps.get_model
        self.places, self.machines = places, machines
        self.now = datetime.now(UTC)
        self.partner = pki.make_authority("Partner CA")
        self.filled = Filled()

    def fill(self) -> Filled:
        from django.contrib.auth.hashers import make_password

        person = self.model("environments", "Person").objects.create(
            username=PERSON,
            password=make_password(PASSWORD),
            first_name="Grace",
            last_name="Hopper",
            is_superuser=True,
            is_staff=True,
            last_login=self.now,
        )
        self.application = self.model("environments", "Application").objects.create(
            name="Invoicing", slug="invoicing", created_by="Grace Hopper"
        )
        self.model("environments", "Membership").objects.create(
            person=person, application=self.application, role="owner", created_by="Grace Hopper"
        )
        self.event("application.created", "Invoicing", "application", self.application.pk)
        for position, one in enumerate(IN_FLIGHT):
            self.in_flight(one, position)
        self.history(len(IN_FLIGHT))
        self.model("rollouts", "Pulse").objects.create(name="worker", at=self.now)
        return self.filled

    def in_flight(self, one: InFlight, position: int) -> None:
        place = self.places[one.name]
        app = self.machines[place]
        environment = self.environment(one.name, position, str(app.folder / "current"))
        first, second, old, new = self.two_revisions(environment)
        self.filled.environments[one.name] = environment.pk
        self.filled.old[one.name], self.filled.new[one.name] = digest_of(old), digest_of(new)

        app.deliver(old)
        running = app.start() if one.app == "old" else ""
        if one.app == "new" or one.delivered:
            app.deliver(new)
        if one.app == "new":
            running = app.start()
            wait_for(app)
        if one.app == "old":
            wait_for(app)
        if not one.delivered and one.state == "rolling_back":
            app.deliver(old)

        first_bundle = self.bundle(environment, first, old)
        changes = one.kind == "apply"
        written = changes and one.state not in ("requested", "exporting")
        destination = self.model("rollouts", "Destination").objects.create(
            environment=environment,
            connector="local-process",
            exporter="mendix-settings",
            place=place,
            running=first,
            bundle=first_bundle,
            proof="reported",
            proved_at=self.now - timedelta(days=1),
            wanted_running=one.kind != "start",
            observed_at=self.now,
            observed_status="running" if running else "stopped",
            observed_incarnation=running,
            observed_digest=digest_of(old),
        )
        # What ran before this rollout, where the app was started by it.
        earlier = running if one.app == "old" and one.phase != "verify" else "1-1"
        rollout = self.model("rollouts", "Rollout").objects.create(
            environment=environment,
            kind=one.kind,
            state=one.state,
            state_since=self.now - timedelta(seconds=10),
            revision=second if changes else first,
            bundle=self.bundle(environment, second, new) if written else None if changes else first_bundle,
            previous=first,
            previous_bundle=first_bundle if changes else None,
            start_after=one.kind != "stop",
            reason="an upgrade in between",
            ticket="OPS-7",
            requested_by="Grace Hopper",
            created_at=self.now - timedelta(seconds=30),
            failure="The app did not come up." if one.phase else "",
            incarnation_before=earlier if one.state in ("stopping", "starting", "verifying", "rolling_back") else "",
            incarnation_back="1-1" if one.phase in ("start", "verify") else running if one.phase == "stop" else "",
            phase=one.phase,
            stopped_at=self.now - timedelta(seconds=12) if one.app != "old" else None,
            fence=3,
            # Held by the worker of that release, which has gone.
            lease_until=self.now - timedelta(seconds=1),
        )
        step = self.model("rollouts", "Step").objects
        step.create(
            rollout=rollout, state="requested", fence=1, text="Asked for", outcome="ok", ended_at=self.now, result=""
        )
        if one.state not in ("requested",):
            # The intent of a call whose outcome nobody wrote down.
            step.create(rollout=rollout, state=one.state, fence=3, text=UNDER_WAY[one.state])
        self.filled.rollouts[one.name] = rollout.pk
        self.event("rollout.requested", f"{environment.name}: {one.kind}", "rollout", rollout.pk, environment)
        assert destination.pk == environment.pk

    def history(self, position: int) -> None:
        """An environment with one rollout of each end, and one that waits."""
        environment = self.environment("History", position, "/srv/app")
        first, second, old, _new = self.two_revisions(environment)
        bundle = self.bundle(environment, first, old)
        for days, state in enumerate(("verified", "refused", "rolled_back", "needs_help", "cancelled", "waiting")):
            at = self.now - timedelta(days=days + 1)
            over = state != "waiting"
            self.filled.finished[state] = (
                self.model("rollouts", "Rollout")
                .objects.create(
                    environment=environment,
                    kind="apply",
                    state=state,
                    state_since=at if over else self.now,
                    revision=second,
                    bundle=bundle,
                    previous=first,
                    reason="history",
                    requested_by="Grace Hopper",
                    created_at=at,
                    finished_at=at if over else None,
                    failure="It was refused." if state in ("refused", "rolled_back") else "",
                    sentence=f"It ended {state.replace('_', ' ')}." if over else "",
                    proof="reported" if state == "verified" else "",
                )
                .pk
            )
        self.filled.environments["History"] = environment.pk

    def environment(self, name: str, position: int, base_folder: str) -> Any:
        environment = self.model("environments", "Environment").objects.create(
            application=self.application,
            name=name,
            slug=name.lower().replace(" ", "-"),
            position=position,
            base_folder=base_folder,
            runtime="mendix",
            created_by="Grace Hopper",
        )
        self.event("environment.created", f"Invoicing / {name}", "environment", environment.pk, environment)
        return environment

    def two_revisions(self, environment: Any) -> tuple[Any, Any, dict[str, bytes], dict[str, bytes]]:
        """A certificate, and the revisions without and with a pin of it; the second is what the pages want."""
        issued = pki.issue("bank client", authority=self.partner)
        packed = json.dumps(
            {
                "format": 1,
                "key": base64.b64encode(issued.key_der).decode(),
                "certificate": base64.b64encode(issued.certificate_der).decode(),
                "chain": [base64.b64encode(one).decode() for one in issued.chain_der],
                "friendly_name": "bank client",
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        self.filled.secret = packed
        certificate = self.model("certificates", "ClientCertificate").objects.create(
            environment=environment,
            name="Bank payments",
            slug="bank-payments",
            position=1,
            contact="Joe at the bank",
            created_by="Grace Hopper",
        )
        leaf = issued.certificate
        links = [hashlib.sha256(one).hexdigest() for one in issued.chain_der]
        version = self.model("certificates", "Version").objects.create(
            certificate=certificate,
            number=1,
            sealed=self.sealed(environment, "identity", packed),
            file_name="bank.pfx",
            friendly_name="bank client",
            subject=leaf.subject.rfc4514_string(),
            common_name="bank client",
            issuer=leaf.issuer.rfc4514_string(),
            issuer_common_name="Partner CA",
            serial=f"{leaf.serial_number:x}",
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            sha1=hashlib.sha1(issued.certificate_der).hexdigest(),
            sha256=hashlib.sha256(issued.certificate_der).hexdigest(),
            spki_sha256="0" * 64,
            key_kind="EC P-256",
            key_bits=256,
            signature="ecdsa-with-SHA256",
            names=["bank.example"],
            usages=["clientAuth"],
            chain=[
                {
                    "subject": one.subject.rfc4514_string(),
                    "issuer": one.issuer.rfc4514_string(),
                    "sha256": link,
                    "not_after": one.not_valid_after_utc.isoformat(),
                    "self_signed": one.subject == one.issuer,
                }
                for one, link in zip(issued.chain, links, strict=True)
            ],
            created_by="Grace Hopper",
        )
        certificate.in_use = version
        certificate.save()
        self.model("certificates", "Pin").objects.create(
            environment=environment,
            kind="host",
            key="api.bank.example",
            certificate=certificate,
            note="ask Joe",
            created_by="Grace Hopper",
        )
        slot = {"slug": "bank-payments", "sha256": version.sha256, "chain": links}
        pin = {"kind": "host", "key": "api.bank.example", "slug": "bank-payments"}
        revisions = []
        for number, pins in ((1, []), (2, [pin])):
            content = json.dumps(
                {
                    "format": 1,
                    "runtime": "mendix",
                    "runtime_version": "",
                    "profile": "",
                    "base_folder": environment.base_folder,
                    "slots": [slot],
                    "pins": pins,
                    "authorities": [],
                },
                sort_keys=True,
                separators=(",", ":"),
                ensure_ascii=False,
            )
            revision = self.model("rollouts", "Revision").objects.create(
                environment=environment,
                number=number,
                content=content,
                digest=hashlib.sha256(content.encode()).hexdigest(),
                reason="first" if number == 1 else "pin it",
                created_by="Grace Hopper",
            )
            self.model("rollouts", "RevisionEntry").objects.create(
                revision=revision, slug="bank-payments", version=version, position=1
            )
            revisions.append(revision)
        pfx = pki.pfx(issued, "secret")
        settings = {"ClientCertificates": f"{environment.base_folder}/certificates/01-bank-payments.pfx"}
        old = {"certificates/01-bank-payments.pfx": pfx, "custom-settings.json": json.dumps(settings).encode()}
        new = {**old, "custom-settings.json": json.dumps({**settings, "ClientCertificateUsages": "…"}).encode()}
        return revisions[0], revisions[1], old, new

    def bundle(self, environment: Any, revision: Any, files: dict[str, bytes]) -> Any:
        packed = json.dumps(
            {
                "format": 1,
                "files": [
                    {"path": path, "content": base64.b64encode(content).decode(), "secret": True}
                    for path, content in files.items()
                ],
            },
            separators=(",", ":"),
        ).encode()
        return self.model("rollouts", "Bundle").objects.create(
            environment=environment,
            revision=revision,
            exporter="mendix-settings",
            sealed=self.sealed(environment, "bundle", packed),
            digest=digest_of(files),
            files=len(files),
        )

    def sealed(self, environment: Any, what: str, plaintext: bytes) -> Any:
        """A row and its file, in the envelope's format 1."""
        from django.conf import settings
        from django.core.files.base import ContentFile
        from django.core.files.storage import storages

        from vault import envelope
        from vault.keyrings.local import LocalKeyring

        keyring = LocalKeyring.from_options({"path": settings.VAULT_KEYRING["path"]})
        self.model("vault", "KeyCheck").objects.get_or_create(
            key_id=keyring.active_id, defaults={"check_value": keyring.check_value(keyring.active_id)}
        )
        number = uuid4()
        context = envelope.Context("vault.SealedObject", number, environment.pk, what, 1)
        sealed = envelope.seal(plaintext, context=context, keyring=keyring)
        return self.model("vault", "SealedObject").objects.create(
            id=number,
            storage_name=storages["vault"].save(f"{number}.sealed", ContentFile(sealed.ciphertext)),
            header=sealed.header,
            environment_id=environment.pk,
            field=what,
            version=1,
            size=len(sealed.ciphertext),
        )

    def event(self, action: str, subject: str, kind: str, number: Any, environment: Any = None) -> None:
        columns = {
            "action": action,
            "actor": "Grace Hopper",
            "actor_kind": "person",
            "actor_id": "1",
            "subject": subject,
            "subject_kind": kind,
            "subject_id": str(number),
            "application_id": str(self.application.pk),
            "environment_id": str(environment.pk) if environment else "",
            "refused": False,
        }
        body = {"format": 1, "at": self.now.isoformat(), "address": "192.0.2.7", **columns, "details": {"reason": "x"}}
        self.model("audit", "Event").objects.create(
            at=self.now,
            body=json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
            **columns,
        )


UNDER_WAY = {
    "exporting": "Write revision 2 for mendix-settings",
    "checking": "Ask the platform",
    "delivering": "Deliver 2 files",
    "stopping": "Stop the app",
    "starting": "Start the app",
    "verifying": "Watch the app",
    "rolling_back": "Deliver what ran before",
}


def wait_for(app: App) -> None:
    """Until it has read its files: they are about to be switched under it."""
    port = int(app.argv[2])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/status")
            if connection.getresponse().status == 200:
                return
        except OSError:
            assert app.process.poll() is None, (app.folder / "app.log").read_text()
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError("the app did not come up")
