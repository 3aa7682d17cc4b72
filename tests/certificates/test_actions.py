"""Uploads, certificates and pins: what is refused, and that what fails leaves nothing behind."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from audit.models import Event
from certificates import actions, current, one_shot, pkcs12
from certificates.actions import slots
from certificates.diagnosis import Refusal
from certificates.intake import Reading
from certificates.models import ClientCertificate, Draft, Pin, Version
from environments import actions as environments
from environments.models import Person
from environments.refusals import Refused
from tests import pki
from tests.certificates.conftest import SESSION, stored

pytestmark = pytest.mark.django_db


def ciphertexts() -> set[str]:
    try:
        return set(storages["vault"].listdir("")[1])
    except FileNotFoundError:
        return set()


def a_zip(make_file) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bank.pfx", make_file())
    return packed.getvalue()


# --- Bad input of uploads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("html", "web page"),
        ("zip", "zip archive"),
        ("empty", "empty"),
        ("large", "1,048,576"),
    ],
)
def test_a_file_that_no_password_could_open_is_refused_and_nothing_is_kept(file, words, keep, make_file):
    files = {
        "html": b"<!DOCTYPE html><title>Log in</title>",
        "zip": a_zip(make_file),
        "empty": b"",
        "large": b"\x30" * (2 * 1024 * 1024),
    }
    before = stored(), ciphertexts()

    with pytest.raises(Refusal, match=words) as refusal:
        keep(files[file])

    assert refusal.value.field == "file"
    assert (stored(), ciphertexts()) == before
    assert Event.objects.get(action="certificate.refused").refused


def test_a_wrong_password_keeps_the_file_and_the_right_one_opens_it(keep, make_file, owner):
    draft = keep(make_file())

    with pytest.raises(Refusal) as refusal:
        actions.read_draft(draft=draft, passwords=["not it"], by=owner)

    assert refusal.value.field == "password"
    assert not Draft.objects.get().is_read
    read = actions.read_draft(draft=Draft.objects.get(), passwords=["secret"], by=owner)
    assert read.is_read
    assert read.version().common_name == "client.example.com"


def test_a_nul_in_the_password_is_refused_beside_the_password_and_is_not_repeated(keep, make_file, owner):
    draft = keep(make_file())

    with pytest.raises(Refusal, match="NUL") as refusal:
        actions.read_draft(draft=draft, passwords=["hush\0hush"], by=owner)

    assert refusal.value.field == "password"
    assert "hush" not in str(refusal.value)


def test_a_file_without_a_key_is_refused_beside_the_file(keep, owner):
    draft = keep(pki.pfx(pki.issue(), "secret", key=False))

    with pytest.raises(Refusal, match="no private key") as refusal:
        actions.read_draft(draft=draft, passwords=["secret"], by=owner)

    assert refusal.value.field == "file"


def test_an_expired_certificate_is_added_only_once_its_warning_is_confirmed(keep, make_file, owner):
    expired = make_file(not_before=pki.NOW - timedelta(days=9), not_after=pki.NOW - timedelta(days=1))
    draft = actions.read_draft(draft=keep(expired), passwords=["secret"], by=owner)

    with pytest.raises(Refused, match="warnings") as refused:
        actions.add_draft(draft=draft, name="Old", confirmed=False, by=owner)
    assert refused.value.field == "confirmed"
    assert not ClientCertificate.objects.exists()

    assert actions.add_draft(draft=draft, name="Old", confirmed=True, by=owner).in_use.status() == "expired"


def test_a_name_that_exists_in_any_case_is_refused_and_the_draft_survives(keep, make_file, add_certificate, owner):
    add_certificate("Bank payments")
    draft = actions.read_draft(draft=keep(make_file()), passwords=["secret"], by=owner)

    with pytest.raises(Refused, match="already a certificate") as refused:
        actions.add_draft(draft=draft, name="BANK payments", confirmed=False, by=owner)

    assert refused.value.field == "name"
    assert actions.add_draft(draft=Draft.objects.get(), name="Another", confirmed=False, by=owner).name == "Another"


def test_a_password_is_kept_nowhere(keep, make_file, owner):
    wrong, right = "wrong-horse-3f9", "right-horse-7c1"
    issued = pki.issue()
    draft = keep(pki.pfx(issued, right))
    with pytest.raises(Refusal):
        actions.read_draft(draft=draft, passwords=[wrong], by=owner)
    actions.read_draft(draft=draft, passwords=[right], by=owner)
    certificate = actions.add_draft(draft=draft, name="Bank", confirmed=True, by=owner)

    rows = [value for model in (Event, Version, Draft) for row in model.objects.values() for value in row.values()]
    text = " ".join(map(str, rows)).encode()
    files = b"".join(storages["vault"].open(name, "rb").read() for name in ciphertexts())
    for secret in (wrong.encode(), right.encode(), issued.key_der, issued.key_pem):
        assert secret not in text
        assert secret not in files
    assert certificate.in_use.sha256 in text.decode()


# --- Drafts -----------------------------------------------------------------------------------------------------------


def test_a_draft_is_used_once(keep, make_file, environment, owner):
    draft = actions.read_draft(draft=keep(make_file()), passwords=["secret"], by=owner)
    second_click = Draft.objects.get()
    actions.add_draft(draft=draft, name="Bank", confirmed=False, by=owner)

    with pytest.raises(Refused, match="already confirmed"):
        actions.add_draft(draft=second_click, name="Bank again", confirmed=False, by=owner)
    with pytest.raises(Refused, match="choose the file again"):
        actions.open_draft(draft_id=draft.pk, environment=environment, session_key=SESSION, by=owner)

    assert ClientCertificate.objects.count() == 1


def test_a_draft_opens_for_its_person_session_and_environment_only(keep, make_file, environment, owner):
    draft = keep(make_file())
    other_person = Person.objects.create_user("ada", password="x")
    elsewhere = environments.create_environment(application=environment.application, name="Production", by=owner)
    fits = {"draft_id": draft.pk, "environment": environment, "session_key": SESSION, "by": owner}

    assert actions.open_draft(**fits) == draft
    for wrong in ({"session_key": "another"}, {"by": other_person}, {"environment": elsewhere}):
        with pytest.raises(Refused, match="choose the file again"):
            actions.open_draft(**fits | wrong)


def test_an_expired_draft_is_refused_and_tidied_away_with_its_file(keep, make_file, environment, owner):
    before = ciphertexts()
    draft = keep(make_file())
    assert len(ciphertexts() - before) == 1
    Draft.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(Refused, match="expired"):
        actions.open_draft(draft_id=draft.pk, environment=environment, session_key=SESSION, by=owner)
    assert actions.tidy_drafts() == 1

    assert (stored(), ciphertexts()) == ((0, 0, 0, 0, 0), before)


def test_a_draft_that_is_dropped_leaves_nothing(keep, make_file, owner):
    before = stored(), ciphertexts()

    actions.drop_draft(draft=actions.read_draft(draft=keep(make_file()), passwords=["secret"], by=owner), by=owner)

    assert (stored(), ciphertexts()) == before


def test_of_two_readings_at_once_one_finds_the_file_gone_and_leaves_nothing(keep, make_file, owner, monkeypatch):
    draft, twin = keep(make_file()), Draft.objects.get()
    reading = Reading(((pkcs12.read(make_file(), "secret"), ()),))

    def meanwhile(_question):
        monkeypatch.setattr(one_shot, "read", lambda _question: reading)
        actions.read_draft(draft=twin, passwords=["secret"], by=owner)
        return reading

    monkeypatch.setattr(one_shot, "read", meanwhile)
    with pytest.raises(Refused, match="a moment ago"):
        actions.read_draft(draft=draft, passwords=["secret"], by=owner)

    assert stored() == (0, 0, 0, 1, 1)
    assert Draft.objects.get().is_read


# --- All or nothing ---------------------------------------------------------------------------------------------------


class Broken(Exception):
    """Stands for a full disk, a lost connection, a bug."""


def break_writing(monkeypatch, model) -> None:
    def fail(*args, **kwargs):
        raise Broken

    monkeypatch.setattr(model.objects, "create", fail)


@pytest.mark.parametrize("broken", [Version, Event])
def test_an_addition_that_fails_midway_stores_nothing(broken, make_file, environment, owner, monkeypatch):
    identity = pkcs12.read(make_file(), "secret")
    before = stored(), ciphertexts(), Event.objects.count()
    break_writing(monkeypatch, broken)

    with pytest.raises(Broken):
        actions.add(environment=environment, name="Bank", identity=identity, by=owner)

    assert (stored(), ciphertexts(), Event.objects.count()) == before


@pytest.mark.parametrize("broken", [Version, Event])
def test_a_confirmation_that_fails_midway_can_be_repeated(broken, keep, make_file, owner, monkeypatch):
    draft = actions.read_draft(draft=keep(make_file()), passwords=["secret"], by=owner)
    events = Event.objects.count()
    with monkeypatch.context() as patch:
        break_writing(patch, broken)
        with pytest.raises(Broken):
            actions.add_draft(draft=draft, name="Bank", confirmed=False, by=owner)
    assert stored() == (0, 0, 0, 1, 1)
    assert Event.objects.count() == events

    assert actions.add_draft(draft=Draft.objects.get(), name="Bank", confirmed=False, by=owner).in_use.number == 1


def test_a_renewal_that_fails_midway_leaves_the_version_in_use(make_file, add_certificate, owner, monkeypatch):
    certificate = add_certificate()
    before = stored(), ciphertexts(), Event.objects.count()
    break_writing(monkeypatch, Event)

    with pytest.raises(Broken):
        actions.renew(certificate=certificate, identity=pkcs12.read(make_file(), "secret"), in_use=True, by=owner)

    assert (stored(), ciphertexts(), Event.objects.count()) == before
    assert ClientCertificate.objects.get().in_use.number == 1


def test_a_pin_without_its_event_is_no_pin(pin, monkeypatch):
    break_writing(monkeypatch, Event)

    with pytest.raises(Broken):
        pin("api.example.com")

    assert stored() == (0, 0, 0, 0, 0)


# --- Certificates -----------------------------------------------------------------------------------------------------


def test_a_renewal_keeps_pins_and_is_used_at_once_or_kept_ready(make_file, add_certificate, pin, owner, environment):
    certificate = add_certificate()
    pin("api.example.com", certificate)
    first = current.content(environment)

    ready = actions.renew(certificate=certificate, identity=pkcs12.read(make_file(), "secret"), in_use=False, by=owner)
    assert current.content(environment) == first

    actions.use_version(version=ready, by=owner)
    now = current.content(environment)
    assert now.pins == first.pins
    assert [slot.sha256 for slot in now.slots] == [ready.sha256]


def test_the_file_in_use_is_no_renewal_and_is_refused_before_the_preview(add_certificate, keep, owner, make_file):
    file = make_file()
    certificate = add_certificate()
    actions.renew(certificate=certificate, identity=pkcs12.read(file, "secret"), in_use=True, by=owner)

    with pytest.raises(Refused, match="version 2, which is already here") as refused:
        actions.read_draft(draft=keep(file, certificate=certificate), passwords=["secret"], by=owner)

    assert refused.value.field == "file"


def test_a_certificate_that_is_pinned_is_not_removed_and_the_refusal_says_where(add_certificate, pin, owner):
    certificate = add_certificate()
    pin("api.example.com", certificate)
    pin("Billing.PaymentService", certificate)

    with pytest.raises(Refused, match=r"pinned to Billing\.PaymentService, api\.example\.com"):
        actions.remove(certificate=certificate, by=owner)

    certificate.refresh_from_db()
    assert certificate.removed_at is None


def test_a_removed_certificate_leaves_the_content_and_its_name_is_free_again(add_certificate, owner, environment):
    certificate, other = add_certificate("Bank"), add_certificate("Tax")
    actions.remove(certificate=certificate, by=owner)

    assert [slot.slug for slot in current.content(environment).slots] == ["tax"]
    other.refresh_from_db()
    assert other.position == 1
    assert add_certificate("Bank").slug == "bank-2"


def test_moving_a_certificate_changes_the_order_of_the_export_and_records_it(add_certificate, owner, environment):
    names = ["A", "B", "C"]
    _a, _b, c = [add_certificate(name) for name in names]

    actions.move(certificate=c, to=1, by=owner)

    assert [slot.slug for slot in current.content(environment).slots] == ["c", "a", "b"]
    assert json.loads(Event.objects.get(action="certificate.moved").body)["details"]["position"] == 1


def test_renaming_is_no_change_to_what_runs(add_certificate, owner, environment):
    certificate = add_certificate("Bank")
    before = current.content(environment).digest

    actions.edit(certificate=certificate, name="The bank", contact="Anna", how_to_renew="Ask Anna", by=owner)

    assert current.content(environment).digest == before
    assert ClientCertificate.objects.get().contact == "Anna"


def test_an_edit_whose_name_is_taken_changes_nothing(add_certificate, owner):
    add_certificate("Bank")
    certificate = add_certificate("Tax")

    with pytest.raises(Refused, match="already a certificate"):
        actions.edit(certificate=certificate, name="bank", contact="Anna", how_to_renew="", by=owner)

    certificate.refresh_from_db()
    assert (certificate.name, certificate.contact) == ("Tax", "")


def test_doing_what_is_already_done_leaves_no_event(add_certificate, pin, owner):
    certificate = add_certificate()
    pinned = pin("api.example.com", certificate)
    events = Event.objects.count()

    actions.enable(certificate=certificate, by=owner)
    actions.use_version(version=certificate.in_use, by=owner)
    actions.rename(certificate=certificate, name=certificate.name, by=owner)
    actions.move(certificate=certificate, to=1, by=owner)
    target = actions.read_target(environment=pinned.environment, text="api.example.com")
    actions.change_pin(pin=pinned, target=target, certificate=certificate, by=owner)

    assert Event.objects.count() == events


def test_a_disabled_certificate_leaves_the_content_with_its_pins(add_certificate, pin, owner, environment):
    certificate = add_certificate()
    pin("api.example.com", certificate)
    pin("telemetry.example.com")

    actions.disable(certificate=certificate, by=owner)

    content = current.content(environment)
    assert content.slots == ()
    assert [p.key for p in content.pins] == ["telemetry.example.com"]


# --- Bad input of pins ------------------------------------------------------------------------------------------------


def test_an_address_typed_as_host_is_pinned_without_scheme_and_path(pin, add_certificate):
    assert pin("https://API.example.com/v2/payments", add_certificate()).key == "api.example.com"


def test_a_target_pinned_twice_is_refused_saying_what_it_is_sent(pin, add_certificate):
    pin("api.example.com", add_certificate("Bank"))

    with pytest.raises(Refused, match=r"already pinned here \(Bank\)") as refused:
        pin("https://api.example.com/", add_certificate("Tax"))

    assert refused.value.field == "target"


def test_the_database_keeps_one_pin_for_an_exported_key_whatever_the_action_saw(pin, monkeypatch):
    from certificates.actions import pins

    pin("api.example.com")
    monkeypatch.setattr(pins, "_is_free", lambda environment, key: None)

    with pytest.raises(Refused, match="already pinned"):
        pin("api.example.com")


def test_a_pin_that_is_edited_onto_another_ones_target_is_refused(pin, environment, owner):
    pin("api.example.com")
    other = pin("api.example.org")
    target = actions.read_target(environment=environment, text="api.example.com")

    with pytest.raises(Refused, match="already pinned"):
        actions.change_pin(pin=other, target=target, certificate=None, by=owner)


@pytest.mark.parametrize("text", ["", "*.example.com", "a,b", "[2001:db8::1]", "api.example.com:99999", "x\0y"])
def test_what_the_runtime_cannot_express_is_refused_beside_the_target(text, environment):
    with pytest.raises(Refused) as refused:
        actions.read_target(environment=environment, text=text)

    assert refused.value.field == "target"


@pytest.mark.parametrize("whose", ["of another environment", "removed"])
def test_a_pin_takes_a_certificate_that_is_here_only(whose, pin, add_certificate, environment, owner):
    certificate = add_certificate()
    if whose == "removed":
        actions.remove(certificate=certificate, by=owner)
    else:
        certificate.environment = environments.create_environment(
            application=environment.application, name="Production", by=owner
        )
        certificate.save()

    with pytest.raises(Refused, match="of this environment"):
        pin("api.example.com", certificate)


# --- What another person did meanwhile --------------------------------------------------------------------------------


def test_a_certificate_that_somebody_removed_meanwhile_cannot_be_pinned(environment, owner, pin, add_certificate):
    seen = add_certificate()
    other = pin("other.example.com")
    actions.remove(certificate=ClientCertificate.objects.get(pk=seen.pk), by=owner)
    target = actions.read_target(environment=environment, text="other.example.com")

    with pytest.raises(Refused, match="of this environment"):
        pin("api.example.com", seen)
    with pytest.raises(Refused, match="of this environment"):
        actions.change_pin(pin=other, target=target, certificate=seen, by=owner)

    assert not Pin.objects.filter(certificate=seen).exists()


def test_a_certificate_that_somebody_removed_meanwhile_takes_no_other_version(owner, add_certificate, make_file):
    certificate = add_certificate()
    identity = pkcs12.read(make_file(), "secret")
    actions.renew(certificate=certificate, identity=identity, in_use=True, by=owner)
    first = Version.objects.select_related("certificate").get(certificate=certificate, number=1)
    actions.remove(certificate=ClientCertificate.objects.get(pk=certificate.pk), by=owner)
    before = stored()

    with pytest.raises(Refused, match="was removed"):
        actions.use_version(version=first, by=owner)
    with pytest.raises(Refused, match="was removed"):
        actions.renew(certificate=certificate, identity=pkcs12.read(make_file(), "secret"), in_use=True, by=owner)

    certificate.refresh_from_db()
    assert certificate.in_use.number == 2
    assert stored() == before


def test_a_certificate_is_removed_once(owner, add_certificate):
    certificate = add_certificate()
    seen = ClientCertificate.objects.get(pk=certificate.pk)
    actions.remove(certificate=certificate, by=owner)

    with pytest.raises(Refused, match="was removed"):
        actions.remove(certificate=seen, by=owner)

    assert Event.objects.filter(action="certificate.removed").count() == 1


@pytest.fixture
def meanwhile(environment, monkeypatch):
    """Lets somebody else add a certificate after an action looked at what is here, and before it writes its row."""

    def take(name: str, slug: str = "of-somebody-else", after: str = "_name_is_free") -> None:
        real = getattr(slots, after)

        def look(*args):
            seen = real(*args)
            monkeypatch.setattr(slots, after, real)
            ClientCertificate.objects.create(environment=environment, name=name, slug=slug, position=9)
            return seen

        monkeypatch.setattr(slots, after, look)

    return take


def test_of_two_who_add_the_same_name_at_once_one_gets_the_sentence(meanwhile, add_certificate, keep, make_file, owner):
    draft = actions.read_draft(draft=keep(make_file()), passwords=["secret"], by=owner)
    meanwhile("BANK")

    with pytest.raises(Refused, match="There is already a certificate “Bank” here") as refused:
        actions.add_draft(draft=draft, name="Bank", confirmed=True, by=owner)

    assert refused.value.field == "name"
    actions.add_draft(draft=draft, name="Bank 2", confirmed=True, by=owner)


def test_of_two_names_that_export_alike_the_second_is_asked_to_try_again(meanwhile, add_certificate):
    meanwhile("Bank!", slug="bank", after="_last_position")

    with pytest.raises(Refused, match="at the same moment; try again"):
        add_certificate("Bank")

    assert add_certificate("Bank").slug == "bank"


def test_of_two_who_give_the_same_name_at_once_one_gets_the_sentence(meanwhile, add_certificate, owner):
    certificate = add_certificate("Tax")
    meanwhile("Bank")

    with pytest.raises(Refused, match="There is already a certificate “Bank” here") as refused:
        actions.rename(certificate=certificate, name="Bank", by=owner)

    assert refused.value.field == "name"
    certificate.refresh_from_db()
    assert certificate.name == "Tax"


# --- A vault that cannot be used --------------------------------------------------------------------------------------


def test_without_the_vaults_key_an_upload_is_refused_and_a_kept_one_stays(settings, tmp_path, keep, make_file, owner):
    known = settings.VAULT_KEYRING
    draft = keep(make_file())
    before = stored(), ciphertexts()
    settings.VAULT_KEYRING = {"name": "local", "path": str(tmp_path / "none.json")}

    with pytest.raises(Refused, match=r"none\.json") as refused:
        keep(make_file())
    assert refused.value.field == "file"
    with pytest.raises(Refused, match=r"none\.json") as refused:
        actions.read_draft(draft=draft, passwords=["secret"], by=owner)
    assert refused.value.field == "file"

    assert (stored(), ciphertexts()) == before
    settings.VAULT_KEYRING = known
    assert actions.read_draft(draft=draft, passwords=["secret"], by=owner).is_read
