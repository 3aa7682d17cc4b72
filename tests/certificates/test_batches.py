"""Many files at once: each with a handful of passwords, looked at on one page, added together or not at all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import Event
from certificates import actions, uploads
from certificates.actions import batches, drafts
from certificates.diagnosis import Refusal
from certificates.models import ClientCertificate, Draft, Version
from certificates.views import batches as views
from environments.refusals import Refused
from tests import pki
from tests.certificates.conftest import error_beside, stored, text_of, upload
from tests.certificates.made import PASSWORD, entry_password_file
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing", authority=ROOT)


def pfx(cn: str, password: str = "secret", **how) -> bytes:
    return pki.pfx(pki.issue(cn, authority=ISSUING), password, **how)


@pytest.fixture(autouse=True)
def all_the_time_there_is(monkeypatch):
    """How far a busy machine comes within a page's seconds is said by the tests that shorten them."""
    monkeypatch.setattr(views, "AT_ONCE", 100.0)
    monkeypatch.setattr(batches, "OPEN_SECONDS", 100.0)


@pytest.fixture
def send(signed_in, at):
    """Uploads files by name; returns the address of their page."""

    def send(**files: bytes) -> str:
        given = [upload(content, name.replace("_", ".")) for name, content in files.items()]
        answer = signed_in.post(at("certificates-many"), {"file": given})
        assert answer.status_code == 302, text_of(answer)
        return answer.url

    return send


@pytest.fixture
def opened(signed_in, send):
    """The same, opened with passwords; returns the page's answer too."""

    def opened(*passwords: str, **files: bytes):
        address = send(**files)
        return address, signed_in.post(address, {"passwords": "\n".join(passwords)}, follow=True)

    return opened


def states(answer) -> list[str]:
    return [row.state for row in answer.context["rows"]]


def ticked(answer, **names: str) -> dict[str, object]:
    """What the browser would send: every ticked row, with its name or another one by its file's stem."""
    rows = answer.context["rows"]
    given: dict[str, object] = {"add": "yes", "chosen": [str(row.draft.pk) for row in rows if row.chosen]}
    for row in rows:
        if row.version is not None:
            given[f"name-{row.draft.pk}"] = names.get(row.draft.file_name.partition(".")[0], row.name)
    return given


def test_forty_files_with_three_passwords_among_them_become_forty_certificates(signed_in, opened):
    passwords = ("Spring1", "summer two", "ünïcode")
    files = {f"c{n}_pfx": pfx(f"client-{n}.example.com", passwords[n % 3]) for n in range(40)}
    address, page = opened(*passwords, **files)

    assert states(page) == ["read"] * 40
    assert "40 of 40 opened" in text_of(page)
    added = signed_in.post(address, ticked(page), follow=True)

    assert "Added 40 certificates." in text_of(added)
    names = ClientCertificate.objects.order_by("position").values_list("name", flat=True)
    assert list(names) == [f"client-{n}.example.com" for n in range(40)]
    assert stored() == (40, 40, 0, 0, 40)
    assert Event.objects.filter(action="certificate.added").count() == 40


def test_a_file_that_no_password_opens_stays_closed_until_one_does(signed_in, opened):
    address, page = opened("secret", good_pfx=pfx("good"), other_pfx=pfx("other", "another"))
    assert states(page) == ["read", "closed"]
    assert "The password does not open this file" in text_of(page)
    assert "Message to the sender" in text_of(page)

    page = signed_in.post(address, {"passwords": "nothing\r\nanother"}, follow=True)
    assert states(page) == ["read", "read"]
    assert "secret" not in page.content.decode()


def test_each_refusal_is_said_beside_its_file_and_the_rest_goes_on(signed_in, opened):
    address, page = opened(
        "secret", good_pfx=pfx("good"), cut_pfx=pfx("cut")[:300], page_html=b"<!DOCTYPE html><title>404</title>",
        nokey_pfx=pki.pfx(pki.issue(), "secret", key=False), empty_pfx=b"",
    )  # fmt: skip
    assert states(page) == ["read", "refused", "refused", "refused", "refused"]
    for words in ("stops too early", "web page", "holds no private key", "it is empty"):
        assert words in text_of(page)
    signed_in.post(address, ticked(page))
    assert ClientCertificate.objects.count() == 1
    assert (Draft.objects.count(), SealedObject.objects.count()) == (0, 1)


def test_the_page_of_a_file_that_was_not_kept_says_so(signed_in, at, opened):
    _address, page = opened("secret", cut_pfx=pfx("cut")[:300])
    answer = signed_in.post(at("draft", page.context["rows"][0].draft.pk), {"password": "secret"}, follow=True)
    assert answer.status_code == 200
    assert "choose the file again" in text_of(answer)


def test_a_name_that_exists_is_said_beside_its_row_and_nothing_is_added(signed_in, opened, add_certificate):
    add_certificate("Bank")
    address, page = opened("secret", one_pfx=pfx("one"), two_pfx=pfx("two"))
    before = stored()

    refused = signed_in.post(address, ticked(page, one="Kept name", two="BANK"))

    assert refused.status_code == 422
    one, two = refused.context["rows"]
    assert (one.error, one.name) == ("", "Kept name")
    assert "There is already a certificate “BANK” here" in two.error
    assert "Nothing was added" in text_of(refused)
    assert stored() == before
    signed_in.post(address, ticked(page))
    assert set(ClientCertificate.objects.values_list("name", flat=True)) == {"Bank", "one", "two"}


def test_warnings_are_read_before_anything_is_added(signed_in, opened):
    expired = pki.issue("old", not_before=pki.NOW - timedelta(days=9), not_after=pki.NOW - timedelta(days=1))
    address, page = opened("secret", old_pfx=pki.pfx(expired, "secret"), new_pfx=pfx("new"))
    assert "It has expired; partners will refuse it." in text_of(page)

    refused = signed_in.post(address, ticked(page))
    assert refused.status_code == 422
    assert "Read the warnings and tick the box" in text_of(refused)
    assert not ClientCertificate.objects.exists()

    signed_in.post(address, {**ticked(page), "confirmed": "on"})
    assert ClientCertificate.objects.count() == 2


def test_the_same_certificate_is_not_ticked_a_second_time(opened, add_certificate):
    file = pfx("twice")
    _address, page = opened("secret", first_pfx=file, again_pfx=file)
    assert [row.chosen for row in page.context["rows"]] == [True, False]
    assert "The same certificate as first.pfx." in text_of(page)


def test_what_needs_no_password_is_open_before_one_is_asked_for(signed_in, send):
    chain = ISSUING.certificate.public_bytes(Encoding.PEM)
    address = send(bare_pfx=pfx("bare", "", certificates=[]), locked_pfx=pfx("locked"), chain_pem=chain)
    page = signed_in.get(address)
    assert states(page) == ["read", "waiting", "tracked"]
    assert [link["subject"] for link in page.context["rows"][0].version.chain]
    assert Event.objects.filter(action="certificate.refused").count() == 0


def test_a_chain_beside_them_completes_those_that_lack_it(signed_in, opened):
    chain = ISSUING.certificate.public_bytes(Encoding.PEM)
    address, page = opened("secret", a_pfx=pfx("a", certificates=[]), b_pfx=pfx("b", certificates=[]), chain_pem=chain)
    assert states(page) == ["read", "read", "tracked"]
    assert [row.chosen for row in page.context["rows"]] == [True, True, False]
    assert "are not part of this chain" not in text_of(page)
    signed_in.post(address, ticked(page))
    assert [len(v.chain) for v in Version.objects.all()] == [1, 1]


def test_of_several_keys_in_a_file_one_is_chosen_on_its_own_page(signed_in, opened):
    two = [pki.issue(cn, authority=ISSUING) for cn in ("first", "second")]
    text = b"".join(one.key_pem + one.certificate_pem for one in two)
    address, page = opened("secret", two_pem=text, one_pfx=pfx("one"))
    assert states(page) == ["several", "read"]
    signed_in.post(address, ticked(page))
    # The one that waits for a choice stays.
    left = Draft.objects.get()
    assert left.choices
    assert "Choose one" in text_of(signed_in.get(address))


def test_two_passwords_open_a_file_whose_key_has_its_own(opened):
    _address, page = opened(PASSWORD, "inner", java_pfx=entry_password_file(pki.issue(), "inner"))
    assert states(page) == ["read"]


def test_many_files_are_opened_part_by_part_and_every_one_once(signed_in, send, monkeypatch):
    monkeypatch.setattr(views, "A_PART", 0.0)
    address = send(**{f"c{n}_pfx": pfx(f"c{n}", "right" if n else "wrong") for n in range(4)})
    form = {"passwords": "right"}
    seen = []
    for _part in range(4):
        page = signed_in.post(address, form, headers={"HX-Request": "true"})
        assert page.status_code == 200
        seen.append(states(page).count("read"))
        after = page.context["after"]
        form["after"] = "" if after is None else str(after)
    assert seen == [0, 1, 2, 3]
    assert after is None
    assert Event.objects.filter(action="certificate.refused").count() == 1


def test_a_busy_machine_leaves_a_file_for_the_next_part(signed_in, send, monkeypatch, owner, environment):
    address = send(a_pfx=pfx("a"), b_pfx=pfx("b"))
    real, calls = drafts.read_draft, []

    def busy_once(**given):
        calls.append(given["draft"].file_name)
        if len(calls) == 2:
            raise Refusal("busy")
        return real(**given)

    monkeypatch.setattr(drafts, "read_draft", busy_once)
    signed_in.post(address, {"passwords": "secret"}, headers={"HX-Request": "true"})
    page = signed_in.post(address, {"passwords": "secret", "after": "0"}, headers={"HX-Request": "true"})
    assert states(page) == ["read", "read"]
    assert calls == ["a.pfx", "b.pfx", "b.pfx"]


def test_cancelling_forgets_every_file(signed_in, opened):
    address, _page = opened("secret", a_pfx=pfx("a"), b_pfx=pfx("b", "other"))
    answer = signed_in.post(address, {"cancel": "yes"}, follow=True)
    assert "Cancelled; nothing was added." in text_of(answer)
    assert stored() == (0, 0, 0, 0, 0)


def test_a_batch_is_its_persons_and_its_sessions_alone(send, person_with, owner):
    address = send(a_pfx=pfx("a"))
    another_browser = Client()
    another_browser.force_login(owner)
    for stranger in (person_with("editor"), another_browser):
        answer = stranger.get(address, follow=True)
        assert "a.pfx" not in text_of(answer)
        assert "choose the files again" in text_of(answer)
    assert person_with("viewer").get(address).status_code == 403


def test_the_page_asks_the_database_as_often_for_many_files_as_for_few(signed_in, opened):
    counts = []
    for number in (2, 12):
        files = {f"c{n}_pfx": pfx(f"of-{number}-{n}") for n in range(number)}
        address, _page = opened("secret", **files)
        with CaptureQueriesContext(connection) as captured:
            signed_in.get(address)
        counts.append(len(captured))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "Choose the .pfx or .p12 files."),
        ([b"0"] * (batches.MAX_IN_A_BATCH + 1), "at most 60 go at once"),
        ([b"0" * 1_500_000] * 2, "more than 2 MiB together"),
    ],
    ids=["none", "too many", "too large"],
)
def test_too_many_or_too_large_files_are_refused_before_any_is_kept(files, words, signed_in, at):
    answer = signed_in.post(at("certificates-many"), {"file": [upload(file) for file in files]})
    assert answer.status_code == 422
    assert words in error_beside(answer, "file").replace("\u00a0", " ")
    assert stored() == (0, 0, 0, 0, 0)


def test_of_many_large_files_no_more_is_held_in_memory_than_any_form_takes():
    handler = uploads.BoundedMemoryUploadHandler()
    kept = 0
    for _file in range(100):
        handler.new_file("file", "large.pfx", "application/x-pkcs12", None)
        handler.receive_data_chunk(b"0" * 1024 * 1024, 0)
        kept += len(handler.file_complete(1024 * 1024).read())
    assert kept == uploads.KEPT_IN_ALL


def test_more_passwords_than_are_tried_are_refused_and_nothing_is_read(signed_in, send):
    address = send(a_pfx=pfx("a"))
    page = signed_in.post(address, {"passwords": "\n".join(f"p{n}" for n in range(11))})
    assert page.status_code == 422
    assert "These are 11 passwords; at most 10 are tried at once." in text_of(page)
    assert states(page) == ["waiting"]


def test_one_person_cannot_keep_the_reader_busy_for_ever(signed_in, at, monkeypatch):
    monkeypatch.setattr(drafts, "FILES_IN_A_WHILE", 3)
    for _time in range(3):
        signed_in.post(at("certificate-new"), {"file": upload(b"nothing")})
    refused = signed_in.post(at("certificate-new"), {"file": upload(pfx("late")), "password": "secret"})
    assert refused.status_code == 422
    assert "You have uploaded 3 files within five minutes" in error_beside(refused, "file")
    assert not Draft.objects.exists()


def test_what_one_person_uploaded_is_not_anothers_matter(signed_in, at, monkeypatch, person_with):
    monkeypatch.setattr(drafts, "FILES_IN_A_WHILE", 1)
    signed_in.post(at("certificate-new"), {"file": upload(b"nothing")})
    answer = person_with("editor").post(at("certificate-new"), {"file": upload(pfx("other")), "password": "secret"})
    assert answer.status_code == 302


def test_a_draft_of_a_batch_is_used_once(signed_in, opened, environment, owner):
    _address, page = opened("secret", a_pfx=pfx("a"))
    draft = page.context["rows"][0].draft
    actions.add_batch(chosen={draft: "Once"}, confirmed=False, by=owner)
    with pytest.raises(Refused, match="already confirmed"):
        actions.add_batch(chosen={draft: "Twice"}, confirmed=False, by=owner)
    assert ClientCertificate.objects.count() == 1
