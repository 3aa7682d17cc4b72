"""What differs between two contents, who did it, and how a page says it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certificates import actions as certificates
from certificates import pkcs12
from certificates.content import Content, PinnedTarget, Slot
from environments import actions as environments
from rollouts import authors
from rollouts.changes import Change, changes, nothing
from rollouts.differences import lines
from rollouts.standing import standing
from rollouts.templatetags.frame import named
from tests import pki

A, B, C = Slot("a", "aa" * 32), Slot("b", "bb" * 32), Slot("c", "cc" * 32)
BASE = Content("mendix", "", "", "/srv/app", slots=(A, B), pins=(PinnedTarget("host", "api.example.com", "a"),))


def test_equal_contents_have_no_changes():
    assert changes(BASE, replace(BASE)) == ()


def test_a_change_and_its_opposite_are_no_change():
    with_c = replace(BASE, slots=(*BASE.slots, C))
    assert changes(BASE, replace(with_c, slots=BASE.slots)) == ()


def test_certificates_are_new_changed_and_gone():
    renewed = Slot("a", "ab" * 32)
    assert changes(BASE, replace(BASE, slots=(renewed, C))) == (
        Change("certificate", "changed", "a", A.sha256, renewed.sha256),
        Change("certificate", "new", "c", None, C.sha256),
        Change("certificate", "gone", "b", B.sha256, None),
    )


def test_another_chain_of_the_same_certificate_is_a_change():
    (change,) = changes(BASE, replace(BASE, slots=(replace(A, chain=("dd" * 32,)), B)))
    assert (change.mark, change.detail) == ("changed", "chain")


def test_a_new_order_is_one_change_and_a_certificate_that_goes_is_none_of_it():
    assert changes(BASE, replace(BASE, slots=(B, A))) == (Change("order", "changed", "", "a,b", "b,a"),)
    assert [c.what for c in changes(BASE, replace(BASE, slots=(B,)))] == ["certificate"]


def test_a_pin_tells_never_from_no_pin_and_names_its_kind():
    never = replace(BASE, pins=(PinnedTarget("host", "api.example.com", None),))
    assert changes(BASE, never) == (Change("pin", "changed", "api.example.com", "a", "", "host"),)
    assert changes(BASE, replace(BASE, pins=())) == (Change("pin", "gone", "api.example.com", "a", None, "host"),)
    other_kind = replace(BASE, pins=(PinnedTarget("identifier", "api.example.com", "a"),))
    assert changes(BASE, other_kind)[0].detail == "host → identifier"


def test_a_setting_is_a_change_and_nothing_has_the_same_settings():
    assert changes(BASE, replace(BASE, base_folder="/opt")) == (
        Change("setting", "changed", "base_folder", "/srv/app", "/opt"),
    )
    assert {c.what for c in changes(nothing(BASE), BASE)} == {"certificate", "pin"}


# --- In words, with their authors ------------------------------------------------------------------------------------


@pytest.fixture
def ada(application, owner):
    person, _password = environments.create_person(username="ada", full_name="Ada", by=owner)
    environments.add_member(application=application, person=person, role="operator", by=owner)
    return person


def in_words(environment, reader):
    stand = standing(environment)
    return lines(environment, stand.changes, authors.of_changes(environment, stand.destination, reader))


@pytest.mark.django_db(transaction=True)
def test_a_renewal_says_which_version_replaces_which_and_whose_key_is_new(
    running_app, environment, owner, ada, add_certificate, apply
):
    certificate = add_certificate()
    apply()
    renewal = pkcs12.read(pki.pfx(pki.issue("Bank payments", authority=pki.make_authority("Other CA")), "s"), "s")
    certificates.renew(certificate=certificate, identity=renewal, in_use=True, by=ada)

    (line,) = in_words(environment, owner)

    assert (line.name, line.mark) == ("Bank payments", "Changed")
    assert (line.before.version.number, line.after.version.number) == (1, 2)
    assert line.after.note == "same subject, new key"
    assert (line.author.name, in_words(environment, ada)[0].author.name) == ("ada", "you")


@pytest.mark.django_db(transaction=True)
def test_pins_read_as_words_and_a_pin_goes_by_whoever_disabled_its_certificate(
    running_app, environment, owner, ada, add_certificate, apply
):
    certificate = add_certificate()
    target = certificates.read_target(environment=environment, text="api.bank.example")
    certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)
    never = certificates.read_target(environment=environment, text="telemetry.example.com", never=True)
    apply()
    certificates.pin(environment=environment, target=never, certificate=None, by=owner)
    certificates.disable(certificate=certificate, by=ada)

    gone, unpinned, muted = in_words(environment, owner)

    assert (gone.mark, gone.author.name) == ("Left out", "ada")
    assert (unpinned.before.words, unpinned.after.words) == ("Bank payments", "any certificate that the server accepts")
    assert (unpinned.author.name, unpinned.sort) == ("ada", "host")
    assert (muted.after.words, muted.author.name) == ("never a certificate", "you")
    stand = standing(environment)
    assert named(stand, owner) == "1 certificate left out (ada), 1 pin left out (ada), 1 pin added (you)"


@pytest.mark.django_db(transaction=True)
def test_the_lines_of_any_number_of_changes_take_three_queries(
    environment, add_certificate, django_assert_num_queries, running_app
):
    for name in ("One", "Two", "Three"):
        add_certificate(name)
    found = standing(environment).changes
    with django_assert_num_queries(3):
        assert [line.after.version.number for line in lines(environment, found)] == [1, 1, 1]
