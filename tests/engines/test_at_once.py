"""Several people at the same moment. SQLite lets one write at a time, PostgreSQL many; the same must come out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connections

from audit.actors import Actor
from certificates import actions as certificates
from certificates import pkcs12, targets
from certificates.identities import Identity
from certificates.intake import Upload
from certificates.models import ClientCertificate, Pin, Renewal, Version
from certificates.renewals import behind
from environments import actions as environments
from environments.models import Application, Environment, Membership, Person
from environments.refusals import Refused
from rollouts import actions as rollouts
from rollouts.models import Revision, Rollout
from tests import pki

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = 6


def at_once(calls: Sequence[Callable[[], Any]]) -> Counter[str]:
    """Makes all calls at the same moment, each on a connection of its own; counts those that were done and refused.
    Anything else that was raised is a page with an error, and fails the test."""
    ready = threading.Barrier(len(calls))
    outcomes: list[str | BaseException] = []

    def make(call: Callable[[], Any]) -> None:
        try:
            ready.wait(10)
            call()
            outcomes.append("done")
        except Refused:
            outcomes.append("refused")
        except BaseException as error:
            outcomes.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=make, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    raised = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert not raised, raised
    assert len(outcomes) == len(calls), "somebody still waits"
    return Counter(str(outcome) for outcome in outcomes)


ONE = {"done": 1, "refused": PEOPLE - 1}


def test_of_applications_with_one_name_one_is_created(owner: Person):
    names = ["Payroll", "payroll", "PAYROLL"] * (PEOPLE // 3)
    assert at_once([lambda name=name: environments.create_application(name=name, by=owner) for name in names]) == ONE
    assert Application.objects.filter(name__iexact="payroll").count() == 1
    assert Membership.objects.count() == 1, "of those refused nothing is left"


def test_of_environments_with_one_name_one_is_created(application: Application, owner: Person):
    create = lambda: environments.create_environment(application=application, name="Test", by=owner)  # noqa: E731
    assert at_once([create] * PEOPLE) == ONE


def test_of_environments_created_at_once_each_has_its_own_place_in_the_list(application: Application, owner: Person):
    def create(number: int) -> None:
        environments.create_environment(application=application, name=f"Test {number}", by=owner)

    assert at_once([lambda n=n: create(n) for n in range(PEOPLE)]) == {"done": PEOPLE}
    assert sorted(application.environments.values_list("position", flat=True)) == list(range(PEOPLE))


def test_of_people_with_one_name_one_is_created(owner: Person):
    create = lambda: environments.create_person(username="Ada", by=owner)  # noqa: E731
    assert at_once([create] * PEOPLE) == ONE


def test_of_two_owners_who_remove_one_another_one_stays(application: Application, owner: Person):
    ada = environments.create_person(username="ada", by=owner)[0]
    environments.add_member(application=application, person=ada, role="owner", by=owner)
    both = list(Membership.objects.filter(application=application, role="owner"))
    assert at_once([lambda m=m: environments.remove_member(membership=m, by=owner) for m in both]) == {
        "done": 1,
        "refused": 1,
    }


def test_of_certificates_with_one_name_one_is_added(environment: Environment, owner: Person):
    partner = pki.make_authority("Partner CA")
    identities = [pkcs12.read(pki.pfx(pki.issue("bank", authority=partner), "x"), "x") for _ in range(PEOPLE)]

    def add(identity: Identity) -> None:
        certificates.add(environment=environment, name="Bank", identity=identity, by=owner)

    assert at_once([lambda i=i: add(i) for i in identities]) == ONE


def test_certificates_added_and_moved_at_once_stand_in_one_order(
    environment: Environment, owner: Person, add_certificate
):
    listed = [add_certificate(f"Before {number}") for number in range(3)]
    partner = pki.make_authority("Partner CA")
    identities = [pkcs12.read(pki.pfx(pki.issue(f"c{n}", authority=partner), "x"), "x") for n in range(3)]
    calls = [
        *(
            lambda n=n, i=i: certificates.add(environment=environment, name=f"New {n}", identity=i, by=owner)
            for n, i in enumerate(identities)
        ),
        *(lambda c=c: certificates.move(certificate=c, to=1, by=owner) for c in listed[1:]),
        lambda: certificates.remove(certificate=listed[0], by=owner),
    ]
    assert at_once(calls) == {"done": 6}
    here = ClientCertificate.objects.filter(environment=environment, removed_at=None)
    assert sorted(here.values_list("position", flat=True)) == [1, 2, 3, 4, 5]


def test_of_renewals_at_once_each_has_its_own_number(environment: Environment, owner: Person, add_certificate):
    certificate = add_certificate()
    partner = pki.make_authority("Partner CA")
    identities = [pkcs12.read(pki.pfx(pki.issue("bank", authority=partner), "x"), "x") for _ in range(PEOPLE)]

    def renew(identity: Identity) -> None:
        mine = ClientCertificate.objects.get(pk=certificate.pk)
        certificates.renew(certificate=mine, identity=identity, in_use=True, by=owner)

    assert at_once([lambda i=i: renew(i) for i in identities]) == {"done": PEOPLE}
    assert sorted(certificate.versions.values_list("number", flat=True)) == list(range(1, PEOPLE + 2))


def test_of_people_who_replace_the_same_places_in_any_order_one_does(
    environment: Environment, application: Application, owner: Person, add_certificate
):
    certificate, identity = add_certificate(), pki.issue("renewed").identity
    there = [environments.create_environment(application=application, name=f"Test {n}", by=owner) for n in range(4)]
    old = pki.issue("old").identity
    certificates.renew(certificate=certificate, identity=old, in_use=True, by=owner)
    for place in there:
        certificates.add(environment=place, name="Bank", identity=old, by=owner)
    version = certificates.renew(certificate=certificate, identity=identity, in_use=True, by=owner)

    def replace(turned: int) -> None:
        found = behind(owner, certificate, list(certificate.versions.select_related("sealed")))[1].places
        places = sorted(found, key=lambda place: str(place.environment.pk), reverse=bool(turned % 2))
        certificates.replace_elsewhere(
            version=Version.objects.select_related("sealed").get(pk=version.pk),
            places=dict.fromkeys(places, True), confirmed=True, by=owner,
        )  # fmt: skip

    assert at_once([lambda n=n: replace(n) for n in range(PEOPLE)]) == ONE
    assert Renewal.objects.get().versions.count() == 5
    assert {one.in_use.sha256 for one in ClientCertificate.objects.select_related("in_use")} == {version.sha256}


def test_of_pins_of_one_target_one_is_saved(environment: Environment, owner: Person, add_certificate):
    certificate = add_certificate()

    def pin() -> None:
        certificates.pin(
            environment=environment, target=targets.interpret("api.bank.example"), certificate=certificate, by=owner
        )

    assert at_once([pin] * PEOPLE) == ONE
    assert Pin.objects.count() == 1


def test_a_certificate_is_pinned_or_removed_and_never_both(environment: Environment, owner: Person, add_certificate):
    for number in range(4):
        certificate = add_certificate(f"Bank {number}")

        def pin(certificate: ClientCertificate = certificate, number: int = number) -> None:
            target = targets.interpret(f"api{number}.bank.example")
            certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)

        def remove(certificate: ClientCertificate = certificate) -> None:
            certificates.remove(certificate=ClientCertificate.objects.get(pk=certificate.pk), by=owner)

        assert at_once([pin, remove]) == {"done": 1, "refused": 1}
    assert not Pin.objects.filter(certificate__removed_at__isnull=False).exists()


def test_of_applies_at_once_one_is_taken_and_freezes_what_it_showed(
    environment: Environment, owner: Person, add_certificate, running_app
):
    first = add_certificate("First")
    shown = rollouts.pending(environment)[0].digest

    def apply() -> None:
        rollouts.apply(environment=environment, shown=shown, reason="now", by=owner)

    def pin() -> None:
        target = targets.interpret("api.bank.example")
        certificates.pin(environment=environment, target=target, certificate=first, by=owner)

    outcome = at_once([apply, apply, apply, pin])
    applied = outcome["done"] - 1
    assert applied in (0, 1), "none, where the pin came first and the page was shown anew"
    assert Rollout.objects.count() == Revision.objects.count() == applied
    assert all(revision.digest == shown for revision in Revision.objects.all())


def test_of_stops_at_once_one_is_taken(environment: Environment, owner: Person, running_app):
    assert at_once([lambda: rollouts.stop(environment=environment, by=owner)] * PEOPLE) == ONE


def test_of_two_files_sent_to_one_link_one_is_taken(
    environment: Environment, owner: Person, add_certificate: Callable[..., ClientCertificate]
):
    link, _token = certificates.create_link(certificate=add_certificate(), asked_by="Us", about="Bank", by=owner)
    partner = Actor.partner("203.0.113.9")

    def send(number: int) -> None:
        file = Upload("bank.pfx", pki.pfx(pki.issue(f"client {number}"), "secret"))
        try:
            with certificates.attempt(link=link, by=partner):
                draft = certificates.keep_from_link(link=link, files=[file], by=partner)
                certificates.receive(link=link, draft=draft, passwords=["secret"], by=partner)
        except certificates.Closed:
            raise Refused("closed") from None

    assert at_once([lambda n=n: send(n) for n in range(2)]) == {"done": 1, "refused": 1}
    assert certificates.arrived().count() == 1
