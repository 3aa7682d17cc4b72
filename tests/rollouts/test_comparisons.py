"""What pages count once and keep is never shown when it is not true any more, whoever wrote and however."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates import actions as certificates
from certificates import current, pkcs12, serials
from certificates.content import Content
from certificates.identities import Identity
from certificates.importing import Listed, Plan, Wish
from certificates.intake import Upload
from certificates.models import ClientCertificate, Comparison, Draft, Incident, Pin, Serial, UploadLink, Version
from certificates.renewals import behind
from environments import actions as environments
from environments.models import Environment, Person
from rollouts import actions, comparisons
from rollouts.models import Destination, Revision, Rollout
from rollouts.standing import standing
from tests import crowd, pki
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)

SHOWN = [f.name for f in Comparison._meta.concrete_fields if f.name not in ("serial", "counted_at", "named")]


def shown(environment: Environment) -> tuple[dict[str, Any], set[tuple[Any, ...]]]:
    """What a page says now, from what is kept where that is believed."""
    stand = standing(Environment.objects.get(pk=environment.pk))
    said = {name: getattr(stand.marked, name) for name in SHOWN}
    return said, set(stand.named(Person(pk=0)))


def counted_anew(environment: Environment) -> tuple[dict[str, Any], set[tuple[Any, ...]]]:
    Comparison.objects.all().delete()
    return shown(environment)


# --- Whatever is done here --------------------------------------------------------------------------------------------


class World:
    """An environment with something of everything, in which each action can be done once."""

    def __init__(self, environment: Environment, owner: Person, add_certificate: Any, apply: Any, run: Any) -> None:
        self.environment, self.by, self.add, self.apply, self.run = environment, owner, add_certificate, apply, run
        self.server_ca = pki.make_authority("Server CA").certificate_pem
        self.bank, self.tax, self.spare = add_certificate("Bank"), add_certificate("Tax"), add_certificate("Spare")
        self.pinned = self.pin("bank.example.com", self.bank)
        self.apply()
        self.pin("new.example.com", self.tax)
        self.apply()
        self.add("Later")

    def pin(self, text: str, certificate: ClientCertificate | None) -> Pin:
        target = certificates.read_target(environment=self.environment, text=text)
        return certificates.pin(environment=self.environment, target=target, certificate=certificate, by=self.by)

    def identity(self, name: str = "Renewed") -> Identity:
        return pkcs12.read(self.file(name), "secret")

    def file(self, name: str) -> bytes:
        return pki.pfx(pki.issue(name, authority=pki.make_authority("Partner CA")), "secret")

    def kept(self, certificate: ClientCertificate | None = None) -> Any:
        return certificates.keep_draft(
            environment=self.environment, certificate=certificate, files=[Upload("draft.pfx", self.file("Draft"))],
            session_key="s", by=self.by,
        )  # fmt: skip

    def read(self, certificate: ClientCertificate | None = None) -> Any:
        return certificates.read_draft(draft=self.kept(certificate), passwords=["secret"], by=self.by)

    def batch(self) -> list[Draft]:
        files = [Upload(f"{name}.pfx", self.file(name)) for name in ("a", "b")]
        batch = certificates.keep_batch(environment=self.environment, files=files, session_key="s", by=self.by)
        return certificates.batch_of(batch=batch, environment=self.environment, session_key="s", by=self.by)

    def add_batch(self) -> None:
        drafts = self.batch()
        certificates.read_batch(batch=drafts, passwords=["secret"], seconds=60, by=self.by)
        certificates.add_batch(chosen={draft: draft.file_name for draft in drafts}, confirmed=False, by=self.by)

    def choose(self) -> Any:
        files = [Upload(f"{name}.pfx", pki.pfx(pki.issue(name), "")) for name in ("one", "two")]
        draft = certificates.keep_draft(
            environment=self.environment, certificate=None, files=files, session_key="s", by=self.by
        )
        draft = certificates.read_draft(draft=draft, passwords=[""], by=self.by)
        return certificates.choose_in_draft(draft=draft, sha256=draft.choices[1]["sha256"], by=self.by)

    def trust(self) -> None:
        found = certificates.read_authorities(environment=self.environment, files=[Upload("ca.pem", self.server_ca)])
        certificates.trust(environment=self.environment, authorities=found, by=self.by)

    def distrust(self) -> None:
        certificates.distrust(authority=self.environment.authorities.get(), by=self.by)

    def plan(self) -> Plan:
        listed = Listed("Imported", "a.pfx", self.file("Imported"), "secret")
        return Plan("list", (listed,), (Wish("host", "imported.example.com", 0),))

    def open_incident(self) -> Incident:
        return actions.open_incident(certificate=self.bank, version=self.bank.in_use, reason="r", by=self.by)

    def link(self) -> UploadLink:
        return certificates.create_link(certificate=self.bank, asked_by="Us", about="Bank", by=self.by)[0]

    def received(self) -> Draft:
        link, files = self.link(), [Upload("sent.pfx", self.file("Sent"))]
        draft = certificates.keep_from_link(link=link, files=files, by=self.by)
        return certificates.receive(link=link, draft=draft, passwords=["secret"], by=self.by)

    def scheduled(self) -> Rollout:
        begins = timezone.now() + timedelta(hours=1)
        return actions.apply(environment=self.environment, shown=self.digest, reason="r", due_at=begins, by=self.by)

    def handed_over(self) -> Rollout:
        """As one that waits for an upload by hand."""
        rollout = Rollout.objects.filter(environment=self.environment).latest("created_at")
        Rollout.objects.filter(pk=rollout.pk).update(state="handing_over", finished_at=None)
        return Rollout.objects.get(pk=rollout.pk)

    @property
    def digest(self) -> str:
        return current.content(self.environment).digest


def restore_nothing(w: World) -> None:
    empty = Content(w.environment.runtime, "", "", w.environment.base_folder)
    with transaction.atomic():
        certificates.restore(environment=w.environment, content=empty, versions={}, by=w.by)


def freeze(w: World) -> None:
    with transaction.atomic():
        content = current.content(w.environment)
        actions.freeze(w.environment, content, reason="r", ticket="", by=w.by)


def use_version(w: World) -> None:
    version = certificates.renew(certificate=w.bank, identity=w.identity(), in_use=False, by=w.by)
    certificates.use_version(version=version, by=w.by)


def cancel(w: World) -> None:
    actions.cancel(rollout=actions.restart(environment=w.environment, by=w.by), by=w.by)


def bring_back(w: World) -> None:
    environments.archive_environment(environment=w.environment, by=w.by)
    environments.bring_back_environment(environment=w.environment, by=w.by)


def start(w: World) -> None:
    w.run(actions.stop(environment=w.environment, by=w.by))
    w.run(actions.start(environment=w.environment, by=w.by))


def remove_member(w: World) -> None:
    ada = Person.objects.create_user("ada")
    member = environments.add_member(application=w.environment.application, person=ada, role="viewer", by=w.by)
    environments.remove_member(membership=member, by=w.by)


def read_and_add(w: World) -> None:
    certificates.add_draft(draft=w.read(), name="Drafted", confirmed=True, by=w.by)


def roll_back(w: World) -> None:
    first = Revision.objects.get(environment=w.environment, number=1)
    w.run(actions.roll_back(environment=w.environment, revision=first, reason="r", by=w.by))


def replace_elsewhere(w: World) -> None:
    both = w.identity("Twin")
    here, there = (
        certificates.add(environment=w.environment, name=name, identity=both, by=w.by) for name in ("Here", "There")
    )
    certificates.renew(certificate=here, identity=w.identity("Twin"), in_use=True, by=w.by)
    new, elsewhere = behind(w.by, here, list(here.versions.all()))
    assert new is not None
    assert [place.certificate for place in elsewhere.places] == [there]
    certificates.replace_elsewhere(
        version=new, places=dict.fromkeys(elsewhere.places, True), confirmed=True, by=w.by
    )  # fmt: skip


def begin_early(w: World) -> None:
    rollout = w.scheduled()
    actions.begin_early(rollout=rollout, by=w.by)
    w.run(rollout)


DONE: dict[str, Callable[[World], Any]] = {
    "rollouts.test_connection": lambda w: actions.test_connection(pin=w.pinned, by=w.by),
    "certificates.add": lambda w: w.add("Another"),
    "certificates.add_draft": read_and_add,
    "certificates.add_batch": lambda w: w.add_batch(),
    "certificates.batch_of": lambda w: w.batch(),
    "certificates.change_pin": lambda w: certificates.change_pin(
        pin=w.pinned, target=certificates.read_target(environment=w.environment, text="else.example.com"),
        certificate=w.tax, by=w.by,
    ),
    "certificates.choose_in_draft": lambda w: w.choose(),
    "certificates.create_link": lambda w: w.link(),
    "certificates.discard": lambda w: certificates.discard(draft=w.received(), reason="r", by=w.by),
    "certificates.receive": lambda w: w.received(),
    "certificates.replace_elsewhere": replace_elsewhere,
    "certificates.request_certificate": lambda w: certificates.request_certificate(
        environment=w.environment, name="Asked", subject="CN=asked", names="", key="ec-p256", by=w.by
    ),
    "certificates.turn_draft": lambda w: certificates.turn_draft(draft=w.read(w.bank), certificate=w.tax, by=w.by),
    "rollouts.begin_early": begin_early,
    "rollouts.change_time": lambda w: actions.change_time(
        rollout=w.scheduled(), due_at=timezone.now() + timedelta(hours=2), by=w.by
    ),
    "certificates.describe": lambda w: certificates.describe(certificate=w.bank, contact="A", how_to_renew="", by=w.by),
    "certificates.disable": lambda w: certificates.disable(certificate=w.bank, by=w.by),
    "certificates.drop_draft": lambda w: certificates.drop_draft(draft=w.kept(), by=w.by),
    "certificates.edit": lambda w: certificates.edit(
        certificate=w.bank, name="Ä Bank", contact="", how_to_renew="", by=w.by
    ),
    "certificates.enable": lambda w: (
        certificates.disable(certificate=w.bank, by=w.by), shown(w.environment),
        certificates.enable(certificate=w.bank, by=w.by),
    ),
    "certificates.import_now": lambda w: certificates.import_now(environment=w.environment, plan=w.plan(), by=w.by),
    "certificates.keep_batch": lambda w: w.batch(),
    "certificates.keep_draft": lambda w: w.kept(),
    "certificates.move": lambda w: certificates.move(certificate=w.tax, to=1, by=w.by),
    "certificates.open_draft": lambda w: certificates.open_draft(
        draft_id=w.kept().pk, environment=w.environment, session_key="s", by=w.by
    ),
    "certificates.pin": lambda w: w.pin("more.example.com", None),
    "certificates.read_draft": lambda w: w.read(),
    "certificates.remove": lambda w: certificates.remove(certificate=w.spare, by=w.by),
    "certificates.rename": lambda w: certificates.rename(certificate=w.bank, name="Bänk", by=w.by),
    "certificates.renew": lambda w: certificates.renew(
        certificate=w.bank, identity=w.identity(), in_use=True, by=w.by
    ),
    "certificates.renew_with_draft": lambda w: certificates.renew_with_draft(
        draft=w.read(w.bank), in_use=True, confirmed=True, by=w.by
    ),
    "certificates.restore": restore_nothing,
    "certificates.trust": lambda w: (w.trust(), shown(w.environment), w.distrust(), shown(w.environment), w.trust()),
    "certificates.unpin": lambda w: certificates.unpin(pin=w.pinned, by=w.by),
    "certificates.use_version": use_version,
    "environments.add_member": remove_member,
    "environments.archive_environment": lambda w: environments.archive_environment(
        environment=w.environment, by=w.by
    ),
    "environments.bring_back_environment": bring_back,
    "environments.change_environment": lambda w: environments.change_environment(
        environment=w.environment, name="Live", production=True, runtime_version="10.12", base_folder="/srv", by=w.by
    ),
    "environments.create_environment": lambda w: environments.create_environment(
        application=w.environment.application, name="Other", by=w.by
    ),
    "environments.remove_member": remove_member,
    "environments.rename_application": lambda w: environments.rename_application(
        application=w.environment.application, name="Billing", by=w.by
    ),
    "rollouts.apply": lambda w: w.apply(),
    "rollouts.archive": lambda w: actions.archive(environment=w.environment, by=w.by),
    "rollouts.cancel": cancel,
    "rollouts.export_to_download": lambda w: actions.export_to_download(
        environment=w.environment, exporter="mendix-settings", base_folder="/s", reason="r", password=PASSWORD, by=w.by
    ),
    "rollouts.freeze": freeze,
    "rollouts.check_platform": lambda w: actions.check_platform(environment=w.environment, by=w.by),
    "rollouts.confirm_handover": lambda w: actions.confirm_handover(rollout=w.handed_over(), by=w.by),
    "rollouts.hand_out": lambda w: actions.hand_out(rollout=w.handed_over(), password=PASSWORD, by=w.by),
    "rollouts.set_credentials": lambda w: actions.set_credentials(environment=w.environment, secrets={}, by=w.by),
    "rollouts.set_health_check": lambda w: actions.set_health_check(
        environment=w.environment, url="http://app.example.com/", status=200, text="", seconds=5, by=w.by
    ),
    "rollouts.use_platform": lambda w: (
        Destination.objects.filter(environment=w.environment).delete(), shown(w.environment),
        actions.use_platform(
            environment=w.environment, connector="webhook", exporter="pem-bundle", base_folder="/srv/app",
            options={"url": "https://10.0.0.1/"}, secrets={"key": "a key that is long enough"}, by=w.by,
        ),
    ),
    "rollouts.import_now": lambda w: actions.import_now(environment=w.environment, plan=w.plan(), by=w.by),
    "rollouts.open_incident": lambda w: w.open_incident(),
    "rollouts.announce": lambda w: actions.announce(
        incident=w.open_incident(), kind="partner", version=w.bank.in_use, certificate=w.bank, note="", by=w.by
    ),
    "rollouts.restart": lambda w: w.run(actions.restart(environment=w.environment, by=w.by)),
    "rollouts.roll_back": roll_back,
    "rollouts.start": start,
    "rollouts.stop": lambda w: w.run(actions.stop(environment=w.environment, by=w.by)),
    "rollouts.undo_changes": lambda w: actions.undo_changes(environment=w.environment, shown=w.digest, by=w.by),
    "rollouts.use_place": lambda w: (
        Destination.objects.filter(environment=w.environment).delete(), shown(w.environment),
        actions.use_place(environment=w.environment, place="tiny", by=w.by),
    ),
}  # fmt: skip

ABOUT = {
    "chosen",
    "application",
    "certificate",
    "draft",
    "environment",
    "membership",
    "pin",
    "revision",
    "rollout",
    "version",
}


def test_every_action_on_an_environment_or_what_is_in_it_is_tried_here():
    found = {
        f"{name}.{action}"
        for name, module in {"certificates": certificates, "environments": environments, "rollouts": actions}.items()
        for action, function in vars(module).items()
        if inspect.isfunction(function) and not action.startswith("_")
        and inspect.unwrap(function).__module__.startswith(module.__name__)
        and "by" in (of := inspect.signature(function).parameters) and of.keys() & {*ABOUT, "environment", "draft_id"}
    }  # fmt: skip
    assert set(DONE) == found


@pytest.mark.parametrize("action", DONE)
def test_after_every_action_the_page_says_what_a_new_count_says(
    action, environment, owner, running_app, add_certificate, apply, run_rollout
):
    world = World(environment, owner, add_certificate, apply, run_rollout)
    shown(environment)

    DONE[action](world)

    assert shown(environment) == counted_anew(environment)
    for certificate in ClientCertificate.objects.select_related("in_use"):
        assert certificate.expires_at == certificate.in_use.not_after
        assert certificate.sought == certificate.name.casefold()


# --- Whoever writes ---------------------------------------------------------------------------------------------------


def test_every_table_that_the_content_is_read_from_counts_its_writes(environment, running_app, add_certificate, apply):
    add_certificate()
    apply()
    add_certificate("Second")
    with CaptureQueriesContext(connection) as captured:
        comparisons._count([environment], {environment.pk: Revision.objects.get().pk}, {}, timezone.now())
    read = {table for query in captured for table in re.findall(r'(?:FROM|JOIN) "(\w+)"', query["sql"])}

    # A revision is never written again, and which one runs is part of what is kept.
    assert read - {"rollouts_revision"} <= set(serials.TABLES)
    assert {"certificates_clientcertificate", "certificates_pin", "certificates_version"} <= read
    assert set(serials._installed(connection)) == {name for name, _sql in serials._triggers(connection.vendor)}


WRITES = {
    "one statement over many rows": lambda e: ClientCertificate.objects.filter(environment=e).update(enabled=False),
    "many rows at once": lambda e: crowd.fill(e, 3),
    "a row that goes": lambda e: Pin.objects.filter(environment=e).delete(),
    "a version that was never to change": lambda e: Version.objects.update(sha256="0" * 64),
    "a setting": lambda e: Environment.objects.filter(pk=e.pk).update(runtime_version="9.1"),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_write_without_any_action_counts_too(how, environment, running_app, owner, add_certificate):
    target = certificates.read_target(environment=environment, text="api.example.com")
    certificates.pin(environment=environment, target=target, certificate=add_certificate(), by=owner)
    before, _named = shown(environment)

    WRITES[how](environment)

    after = shown(environment)
    assert after[0]["digest"] != before["digest"]
    assert after == counted_anew(environment)


def test_a_write_that_is_taken_back_leaves_what_is_kept_as_it_was(environment, add_certificate):
    certificate = add_certificate()
    before = shown(environment)
    with transaction.atomic():
        certificates.disable(certificate=certificate, by=None)
        assert shown(environment)[0]["sendable"] == 0, "whoever writes sees it"
        transaction.set_rollback(True)
    assert shown(environment) == before


def test_what_is_written_while_somebody_counts_is_seen_by_the_next_look(environment, add_certificate, monkeypatch):
    certificate = add_certificate()
    counting = current.contents

    def slowly(found: Any) -> Any:
        counted = counting(found)
        in_a_thread(lambda: ClientCertificate.objects.filter(pk=certificate.pk).update(enabled=False))
        return counted

    monkeypatch.setattr(current, "contents", slowly)
    assert standing(environment).comparison.sendable == 1, "the look that came before"
    monkeypatch.undo()
    assert Comparison.objects.get().sendable == 1
    assert standing(environment).comparison.sendable == 0


def test_many_who_write_and_look_at_once_leave_nothing_that_is_not_true(environment, running_app):
    crowd.fill(environment, 8)
    rows = list(environment.certificates.order_by("position"))
    failures: list[BaseException] = []

    def write(certificate: ClientCertificate) -> None:
        for _time in range(15):
            certificates.disable(certificate=certificate, by=None)
            certificates.enable(certificate=certificate, by=None)
        certificates.disable(certificate=certificate, by=None)

    def look() -> None:
        for _time in range(40):
            standing(environment)

    threads = [threading.Thread(target=ended, args=(write, failures, row)) for row in rows[:3]]
    threads += [threading.Thread(target=ended, args=(look, failures)) for _reader in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert shown(environment)[0]["sendable"] == 5
    assert shown(environment) == counted_anew(environment)


def test_who_moves_and_who_pins_at_once_do_not_stop_one_another(environment, owner):
    crowd.fill(environment, 6)
    rows = list(environment.certificates.order_by("position"))
    failures: list[BaseException] = []

    def move(certificate: ClientCertificate) -> None:
        for time in range(12):
            certificates.move(certificate=certificate, to=1 + 5 * (time % 2), by=None)

    def pin(certificate: ClientCertificate) -> None:
        for time in range(12):
            target = certificates.read_target(environment=environment, text=f"t{time}.{certificate.slug}.example.com")
            made = certificates.pin(environment=environment, target=target, certificate=certificate, by=None)
            certificates.unpin(pin=made, by=None)

    threads = [threading.Thread(target=ended, args=(move, failures, row)) for row in rows[:2]]
    threads += [threading.Thread(target=ended, args=(pin, failures, row)) for row in rows[4:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failures
    positions = environment.certificates.order_by("position").values_list("position", flat=True)
    assert list(positions) == [1, 2, 3, 4, 5, 6]
    assert shown(environment) == counted_anew(environment)


def ended(work: Callable[..., None], failures: list[BaseException], *about: Any) -> None:
    try:
        work(*about)
    except BaseException as error:
        failures.append(error)
    finally:
        connections.close_all()


def in_a_thread(work: Callable[[], Any]) -> None:
    failures: list[BaseException] = []
    thread = threading.Thread(target=ended, args=(work, failures))
    thread.start()
    thread.join(30)
    assert not failures


# --- As time goes by --------------------------------------------------------------------------------------------------


def test_a_certificate_expires_on_the_page_without_any_write(environment, add_certificate, monkeypatch):
    now = timezone.now()
    add_certificate("Short", not_before=now - timedelta(days=2), not_after=now + timedelta(days=400))
    add_certificate("Not yet", not_before=now + timedelta(days=10), not_after=now + timedelta(days=800))
    assert standing(environment).certificates.text == "1 not yet valid"
    for later, words in ((11, "Certificates OK"), (341, "1 expiring"), (401, "1 expired"), (801, "2 expired")):
        monkeypatch.setattr(timezone, "now", lambda later=later: now + timedelta(days=later))
        stand = standing(environment)
        assert stand.certificates.text == words
        assert stand.comparison.statuses == counted_anew(environment)[0]["statuses"]
    # A clock that is set back finds what was true then.
    monkeypatch.setattr(timezone, "now", lambda: now)
    assert standing(environment).certificates.text == "1 not yet valid"


# --- When the database does not let us --------------------------------------------------------------------------------


@contextmanager
def somebody_writing() -> Iterator[None]:
    """A transaction that writes, open in another thread; SQLite lets nobody else write meanwhile."""
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            Person.objects.create_user("slow")
            begun.set()
            over.wait(60)

    thread = threading.Thread(target=ended, args=(write, []))
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        over.set()
        thread.join(20)


def test_a_page_neither_waits_nor_fails_where_nothing_can_be_kept(client, owner, environment, add_certificate):
    client.force_login(owner)
    add_certificate()
    asked = timezone.now()
    with somebody_writing():
        page = client.get(environment.url("network"))
    assert page.status_code == 200
    assert page.context["standing"].comparison.sendable == 1
    assert timezone.now() - asked < timedelta(seconds=10), "half of what a write waits for"
    assert client.get(environment.url("network")).status_code == 200
    assert Comparison.objects.count() == 1


def test_migrating_puts_the_triggers_back_and_numbers_what_has_no_number(environment, add_certificate):
    add_certificate()
    shown(environment)
    with connection.cursor() as cursor:
        for name, table in serials._installed(connection).items():
            cursor.execute(f'DROP TRIGGER "{name}"' + (f' ON "{table}"' if connection.vendor != "sqlite" else ""))
    Serial.objects.all().delete()
    assert standing(environment).comparison.sendable == 1, "without a number it is counted, and not kept"

    call_command("migrate", verbosity=0)

    assert len(serials._installed(connection)) == len(list(serials._triggers(connection.vendor)))
    assert Serial.objects.filter(environment=environment).exists()
    before = Serial.objects.get().number
    serials.install(plan=["a migration that was made"])
    assert Serial.objects.get().number > before
