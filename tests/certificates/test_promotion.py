"""Two environments side by side, pins that are taken along, and keys of tests that must not enter production."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import Event
from certificates import actions, shared_keys, side_by_side
from certificates.models import ClientCertificate, Pin, TrustedAuthority, Version
from certificates.side_by_side import Side
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from tests import crowd, pki
from tests.certificates.conftest import text_of, upload

PARTNER = pki.make_authority("Partner CA")


# --- Side by side, from rows that no database has ---------------------------------------------------------------------


def held(name: str, key: str = "", sha256: str = "", **kwargs) -> ClientCertificate:
    version = Version(sha256=sha256 or uuid.uuid4().hex, spki_sha256=key or uuid.uuid4().hex, sealed_id=uuid.uuid4())
    return ClientCertificate(name=name, slug=kwargs.pop("slug", name.lower()), in_use=version, **kwargs)


def side(*certificates: ClientCertificate, runtime: str = "mendix", pins=(), authorities=(), **settings) -> Side:
    pinned = [Pin(kind=kind, key=key, certificate=sent) for kind, key, sent in pins]
    trusted = [TrustedAuthority(name=name, sha256=name) for name in authorities]
    return Side(Environment(name="X", runtime=runtime, **settings), list(certificates), pinned, trusted)


def test_certificates_belong_together_by_name_then_by_slug_then_by_key():
    bank, tax, post, only = held("Bank"), held("Tax"), held("Post", key="k"), held("Only")
    theirs = [held("Mail", key="k"), held("Revenue", slug="tax"), held("BANK"), held("Other")]
    meant = side_by_side.counterparts([only, post, tax, bank], theirs)
    assert meant == {bank.pk: theirs[2], tax.pk: theirs[1], post.pk: theirs[0]}


def test_a_certificate_is_the_counterpart_of_one_only():
    first, second, theirs = held("Bank", key="k"), held("Copy", key="k"), held("Bank", key="k")
    assert side_by_side.counterparts([second, first], [theirs]) == {first.pk: theirs}


def test_pins_are_the_same_only_here_only_there_or_sent_something_else():
    ours, theirs, mail = held("Bank"), held("Bank"), held("Mail")
    here = side(
        ours, pins=[("host", "a.x", ours), ("host", "b.x", None), ("host", "c.x", ours), ("service", "K", ours)]
    )
    there = side(
        theirs,
        mail,
        pins=[("host", "a.x", theirs), ("host", "c.x", None), ("host", "d.x", mail), ("host", "K", theirs)],
    )
    found = {line.key: line.difference for line in side_by_side.pin_lines(here, there)}
    assert found == {"K": "other", "a.x": "same", "b.x": "here", "c.x": "other", "d.x": "there"}


def test_a_pin_to_a_certificate_without_a_counterpart_is_not_the_same_as_never():
    ours = held("Bank")
    (line,) = side_by_side.pin_lines(side(ours, pins=[("host", "a.x", ours)]), side(pins=[("host", "a.x", None)]))
    assert line.difference == "other"


def test_what_the_runtime_there_cannot_be_told_says_why():
    ours = held("Bank")
    here = side(ours, pins=[("host", "a.x", ours), ("service", "M.S", ours)])
    host, service = sorted(side_by_side.pin_lines(here, side(runtime="nginx")), key=lambda line: line.kinds)
    assert (host.untold, "cannot be told about M.S" in service.untold) == ("", True)


def test_certificates_are_the_same_of_the_same_key_or_each_its_own():
    here = side(held("A", key="k", sha256="s"), held("B", key="k2"), held("C"), held("D"))
    there = side(held("A", key="k", sha256="s"), held("B", key="k2"), held("C"), held("E"))
    lines = {line.name: line.difference for line in side_by_side.certificate_lines(here, there)}
    assert lines == {"A": "same", "B": "key", "C": "other", "D": "here", "E": "there"}


def test_authorities_and_settings_are_set_beside_each_other():
    here = side(authorities=["Corp", "Old"], runtime_version="10.1", connection_tests="block")
    there = side(authorities=["Corp", "New"], runtime="nginx", connection_tests="warn")
    assert [(line.any.name, line.difference) for line in side_by_side.authority_lines(here, there)] == [
        ("Corp", "same"),
        ("New", "there"),
        ("Old", "here"),
    ]
    lines = {line.about: (line.here, line.there) for line in side_by_side.setting_lines(here, there)}
    assert lines["Runtime version"] == ("10.1", "not set")
    assert lines["Connection tests"] == ("A refusal stops an apply", "A refusal is shown")
    assert lines["Runs on"][0] == "Mendix runtime"


@pytest.mark.parametrize("change", ["pins", "name", "enabled", "authorities", "runtime"])
def test_the_digest_follows_everything_that_is_shown(change):
    bank = held("Bank")
    before = side_by_side.digest(side(bank), side())
    changed = {
        "pins": lambda: side(bank, pins=[("host", "a.x", bank)]),
        "name": lambda: side(held("Bank 2", slug="bank", sha256=bank.in_use.sha256)),
        "enabled": lambda: side(held("Bank", sha256=bank.in_use.sha256, enabled=False)),
        "authorities": lambda: side(bank, authorities=["Corp"]),
        "runtime": lambda: side(bank, runtime="nginx"),
    }
    assert side_by_side.digest(changed[change](), side()) != before


# --- Test and Production, in the database -----------------------------------------------------------------------------


@pytest.fixture
def test(application, owner):
    return environments.create_environment(application=application, name="Test", by=owner)


@pytest.fixture
def production(application, test, owner):
    return environments.create_environment(application=application, name="Production", production=True, by=owner)


@pytest.fixture
def add(owner):
    """Adds a certificate to an environment: with a key of its own, or with that of `issued`."""

    def add(environment: Environment, name: str, issued: pki.Issued | None = None) -> ClientCertificate:
        issued = issued or pki.issue(name, authority=PARTNER)
        return actions.add(environment=environment, name=name, identity=issued.identity, by=owner)

    return add


@pytest.fixture
def pinned(owner):
    def pinned(environment: Environment, text: str, certificate: ClientCertificate | None, **kwargs) -> Pin:
        target = actions.read_target(environment=environment, text=text, never=certificate is None)
        return actions.pin(environment=environment, target=target, certificate=certificate, by=owner, **kwargs)

    return pinned


@pytest.fixture
def world(test, production, add, pinned):
    """Bank in both, each with its own key; in Test a host, a service and a never; nothing is pinned in Production."""
    bank, live = add(test, "Bank"), add(production, "Bank")
    host = pinned(test, "api-test.example.com", bank, note="payments", test_address="api-test.example.com:8443")
    service = pinned(test, "Tax.Filing", bank)
    never = pinned(test, "telemetry.example.com", None)
    return SimpleNamespace(
        test=test, production=production, bank=bank, live=live, host=host, service=service, never=never
    )


@pytest.fixture
def take(world, owner):
    """Takes along; what is not given is as the page suggests it."""

    def take(*wanted: actions.Wanted, by=owner, **kwargs) -> list[Pin]:
        both = kwargs.pop("source", world.test), kwargs.pop("target", world.production)
        given = {"shown": side_by_side.digest(*side_by_side.sides(*both)), "confirmed": (), **kwargs}
        return actions.take_along(source=both[0], target=both[1], pins=wanted, by=by, **given)

    return take


def as_it_is(pin: Pin, certificate: str = "Bank", target: str = "") -> actions.Wanted:
    return actions.Wanted(pin, target or pin.key, certificate)


def sent(environment: Environment) -> dict[str, str | None]:
    return dict(environment.pins.values_list("key", "certificate__name"))


def test_pins_come_along_with_the_certificate_of_the_other_place_and_no_key_is_copied(world, take):
    versions = Version.objects.count()
    taken = take(
        as_it_is(world.host, target="https://API.example.com/v1"), as_it_is(world.service), as_it_is(world.never)
    )
    assert len(taken) == 3
    assert sent(world.production) == {"api.example.com": "Bank", "Tax.Filing": "Bank", "telemetry.example.com": None}
    assert set(world.production.pins.exclude(certificate=None).values_list("certificate", flat=True)) == {world.live.pk}
    assert Version.objects.count() == versions
    host = world.production.pins.get(key="api.example.com")
    assert (host.note, host.test_address) == ("payments", ""), "the address to test is one of the other place"


def test_each_pin_is_an_event_that_says_where_it_came_from(world, take):
    take(as_it_is(world.host), as_it_is(world.never))
    events = Event.objects.filter(action="pin.added", environment_id=str(world.production.pk))
    details = [json.loads(event.body)["details"] for event in events]
    assert [one["taken_from"] for one in details] == ["Invoicing / Test"] * 2
    assert {one["target"]: one["certificate"] for one in details} == {
        "api-test.example.com": "Bank",
        "telemetry.example.com": None,
    }


def test_a_pin_that_is_sent_something_else_there_is_changed_and_keeps_its_note_and_address(world, take, pinned, owner):
    there = pinned(world.production, "Tax.Filing", None, note="agreed", test_address="https://tax.example.com")
    take(as_it_is(world.service))
    there.refresh_from_db()
    assert (there.certificate, there.note, there.test_address) == (world.live, "agreed", "tax.example.com")


def refused_rows(take, *wanted, **kwargs) -> dict[str, str]:
    with pytest.raises(actions.NotTaken) as caught:
        take(*wanted, **kwargs)
    return {key: f"{refused.field}: {refused}" for key, refused in caught.value.rows.items()}


NO_HOST = "This is not a host name; type letters, digits, hyphens and dots, like api.example.com."


def test_one_refused_row_refuses_them_all_and_each_says_what_is_wrong_with_it(world, take):
    rows = refused_rows(
        take,
        as_it_is(world.host, target="api..example.com"),
        as_it_is(world.service, certificate="Nobody"),
        as_it_is(world.never),
    )
    assert rows == {
        "api-test.example.com": f"target: {NO_HOST}",
        "Tax.Filing": "certificate: Choose a certificate of Production.",
    }
    assert not world.production.pins.exists()


def test_two_rows_cannot_become_one_target_and_none_may_take_the_place_of_another_pin(world, take, pinned):
    pinned(world.production, "live.example.com", None)
    rows = refused_rows(
        take,
        as_it_is(world.host, target="live.example.com"),
        as_it_is(world.never, target="live.example.com"),
    )
    assert set(rows.values()) == {
        "target: live.example.com is already pinned there (never send a certificate); change that pin instead."
    }
    rows = refused_rows(
        take, as_it_is(world.host, target="new.example.com"), as_it_is(world.never, target="new.example.com")
    )
    assert list(rows.values()) == [
        "target: new.example.com is also what becomes of api-test.example.com; change one of them."
    ]


def test_a_certificate_without_its_key_there_cannot_be_chosen(world, take, owner):
    issued = pki.issue("Tracked", authority=PARTNER)
    actions.add(environment=world.production, name="Tracked", identity=replace(issued.identity, key=b""), by=owner)
    assert refused_rows(take, as_it_is(world.host, "Tracked")) == {
        "api-test.example.com": "certificate: Choose a certificate of Production."
    }


def test_what_the_other_runtime_cannot_express_is_refused_by_the_action_too(world, take):
    Environment.objects.filter(pk=world.production.pk).update(runtime="nginx")
    world.production.refresh_from_db()
    (sentence,) = refused_rows(take, as_it_is(world.service)).values()
    assert "cannot be told about Tax.Filing" in sentence


def test_what_moved_on_meanwhile_is_looked_at_once_more(world, take, pinned):
    shown = side_by_side.digest(*side_by_side.sides(world.test, world.production))
    pinned(world.production, "other.example.com", None)
    with pytest.raises(Refused, match="Somebody changed something meanwhile"):
        take(as_it_is(world.host), shown=shown)
    assert list(sent(world.production)) == ["other.example.com"]


# --- The key of a test ------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(world, add):
    """Production has a certificate with the very key that Test uses."""
    issued = pki.issue("Shared", authority=PARTNER)
    add(world.test, "Shared", issued)
    again = pki.issue("Shared", authority=PARTNER, key=issued.key)
    return add(world.production, "Shared", again)


WARNING = "This key is also in use outside production (Invoicing / Test: Shared); production needs its own."


def test_a_key_of_a_test_enters_production_only_when_confirmed(world, take, copied):
    with pytest.raises(Refused) as caught:
        take(as_it_is(world.host, "Shared"))
    assert (caught.value.field, WARNING in str(caught.value)) == ("confirmed", True)
    assert not world.production.pins.exists()
    with pytest.raises(Refused):
        take(as_it_is(world.host, "Shared"), confirmed=[world.live.in_use.sha256])
    take(as_it_is(world.host, "Shared"), confirmed=[copied.in_use.sha256])
    assert sent(world.production) == {"api-test.example.com": "Shared"}


def test_the_other_way_round_and_between_tests_nothing_has_to_be_confirmed(world, take, copied, pinned):
    shared = world.production.certificates.get(name="Shared")
    there = pinned(world.production, "api.example.com", shared, confirmed=True)
    take(as_it_is(there, "Shared"), source=world.production, target=world.test)
    assert sent(world.test)["api.example.com"] == "Shared"


def test_places_that_the_reader_may_not_see_count_and_are_not_named(world, add, owner):
    secret = environments.create_application(name="Secret merger", by=owner)
    hidden = environments.create_environment(application=secret, name="Trial", by=owner)
    issued = pki.issue("Hidden", authority=PARTNER)
    add(hidden, "Hidden", issued)
    live = add(world.production, "Hidden", issued)
    reader = Person.objects.create_user("ada", password="x")
    environments.add_member(application=world.test.application, person=reader, role="editor", by=owner)

    def told(person) -> list[str]:
        return list(shared_keys.also_in_tests(world.production, [live.in_use], person).values())

    assert told(reader) == [
        "This key is also in use outside production, where you may not look; production needs its own."
    ]
    assert "Secret merger / Trial: Hidden" in told(owner)[0]
    add(world.test, "Seen", issued)
    assert told(reader) == [
        "This key is also in use outside production (Invoicing / Test: Seen; and elsewhere); production needs its own."
    ]


def test_a_removed_one_and_other_keys_are_no_reason(world, copied, owner):
    actions.remove(certificate=world.test.certificates.get(name="Shared"), by=owner)
    assert shared_keys.also_in_tests(world.production, [copied.in_use, world.live.in_use], owner) == {}


def test_the_pin_editor_asks_in_production_and_not_again_for_the_same_certificate(signed_in, world, copied):
    address = world.production.url("pin-new")
    typed = {"target": "api.example.com", "certificate": str(copied.pk), "note": "kept"}
    refused = signed_in.post(address, typed)
    assert refused.status_code == 422
    assert f"{WARNING} Confirm this" in text_of(refused)
    assert 'value="kept"' in refused.content.decode()
    other = {**typed, "confirmed": world.live.in_use.sha256}
    assert signed_in.post(address, other).status_code == 422, "what was confirmed was another key"
    assert signed_in.post(address, {**typed, "confirmed": copied.in_use.sha256}).status_code == 302
    pin = world.production.pins.get()
    edited = signed_in.post(world.production.url("pin-edit", pin.pk), {**typed, "note": "another"})
    assert edited.status_code == 302, "nothing new enters production by a note"
    interpreted = signed_in.post(world.production.url("pin-interpret"), typed)
    assert WARNING in text_of(interpreted)


def test_the_pin_editor_of_a_test_has_no_such_box(signed_in, world, copied):
    shared = world.test.certificates.get(name="Shared")
    page = signed_in.post(world.test.url("pin-interpret"), {"target": "a.example.com", "certificate": str(shared.pk)})
    assert "confirmed" not in page.content.decode()


def test_an_upload_of_a_tests_key_into_production_has_to_be_confirmed(signed_in, world, add):
    issued = pki.issue("Leaked", authority=PARTNER)
    add(world.test, "Leaked", issued)
    sent = signed_in.post(
        world.production.url("certificate-new"), {"file": upload(pki.pfx(issued, "secret")), "password": "secret"}
    )
    preview = signed_in.get(sent["Location"])
    assert WARNING.replace("Shared", "Leaked") in text_of(preview)
    assert signed_in.post(sent["Location"], {"name": "Leaked"}).status_code == 422
    assert not world.production.certificates.filter(name="Leaked").exists()
    assert signed_in.post(sent["Location"], {"name": "Leaked", "confirmed": "on"}).status_code == 302


def test_many_uploads_at_once_say_it_in_their_rows(signed_in, world, add):
    issued = pki.issue("Leaked", authority=PARTNER)
    add(world.test, "Leaked", issued)
    file = upload(pki.pfx(issued, "secret"), "leaked.pfx")
    address = signed_in.post(world.production.url("certificates-many"), {"file": [file]})["Location"]
    page = signed_in.post(address, {"passwords": "secret"}, follow=True)
    assert WARNING.replace("Shared", "Leaked") in text_of(page)
    (row,) = page.context["rows"]
    chosen = {"add": "yes", "chosen": [str(row.draft.pk)], f"name-{row.draft.pk}": "Leaked"}
    assert signed_in.post(address, chosen).status_code == 422
    assert signed_in.post(address, {**chosen, "confirmed": "on"}).status_code == 302
    assert world.production.certificates.filter(name="Leaked").exists()


def test_commands_refuse_it_too(world, copied, tmp_path, add, capsys):
    def refuses(*words: str) -> bool:
        with pytest.raises(SystemExit) as ended:
            call_command(*words, stdout=io.StringIO())
        return ended.value.code == 1 and "also in use outside production" in capsys.readouterr().err

    pin = ("pin", "invoicing/production", "api.example.com", "--certificate", "Shared")
    assert refuses(*pin)
    call_command(*pin, "--confirm-warnings", stdout=io.StringIO())
    assert sent(world.production) == {"api.example.com": "Shared"}
    issued = pki.issue("Leaked", authority=PARTNER)
    add(world.test, "Leaked", issued)
    (file := tmp_path / "a.pfx").write_bytes(pki.pfx(issued, "secret"))
    (password := tmp_path / "password").write_text("secret")
    where = ("invoicing/production", str(file), "--password-file", str(password), "--name", "Leaked")
    assert refuses("import_certificate", *where)
    assert not world.production.certificates.filter(name="Leaked").exists()


# --- The page ---------------------------------------------------------------------------------------------------------

ADDRESS = "/apps/invoicing/compare/?from=test&to=production"


def posted(world, *pins: Pin, **more: str) -> dict[str, object]:
    shown = side_by_side.digest(*side_by_side.sides(world.test, world.production))
    fields = {f"target-{pin.pk}": pin.key for pin in pins} | {
        f"certificate-{pin.pk}": "Bank" for pin in pins if pin.certificate_id
    }
    return {"shown": shown, "take": [str(pin.pk) for pin in pins], **fields, **more}


def test_the_page_takes_along_what_is_ticked_and_says_that_it_is_not_running(signed_in, world):
    answer = signed_in.post(ADDRESS, posted(world, world.host, world.never), follow=True)
    assert answer.redirect_chain == [(world.production.url("network"), 302)]
    assert "Took 2 pins along. They are not running yet." in text_of(answer)
    assert sent(world.production) == {"api-test.example.com": "Bank", "telemetry.example.com": None}


def test_the_certificate_of_the_same_name_is_chosen_and_else_none(signed_in, world, add, pinned):
    other = add(world.test, "Mail")
    pinned(world.test, "mail.example.com", other)
    page = signed_in.get(ADDRESS).content.decode()
    assert page.count('<option value="Bank" selected>Bank</option>') == 2
    assert "Production has no “Mail”;" in text_of(signed_in.get(ADDRESS))
    assert world.production.url("certificate-new") in page


def test_a_refused_row_keeps_everything_that_was_typed(signed_in, world):
    typed = posted(world, world.host, world.service, **{
        f"target-{world.host.pk}": "api..example", f"certificate-{world.service.pk}": "",
    })  # fmt: skip
    answer = signed_in.post(ADDRESS, typed)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "Nothing was taken along" in text_of(answer)
    assert 'value="api..example"' in page
    assert f'id="wrong-{world.host.pk}">This is not a host name' in page
    assert f'id="wrong-{world.service.pk}">Choose a certificate of Production.' in page
    assert page.count('name="take"') == 3
    assert page.count(" checked>") == 2, "the ticks stay"
    assert not world.production.pins.exists()


def test_what_moved_on_is_shown_anew_and_what_was_typed_stays(signed_in, world, pinned):
    typed = posted(world, world.host, **{f"target-{world.host.pk}": "api.example.com"})
    pinned(world.production, "other.example.com", None)
    answer = signed_in.post(ADDRESS, typed)
    assert answer.status_code == 422
    assert "Somebody changed something meanwhile" in text_of(answer)
    assert 'value="api.example.com"' in answer.content.decode()
    assert "other.example.com" in text_of(answer)
    again = posted(world, world.host, **{f"target-{world.host.pk}": "api.example.com"})
    assert again["shown"] in answer.content.decode(), "what is shown now can be taken along"


def test_the_box_for_a_tests_key_comes_with_its_sentence(signed_in, world, copied):
    typed = posted(world, world.host, **{f"certificate-{world.host.pk}": "Shared"})
    answer = signed_in.post(ADDRESS, typed)
    assert answer.status_code == 422
    assert WARNING in text_of(answer)
    assert 'id="unconfirmed">Nothing was taken along; read' in answer.content.decode()
    assert f'value="{copied.in_use.sha256}" id="confirmed-1"' in answer.content.decode()
    assert signed_in.post(ADDRESS, {**typed, "confirmed": copied.in_use.sha256}).status_code == 302


def test_only_differences_leaves_out_what_is_the_same(signed_in, world, take):
    take(as_it_is(world.never))
    assert "telemetry.example.com" in text_of(signed_in.get(ADDRESS))
    narrowed = text_of(signed_in.get(f"{ADDRESS}&show=differences"))
    assert "telemetry.example.com" not in narrowed
    assert "api-test.example.com" in narrowed


def test_what_cannot_be_expressed_is_not_offered_and_says_why(signed_in, world):
    Environment.objects.filter(pk=world.production.pk).update(runtime="nginx")
    answer = signed_in.get(ADDRESS)
    assert "1 pin cannot be taken along, because Production cannot express it" in text_of(answer)
    assert "cannot be told about Tax.Filing" in text_of(answer)
    assert f'value="{world.service.pk}"' not in answer.content.decode()


def member(client, application, *roles, **where):
    person = Person.objects.create_user(f"p{Person.objects.count()}", password="x")
    for role, environment in roles:
        environments.add_member(application=application, person=person, role=role, environment=environment, by=None)
    client.force_login(person)
    return client


def test_who_may_see_both_compares_and_who_may_change_the_one_takes_along(client, world, application):
    member(client, application, ("viewer", world.test), ("editor", world.production))
    assert client.post(ADDRESS, posted(world, world.host)).status_code == 302
    member(client, application, ("editor", world.test), ("viewer", world.production))
    looked = client.get(ADDRESS)
    assert "You may not change certificates and pins here" in text_of(looked)
    assert 'name="take"' not in looked.content.decode()
    assert client.post(ADDRESS, posted(world, world.service)).status_code == 403
    assert list(sent(world.production)) == ["api-test.example.com"]


def test_a_stranger_and_who_sees_only_one_of_them_find_nothing(client, world, application, owner):
    elsewhere = environments.create_application(name="Elsewhere", by=owner)
    member(client, elsewhere, ("owner", None))
    assert (client.get(ADDRESS).status_code, client.post(ADDRESS, {}).status_code) == (404, 404)
    environments.create_environment(application=application, name="Third", by=owner)
    member(client, application, ("owner", world.production), ("viewer", application.environments.get(slug="third")))
    assert client.get(ADDRESS).status_code == 404
    assert client.post(ADDRESS, posted(world, world.host)).status_code == 404
    assert not world.production.pins.exists()


def test_a_pin_of_another_application_is_not_taken_along(signed_in, world, owner, add, pinned):
    other = environments.create_application(name="Other", by=owner)
    there = environments.create_environment(application=other, name="Test", by=owner)
    strange = pinned(there, "strange.example.com", None)
    answer = signed_in.post(ADDRESS, posted(world, strange))
    assert (answer.status_code, "Tick the pins" in text_of(answer)) == (422, True)
    assert not world.production.pins.exists()


def test_of_many_certificates_the_name_is_typed(signed_in, world):
    crowd.fill(world.production, 70, pins=0)
    page = signed_in.get(ADDRESS).content.decode()
    assert '<datalist id="choices">' in page
    assert "<select class" not in page
    typed = posted(world, world.host, **{f"certificate-{world.host.pk}": " CLIENT 7 "})
    assert signed_in.post(ADDRESS, typed).status_code == 302
    assert sent(world.production) == {"api-test.example.com": "client 7"}


def test_a_pin_to_a_disabled_certificate_says_that_it_does_not_count_yet(signed_in, world, owner):
    actions.disable(certificate=world.live, by=owner)
    answer = signed_in.post(ADDRESS, posted(world, world.host, world.never), follow=True)
    told = "Took 2 pins along. They are not running yet. 1 counts once its certificate is enabled."
    assert told in text_of(answer)


def test_without_a_choice_production_is_beside_what_stands_before_it(signed_in, world):
    assert "Test beside Production" in text_of(signed_in.get("/apps/invoicing/compare/"))
    assert "Production beside Test" in text_of(signed_in.get("/apps/invoicing/compare/?from=production"))
    twice = signed_in.get("/apps/invoicing/compare/?from=test&to=test")
    assert (twice.status_code, "the same environment twice" in text_of(twice)) == (200, True)
    assert signed_in.post("/apps/invoicing/compare/?from=test&to=test", {}).status_code == 422


def test_the_link_stands_where_there_is_something_to_compare(client, world, application):
    member(client, application, ("viewer", world.production))
    assert "Compare" not in client.get(world.production.url("network")).content.decode()
    assert "Compare" not in client.get(application.get_absolute_url()).content.decode()
    member(client, application, ("viewer", None))
    assert "/apps/invoicing/compare/?to=production" in client.get(world.production.url("network")).content.decode()
    assert "/apps/invoicing/compare/" in client.get(application.get_absolute_url()).content.decode()


def test_comparing_asks_the_database_as_often_for_a_thousand_pins_as_for_ten(signed_in, world):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert signed_in.get(ADDRESS).status_code == 200
        return len(captured)

    crowd.fill(world.test, 10)
    few = queries()
    crowd.fill(world.test, 990)
    crowd.fill(world.production, 100)
    assert queries() == few <= 16
