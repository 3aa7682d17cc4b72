"""The pages of the Network tab: the whole way of a file, bad input beside its field, and who may what."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from certificates import actions, current, listing, pkcs12, spelled
from certificates.models import ClientCertificate, Draft, Pin
from environments import actions as environments
from environments.models import Person
from tests import crowd, pki
from tests.certificates.conftest import error_beside, stored, text_of, upload
from tests.certificates.made import entry_password_file

pytestmark = pytest.mark.django_db


# --- The way of one file ----------------------------------------------------------------------------------------------


def test_a_file_goes_from_upload_over_preview_to_the_list(signed_in, at, make_file):
    response = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"}, follow=True)
    preview = text_of(response)
    assert "client.example.com" in preview
    assert "Partner CA" in preview
    assert response.context["form"]["name"].value() == "client.example.com"
    address = response.redirect_chain[-1][0]

    response = signed_in.post(address, {"name": "Bank payments"}, follow=True)

    assert "Added Bank payments." in text_of(response)
    assert "Bank payments" in text_of(signed_in.get(at("network")))
    assert not Draft.objects.exists()


def test_the_name_typed_at_the_upload_stands_in_the_preview(signed_in, at, make_file):
    given = {"file": upload(make_file()), "password": "secret", "name": "Bank & sons"}

    response = signed_in.post(at("certificate-new"), given, follow=True)

    assert response.context["form"]["name"].value() == "Bank & sons"


def test_a_guessed_name_is_free(signed_in, at, make_file, add_certificate):
    add_certificate("client.example.com")

    response = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"}, follow=True)

    assert response.context["form"]["name"].value() == "client.example.com (2)"


def test_a_wrong_password_keeps_the_file_and_what_was_typed_and_asks_again(signed_in, at, make_file):
    given = {"file": upload(make_file()), "password": "wrong-one", "name": "Bank"}
    response = signed_in.post(at("certificate-new"), given)

    assert response.status_code == 422
    assert "does not open this file" in error_beside(response, "password")
    assert "bank.pfx" in text_of(response)
    assert "is kept here for 15 minutes; only the password is asked again" in text_of(response)
    assert b"wrong-one" not in response.content
    draft = Draft.objects.get()
    assert response.context["form"]["name"].value() == "Bank"

    assert "only the password is asked again" in text_of(signed_in.get(at("draft", draft.pk)))
    again = signed_in.post(at("draft", draft.pk), {"password": "still wrong", "name": "Bank"})
    assert again.status_code == 422
    response = signed_in.post(at("draft", draft.pk), {"password": "secret", "name": "Bank"}, follow=True)
    assert response.context["form"]["name"].value() == "Bank"
    assert "Add certificate" in text_of(response)


def test_a_warning_has_to_be_ticked_and_the_name_stays(signed_in, at, make_file):
    expired = make_file(not_before=pki.NOW - timedelta(days=9), not_after=pki.NOW - timedelta(days=1))
    response = signed_in.post(at("certificate-new"), {"file": upload(expired), "password": "secret"}, follow=True)
    address = response.redirect_chain[-1][0]
    assert "1 warning It has expired" in text_of(response)

    response = signed_in.post(address, {"name": "Old one"})
    assert response.status_code == 422
    assert "tick the box" in error_beside(response, "confirmed")
    assert response.context["form"]["name"].value() == "Old one"
    assert not ClientCertificate.objects.exists()

    signed_in.post(address, {"name": "Old one", "confirmed": "on"})
    assert "Expired" in text_of(signed_in.get(at("network")))


def test_a_renewal_is_shown_beside_the_version_in_use_and_kept_ready(signed_in, at, make_file, add_certificate):
    certificate = add_certificate("Bank", cn="bank-client", sans=["a.example.com"])
    file = upload(make_file("bank-client-2", sans=["b.example.com"], key="rsa-2048"))

    response = signed_in.post(
        at("certificate-renew", certificate.pk), {"file": file, "password": "secret"}, follow=True
    )
    shown = text_of(response)
    for words in ("another subject", "adds b.example.com; drops a.example.com", "new key of another kind"):
        assert words in shown
    response = signed_in.post(response.redirect_chain[-1][0], {"use": "ready"}, follow=True)

    assert "Version 2 is kept ready." in text_of(response)
    certificate.refresh_from_db()
    assert certificate.in_use.number == 1
    signed_in.post(at("version-use", certificate.pk, 2))
    certificate.refresh_from_db()
    assert certificate.in_use.number == 2


def test_the_same_file_as_renewal_is_refused_beside_the_file_and_forgotten(signed_in, at, make_file, add_certificate):
    certificate, file = add_certificate(), make_file()
    address = at("certificate-renew", certificate.pk)
    signed_in.post(signed_in.post(address, {"file": upload(file), "password": "secret"}).url, {"use": "now"})

    response = signed_in.post(address, {"file": upload(file), "password": "secret"})

    assert response.status_code == 422
    assert "version 2, which is already here" in error_beside(response, "file")
    assert not Draft.objects.exists()


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        ("nothing", "file", "Choose the .pfx or .p12 file."),
        ("pem", "file", "private key but no certificate"),
        ("zip", "file", "zip archive"),
        ("empty", "file", "it is empty"),
        ("two MiB", "file", "its size in bytes is 2,097,152"),
        ("no key", "file", "holds no private key"),
        ("nul", "password", "NUL"),
    ],
)
def test_bad_input_is_one_sentence_beside_its_field_and_the_name_stays(bad, field, words, signed_in, at, make_file):
    files = {
        "pem": pki.issue().key_pem,
        "zip": b"PK\x03\x04" + bytes(100),
        "empty": b"",
        "two MiB": b"\x30" * (2 * 1024 * 1024),
        "no key": pki.pfx(pki.issue(), "secret", key=False),
        "nul": make_file(),
    }
    given = {"password": "se\0cret" if bad == "nul" else "secret", "name": "Kept"}
    if bad in files:
        given["file"] = upload(files[bad])

    response = signed_in.post(at("certificate-new"), given)

    assert response.status_code == 422
    assert words in error_beside(response, field)
    assert response.content.decode().count('class="error"') == 1
    assert response.context["form"]["name"].value() == "Kept"
    assert not ClientCertificate.objects.exists()
    assert stored() == ((0, 0, 0, 1, 1) if bad == "nul" else (0, 0, 0, 0, 0))


def test_an_upload_without_the_vaults_key_says_so_and_a_kept_file_waits_for_it(
    signed_in, at, make_file, settings, tmp_path
):
    given = {"file": upload(make_file()), "password": "wrong", "name": "Kept"}
    assert signed_in.post(at("certificate-new"), given).status_code == 422
    kept = at("draft", Draft.objects.get().pk)
    known = settings.VAULT_KEYRING
    settings.VAULT_KEYRING = {"name": "local", "path": str(tmp_path / "none.json")}

    fresh = signed_in.post(at("certificate-new"), given | {"file": upload(make_file())})
    again = signed_in.post(kept, {"password": "secret", "name": "Kept"})

    assert (fresh.status_code, again.status_code) == (422, 422)
    assert "none.json" in error_beside(fresh, "file")
    assert "none.json" in error_beside(again, "password")
    settings.VAULT_KEYRING = known
    assert signed_in.post(kept, {"password": "secret", "name": "Kept"}).status_code == 302


def test_key_certificate_and_chain_come_together_as_files(signed_in, at):
    issued = pki.issue("client.example.com", authority=pki.make_authority("Partner CA"))
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = [upload(key, "client.key"), upload(issued.certificate_pem, "client.crt")]
    files += [upload(one.public_bytes(Encoding.PEM), "chain.pem") for one in issued.chain]

    preview = signed_in.post(at("certificate-new"), {"file": files, "password": ""}, follow=True)

    assert "client.key, client.crt, chain.pem" in text_of(preview)
    assert "Partner CA" in text_of(preview)
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Bank"})
    assert ClientCertificate.objects.get().in_use.chain[0]["subject"].startswith("CN=Partner CA")


def test_text_from_a_mail_is_taken_as_a_file(signed_in, at):
    issued = pki.issue("client.example.com")
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    text = (key + issued.certificate_pem).decode()
    preview = signed_in.post(at("certificate-new"), {"text": text, "password": ""}, follow=True)
    assert "client.example.com" in text_of(preview)

    nothing = signed_in.post(at("certificate-new"), {"text": "", "password": ""})
    assert error_beside(nothing, "file") == "Choose the .pfx or .p12 file."


def test_of_several_keys_somebody_chooses_without_the_password(signed_in, at):
    first, second = pki.issue("first.example.com"), pki.issue("second.example.com")
    keys = [one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for one in (first, second)]
    both = upload(keys[0] + first.certificate_pem + keys[1] + second.certificate_pem, "both.pem")
    response = signed_in.post(at("certificate-new"), {"file": both, "password": "", "name": "Typed"}, follow=True)
    address = response.redirect_chain[-1][0]
    assert "2 certificates" in text_of(response)
    assert "first.example.com" in text_of(response)

    nothing = signed_in.post(address, {"name": "Typed"})
    assert nothing.status_code == 422
    assert "Choose one of the certificates." in text_of(nothing)
    fingerprint = hashlib.sha256(second.certificate_der).hexdigest()
    preview = signed_in.post(address, {"sha256": fingerprint, "name": "Typed"}, follow=True)
    assert preview.context["form"]["name"].value() == "Typed"
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Second"})
    assert ClientCertificate.objects.get().in_use.common_name == "second.example.com"
    assert not Draft.objects.exists()


def test_the_password_of_the_key_is_asked_for_where_it_has_one_of_its_own(signed_in, at):
    file = upload(entry_password_file(pki.issue("client.example.com"), "another"))
    refused = signed_in.post(at("certificate-new"), {"file": file, "password": "Passw0rd!"})
    assert "the private key inside has another one" in error_beside(refused, "password")
    address = at("draft", Draft.objects.get().pk)

    again = signed_in.post(address, {"password": "Passw0rd!", "entry_password": "wrong"})
    assert 'name="entry_password"' in again.content.decode()
    preview = signed_in.post(address, {"password": "Passw0rd!", "entry_password": "another"}, follow=True)
    assert "What is in the file" in text_of(preview)


@pytest.mark.parametrize(
    ("content", "password", "command"),
    [
        (b"\xfe\xed\xfe\xed" + bytes(40), "", "keytool -importkeystore -srckeystore bank.pfx"),
        (pki.pfx(pki.issue(), "secret", key=False), "secret", "openssl pkcs12 -export"),
        (pki.pfx(pki.issue(), "secret"), "wrong", "openssl pkcs12 -in bank.pfx -noout -info"),
    ],
    ids=["JKS", "no key", "wrong password"],
)
def test_a_refusal_has_a_message_to_the_sender_with_the_command(content, password, command, signed_in, at):
    refused = signed_in.post(at("certificate-new"), {"file": upload(content), "password": password})
    assert refused.status_code == 422
    assert "Message to the sender" in text_of(refused)
    assert command in text_of(refused)


def test_a_key_that_is_in_use_elsewhere_is_named_as_far_as_somebody_may_see_it(
    person_with, at, owner, environment, add_certificate
):
    key = pki.make_key()
    first = pki.pfx(pki.issue("first", key=key), "secret")
    hidden = environments.create_application(name="Hidden", by=owner)
    there = environments.create_environment(application=hidden, name="Production", by=owner)
    actions.add(environment=there, name="Theirs", identity=pkcs12.read(first, "secret"), by=owner)
    second = {"file": upload(pki.pfx(pki.issue("second", key=key), "secret")), "password": "secret"}

    preview = person_with("editor").post(at("certificate-new"), second, follow=True)
    assert "The same private key is also in use: elsewhere." in text_of(preview)
    assert "Hidden" not in text_of(preview)


def test_a_name_that_exists_is_refused_beside_the_name_and_the_preview_stays(signed_in, at, make_file, add_certificate):
    add_certificate("Bank")
    response = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"})

    refused = signed_in.post(response.url, {"name": "BANK"})

    assert refused.status_code == 422
    assert "There is already a certificate “BANK” here" in error_beside(refused, "name")
    assert signed_in.post(response.url, {"name": "Bank 2"}).status_code == 302


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "a\u202eb"])
def test_a_name_that_cannot_be_one_is_refused_beside_the_name(name, signed_in, at, make_file):
    response = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"})

    refused = signed_in.post(response.url, {"name": name})

    assert refused.status_code == 422
    assert error_beside(refused, "name")
    assert not ClientCertificate.objects.exists()


def test_another_session_does_not_see_a_draft(signed_in, at, make_file, owner):
    address = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"}).url
    elsewhere = Client()
    elsewhere.force_login(owner)

    response = elsewhere.get(address, follow=True)

    assert "choose the file again" in text_of(response)
    assert "Add certificate" not in text_of(response)


def test_a_second_click_on_confirm_adds_nothing_and_says_so(signed_in, at, make_file):
    address = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"}).url
    signed_in.post(address, {"name": "Bank"})

    response = signed_in.post(address, {"name": "Bank again"}, follow=True)

    assert "already confirmed" in text_of(response)
    assert ClientCertificate.objects.count() == 1


def test_cancelling_forgets_the_upload(signed_in, at, make_file):
    address = signed_in.post(at("certificate-new"), {"file": upload(make_file()), "password": "secret"}).url

    signed_in.post(address, {"cancel": "yes"})

    assert stored() == (0, 0, 0, 0, 0)


# --- The list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["name", "common name", "alternative name", "pin", "serial", "sha1", "sha256", "colons"]
)
def test_a_search_finds_by_every_mark_of_a_certificate(how, signed_in, at, add_certificate, pin):
    wanted = add_certificate("Bank payments", cn="invoicing-acc", sans=["mutual.example.com"])
    add_certificate("Tax", cn="tax-client")
    pin("Billing.PaymentService", wanted)
    version = wanted.in_use
    query = {
        "name": "bank PAY",
        "common name": "invoicing",
        "alternative name": "mutual.example",
        "pin": "billing.pay",
        "serial": f"0x{version.serial}",
        "sha1": version.sha1.upper(),
        "sha256": version.sha256[:12],
        "colons": ":".join(version.sha256[i : i + 2] for i in range(0, 64, 2)),
    }[how]

    response = signed_in.get(at("network"), {"q": query})

    assert [row.certificate.name for row in response.context["rows"]] == ["Bank payments"]
    assert "1 of 2" in text_of(response)


def test_a_search_without_a_result_offers_everything(signed_in, at, add_certificate):
    add_certificate()

    shown = text_of(signed_in.get(at("network"), {"q": "<script>"}))

    assert "Nothing here matches “<script>”" in shown
    assert "Show all" in shown


def test_a_row_can_be_opened_by_link_and_by_keyboard(signed_in, at, add_certificate):
    certificate = add_certificate()

    page = signed_in.get(at("network")).content.decode()

    assert f'data-href="{certificate.get_absolute_url()}" tabindex="0"' in page
    assert f'<a href="{certificate.get_absolute_url()}">' in page


@pytest.mark.parametrize("search", ["", "example.com"])
def test_the_network_page_asks_the_database_as_often_for_a_thousand_certificates_as_for_ten(
    search, signed_in, at, environment, running_app
):
    def queries() -> tuple[int, int]:
        """On the first look after a change, which counts anew, and on the next."""
        found = []
        for _look in range(2):
            with CaptureQueriesContext(connection) as captured:
                assert signed_in.get(at("network"), {"q": search}).status_code == 200
            found.append(len(captured))
        return found[0], found[1]

    crowd.fill(environment, 10)
    few = queries()
    crowd.fill(environment, 990)

    assert queries() == few
    assert few[1] <= 25


def test_a_long_list_is_turned_fifty_rows_at_a_time_and_keeps_the_search(signed_in, at, environment):
    crowd.fill(environment, 120)
    first = signed_in.get(at("network"))
    assert [row.number for row in first.context["rows"]] == list(range(1, 51))
    assert "Page 1 of 3" in text_of(first)
    third = signed_in.get(at("network"), {"page": "3", "pins": "2"})
    assert [row.number for row in third.context["rows"]] == list(range(101, 121))
    assert len(third.context["pins"].items) == 50
    page = third.content.decode()
    assert 'href="?page=2&amp;pins=2"' in page, "turning one list leaves the other where it is"
    assert 'href="?page=3&amp;pins=3#pins"' in page
    assert [row.number for row in signed_in.get(at("network"), {"page": "99"}).context["rows"]][-1] == 120
    assert signed_in.get(at("network"), {"page": "<script>"}).context["certificates"].number == 1
    found = signed_in.get(at("network"), {"q": "client-1"})
    assert "32 of 120" in text_of(found)
    assert [row.number for row in found.context["rows"]][:3] == [1, 10, 11]
    many = signed_in.get(at("network"), {"q": "example.com", "page": "2"})
    assert "120 of 120" in text_of(many)
    assert 'href="?q=example.com&amp;page=3"' in many.content.decode()


def test_a_move_from_a_later_page_leads_to_the_page_where_it_is_now(signed_in, at, environment):
    crowd.fill(environment, 60)
    last = environment.certificates.get(position=60)
    assert signed_in.post(at("certificate-move", last.pk), {"up": "59"}).url == f"{at('network')}?page=2#up-{last.pk}"
    assert signed_in.post(at("certificate-move", last.pk), {"up": "1"}).url == f"{at('network')}#up-{last.pk}"
    arrows = signed_in.get(at("network")).content.decode()
    assert re.search(rf'id="up-{last.pk}" name="up" value="0" disabled', arrows)
    assert "disabled" not in arrows.partition(f'id="down-{last.pk}"')[2].partition(">")[0]


def test_a_search_looks_in_its_own_environment_only_and_knows_letters_of_any_language(
    signed_in, at, environment, owner, add_certificate
):
    other = environments.create_environment(application=environment.application, name="Other", by=owner)
    crowd.fill(other, 5, word="Gemeinsam")
    add_certificate("Überweisung", cn="zahlung")
    there = other.certificates.first().in_use
    for query in ("gemeinsam", "host-1", there.sha256, there.serial):
        assert signed_in.get(at("network"), {"q": query}).context["rows"] == []
    for query in ("ÜBERWEIS", "über", "ZAHLUNG"):
        assert [row.name for row in signed_in.get(at("network"), {"q": query}).context["rows"]] == ["Überweisung"]
    for query in ("%", "_", "\\", "0x", "::", "9" * 200, "'"):
        assert signed_in.get(at("network"), {"q": query}).context["rows"] == []


def test_an_earlier_version_is_found_too(signed_in, at, owner, add_certificate, make_file):
    certificate = add_certificate("Bank")
    old = certificate.in_use
    actions.renew(certificate=certificate, identity=pkcs12.read(make_file("renewed"), "secret"), in_use=True, by=owner)
    for query in (old.sha256, old.serial, "renewed"):
        assert [row.name for row in signed_in.get(at("network"), {"q": query}).context["rows"]] == ["Bank"]


def test_a_certificate_with_many_pins_names_six_and_counts_the_rest(signed_in, at, environment):
    crowd.fill(environment, 1, pins=9)
    page = signed_in.get(at("network"))
    assert "and 3 more" in text_of(page)
    assert signed_in.get(at("certificates-csv")).getvalue().decode().count("host-") == 9


# --- All certificates -------------------------------------------------------------------------------------------------


def test_all_certificates_stand_on_one_page_the_next_to_expire_first(client, owner, person_with, environment):
    payroll = environments.create_application(name="Payroll", by=owner)
    other = environments.create_environment(application=payroll, name="Live", production=True, by=owner)
    gone = environments.create_environment(application=payroll, name="Gone", by=owner)
    crowd.fill(environment, 30)
    crowd.fill(other, 40, word="=pay")
    crowd.fill(gone, 3, word="archived")
    environments.archive_environment(environment=gone, by=owner)
    client.force_login(owner)

    page = client.get("/certificates/")
    ends = [row.version.not_after for row in page.context["rows"]]
    assert ends == sorted(ends)
    assert len(ends) == 50
    assert "Client certificates 70" in text_of(page)
    assert "Payroll / Live Production" in text_of(page)
    assert "archived 1" not in text_of(page) + text_of(client.get("/certificates/?page=2"))
    assert "40 of 70" in text_of(client.get("/certificates/", {"q": "=pay"}))
    assert client.get("/certificates/", {"q": "archived"}).context["rows"] == []
    sheet = list(csv.reader(io.StringIO(client.get("/certificates.csv").getvalue().decode("utf-8-sig"))))
    assert len(sheet) == 71
    assert sheet[0][:2] == ["Application", "Environment"]
    assert not any(cell.startswith("=") for row in sheet for cell in row)

    viewer = person_with("viewer")
    assert "Client certificates 30" in text_of(viewer.get("/certificates/"))
    assert viewer.get("/certificates/", {"q": "=pay"}).context["rows"] == []
    assert viewer.get("/certificates/", {"q": other.certificates.first().in_use.sha256}).context["rows"] == []
    assert b"Payroll" not in viewer.get("/certificates.csv").getvalue()


def test_somebody_without_any_environment_finds_an_empty_page(client, environment):
    crowd.fill(environment, 2)
    client.force_login(Person.objects.create_user("nobody"))
    assert "No client certificates yet" in text_of(client.get("/certificates/"))


def test_all_certificates_ask_as_often_for_many_as_for_few(client, owner, environment):
    client.force_login(owner)

    def queries() -> list[int]:
        found = []
        for query in ("", "?page=2", "?q=example.com", "?q=nothing-like-it", "?q=" + "ab" * 20):
            with CaptureQueriesContext(connection) as captured:
                assert client.get(f"/certificates/{query}").status_code == 200
            found.append(len(captured))
        return found

    crowd.fill(environment, 110)
    few = queries()
    crowd.fill(environment, 900)
    assert queries() == few
    assert max(few) <= 14


def test_moving_is_a_button_and_not_offered_while_searching(signed_in, at, add_certificate):
    first, second = add_certificate("A"), add_certificate("B")

    assert "Move up: B" in signed_in.get(at("network")).content.decode()
    assert "Move up: B" not in signed_in.get(at("network"), {"q": "B"}).content.decode()
    signed_in.post(at("certificate-move", second.pk), {"to": "1"})

    assert list(ClientCertificate.objects.values_list("name", flat=True)) == ["B", "A"]
    response = signed_in.post(at("certificate-move", second.pk), {"down": "2"})
    assert response.url.endswith(f"#down-{second.pk}")
    assert "Moved B to position 2." in text_of(signed_in.get(at("network")))
    assert signed_in.post(at("certificate-move", first.pk), {"to": "-1"}).status_code == 302


def test_the_csv_has_every_certificate_and_no_cell_is_a_formula(signed_in, at, add_certificate):
    add_certificate('=HYPERLINK("http://evil.example")', cn="+cmd")
    add_certificate("Bank", cn="-1")

    response = signed_in.get(at("certificates-csv"))
    rows = list(csv.reader(io.StringIO(response.getvalue().decode("utf-8-sig"))))

    assert response["Content-Disposition"].startswith("attachment")
    assert [row[1] for row in rows] == ["Name", '\'=HYPERLINK("http://evil.example")', "Bank"]
    assert rows[1][2] == "'+cmd"
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


@pytest.mark.parametrize("cell", ["=1", "+1+1", "-1+1", "@x", "\t=1", "\r=1", " =1", "＝1", "|x"])
def test_what_a_spreadsheet_may_take_for_a_formula_begins_with_an_apostrophe(cell):
    assert listing.neutral(cell) == f"'{cell}"


def test_plain_numbers_and_words_stay_as_they_are():
    assert [listing.neutral(cell) for cell in ("12", "-12", "Bank", "")] == ["12", "-12", "Bank", ""]


@pytest.mark.parametrize(
    ("kwargs", "pinned", "words"),
    [
        ({}, True, "OK"),
        ({}, False, "Not pinned"),
        ({"eku": ("serverAuth",)}, True, "Not for clients"),
        ({"not_before": pki.NOW - timedelta(days=300), "not_after": pki.NOW + timedelta(days=12)}, True, "Expiring"),
        ({"not_before": pki.NOW - timedelta(days=9), "not_after": pki.NOW - timedelta(days=1)}, True, "Expired"),
        ({"not_before": pki.NOW + timedelta(days=9)}, True, "Not yet valid"),
    ],
)
def test_the_status_is_the_worst_of_what_is_known(kwargs, pinned, words, add_certificate, owner):
    certificate = add_certificate(**kwargs)

    assert listing.status_of(certificate, pinned=pinned).text == words
    actions.disable(certificate=certificate, by=owner)
    assert listing.status_of(certificate, pinned=pinned).text == "Disabled"


# --- A certificate ----------------------------------------------------------------------------------------------------


def test_a_certificates_page_shows_its_facts_chain_pins_and_activity(signed_in, at, add_certificate, pin):
    certificate = add_certificate("Bank", cn="bank-client")
    pin("api.example.com", certificate)

    shown = text_of(signed_in.get(at("certificate", certificate.pk)))

    fingerprint = ":".join(certificate.in_use.sha256[i : i + 2] for i in range(0, 64, 2))
    for words in ("bank-client", fingerprint, "Partner CA root", "api.example.com", "Added by grace", "Chosen"):
        assert words in shown


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (r"CN=Bank\, Inc,O=Bank", ["CN=Bank, Inc", "O=Bank"]),
        (r"CN=a\\,O=b", ["CN=a\\", "O=b"]),
        (r"CN=M\c3\bcnchen\+1", ["CN=München+1"]),
        ("", []),
    ],
)
def test_a_distinguished_name_is_read_without_its_escapes(name, parts):
    assert spelled.name_parts(name) == parts


def test_a_missing_issuer_is_named_in_the_chain(signed_in, at, make_file, owner, environment):
    above = pki.make_authority("Missing Root")
    issued = pki.issue(authority=above)
    identity = pkcs12.read(pki.pfx(issued, "secret", certificates=()), "secret")
    certificate = actions.add(environment=environment, name="Bank", identity=identity, by=owner)

    assert "Missing Root not in the file" in text_of(signed_in.get(at("certificate", certificate.pk)))


def test_switching_off_says_what_is_left_out_and_switching_on_brings_it_back(signed_in, at, add_certificate, pin):
    certificate = add_certificate("Bank")
    pin("api.example.com", certificate)

    response = signed_in.post(at("certificate-switch", certificate.pk), {"enabled": "no"}, follow=True)
    assert "The next apply leaves it and its pin out." in text_of(response)
    assert "disabled, so this pin is left out" in text_of(signed_in.get(at("network")))

    signed_in.post(at("certificate-switch", certificate.pk), {"enabled": "yes"})
    certificate.refresh_from_db()
    assert certificate.enabled


def test_renaming_keeps_what_was_typed_where_the_name_is_taken(signed_in, at, add_certificate):
    add_certificate("Bank")
    certificate = add_certificate("Tax")

    response = signed_in.post(at("certificate-rename", certificate.pk), {"name": "bank", "contact": "Anna"})

    assert response.status_code == 422
    assert "already a certificate" in error_beside(response, "name")
    assert response.context["form"]["contact"].value() == "Anna"


def test_what_is_known_of_the_partner_stands_on_the_page_and_is_no_change(signed_in, at, add_certificate, owner):
    certificate = add_certificate("Bank")
    running = current.content(certificate.environment).digest
    known = {
        "name": "Bank", "contact": "Anna", "contact_mail": "pki@bank.example", "how_to_renew": "By mail",
        "ticket_queue": "BANK-PKI", "identified_by": ["issuer", "subject"], "responsible": owner.pk, "notes": "Slow",
    }  # fmt: skip
    assert signed_in.post(at("certificate-rename", certificate.pk), known).status_code == 302

    page = text_of(signed_in.get(at("certificate", certificate.pk)))
    for words in ("pki@bank.example", "BANK-PKI", "its subject, its issuer", "Responsible here Grace", "Slow"):
        assert words in page
    assert current.content(certificate.environment).digest == running

    refused = signed_in.post(at("certificate-rename", certificate.pk), known | {"contact_mail": "nobody"})
    assert refused.status_code == 422
    assert refused.context["form"]["notes"].value() == "Slow"


def test_of_two_who_edit_at_once_the_second_sees_what_the_first_saved(signed_in, at, add_certificate):
    certificate = add_certificate("Bank")
    address = at("certificate-rename", certificate.pk)
    mine = signed_in.get(address).context["form"]
    theirs = {"name": "Bank", "contact": "Anna, 555-0100", "how_to_renew": "", "shown": mine["shown"].value()}
    signed_in.post(address, theirs)

    typed = {"name": "Bank", "contact": "Bert", "how_to_renew": "By ticket", "shown": mine["shown"].value()}
    refused = signed_in.post(address, typed)

    assert refused.status_code == 422
    assert "“Anna, 555-0100”" in error_beside(refused, "contact")
    assert refused.context["form"]["contact"].value() == "Bert"
    assert ClientCertificate.objects.get().contact == "Anna, 555-0100"

    again = signed_in.post(address, {**typed, "shown": refused.context["form"]["shown"].value()})
    assert again.status_code == 302
    assert ClientCertificate.objects.get().contact == "Bert"
    assert ClientCertificate.objects.get().how_to_renew == "By ticket"


def test_removing_is_refused_while_pinned_and_says_where(signed_in, at, add_certificate, pin):
    certificate = add_certificate("Bank")
    pinned = pin("api.example.com", certificate)

    assert "api.example.com" in text_of(signed_in.get(at("certificate-remove", certificate.pk)))
    response = signed_in.post(at("certificate-remove", certificate.pk))
    assert response.status_code == 422
    assert "is pinned to api.example.com" in text_of(response)

    signed_in.post(at("pin-remove", pinned.pk))
    response = signed_in.post(at("certificate-remove", certificate.pk), follow=True)
    assert "Removed Bank." in text_of(response)
    assert "Removed by Grace" in text_of(signed_in.get(at("certificate", certificate.pk)))
    assert signed_in.post(at("certificate-switch", certificate.pk)).status_code == 404


def test_the_same_certificate_elsewhere_is_shown_to_those_who_may_see_it(
    signed_in, at, make_file, environment, owner, person_with
):
    from environments import actions as environments

    other = environments.create_application(name="Payroll", by=owner)
    place = environments.create_environment(application=other, name="Production", by=owner)
    identity = pkcs12.read(make_file(), "secret")
    here = actions.add(environment=environment, name="Bank", identity=identity, by=owner)
    actions.add(environment=place, name="Bank there", identity=identity, by=owner)

    assert "Payroll / Production · Bank there" in text_of(signed_in.get(at("certificate", here.pk)))
    assert "Payroll" not in text_of(person_with("viewer").get(at("certificate", here.pk)))


# --- Pins -------------------------------------------------------------------------------------------------------------


def test_a_pin_is_saved_from_an_address_and_told_as_it_is_exported(signed_in, at, add_certificate):
    certificate = add_certificate("Bank payments")
    given = {"target": "https://API.example.com/v2?x=1", "certificate": str(certificate.pk), "note": "v2"}

    response = signed_in.post(at("pin-new"), given, follow=True)

    assert "Pinned api.example.com to Bank payments. It is not running yet." in text_of(response)
    pin = Pin.objects.get()
    assert (pin.kind, pin.key, pin.certificate, pin.note) == ("host", "api.example.com", certificate, "v2")


def test_a_pin_started_from_a_certificate_has_it_chosen_and_returns_to_it(signed_in, at, add_certificate):
    certificate = add_certificate()
    address = f"{at('pin-new')}?certificate={certificate.pk}"
    assert signed_in.get(address).context["form"]["certificate"].value() == str(certificate.pk)

    response = signed_in.post(address, {"target": "api.example.com", "certificate": str(certificate.pk)})

    assert response.url == certificate.get_absolute_url()


def test_never_send_is_a_choice_of_its_own(signed_in, at):
    signed_in.post(at("pin-new"), {"target": "telemetry.example.com", "certificate": "never"})

    assert Pin.objects.get().certificate is None
    assert "telemetry.example.com host Never send a certificate" in text_of(signed_in.get(at("network")))


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"target": "", "certificate": "never"}, "target", "Type a service"),
        ({"target": "*.example.com", "certificate": "never", "kind": "host"}, "target", "wildcards"),
        ({"target": "a,b", "certificate": "never"}, "target", "commas"),
        ({"target": "a\0b", "certificate": "never"}, "target", "invisible"),
        ({"target": "taken.example.com", "certificate": "never"}, "target", "already pinned here (Bank)"),
        ({"target": "api.example.com"}, "certificate", "Choose a certificate"),
        ({"target": "api.example.com", "certificate": "0" * 8}, "certificate", "of this environment"),
    ],
)
def test_a_bad_pin_is_one_sentence_beside_its_field_and_stays_typed(
    given, field, words, signed_in, at, add_certificate, pin
):
    pin("taken.example.com", add_certificate("Bank"))

    response = signed_in.post(at("pin-new"), given | {"note": "kept"})

    assert response.status_code == 422
    assert words in error_beside(response, field)
    assert response.context["form"]["note"].value() == "kept"
    assert Pin.objects.count() == 1


def test_the_editor_interprets_while_typing_and_says_what_is_exported(signed_in, at, add_certificate):
    certificate = add_certificate("Bank payments")
    given = {"target": "https://API.example.com/v2", "certificate": str(certificate.pk)}

    shown = text_of(signed_in.post(at("pin-interpret"), given))

    assert "Host api.example.com. Scheme and path removed; this runtime matches the host only." in shown
    assert "Now: it falls under any other server, which" in shown
    assert "After the next apply: api.example.com is sent Bank payments ." in shown
    assert '{"api.example.com": "certificates/bank-payments.pfx"}' in shown


def test_the_editor_says_what_is_wrong_and_which_pin_is_in_the_way(signed_in, at, add_certificate, pin):
    other = pin("api.example.com", add_certificate("Bank"))

    assert "wildcards" in text_of(signed_in.post(at("pin-interpret"), {"target": "*.example.com", "kind": "host"}))
    response = signed_in.post(at("pin-interpret"), {"target": "API.example.com"})
    assert "Already pinned here (Bank)" in text_of(response)
    assert at("pin-edit", other.pk) in response.content.decode()
    assert text_of(signed_in.get(at("pin-interpret"))) == ""


def test_what_is_typed_into_the_editor_is_not_sent_in_an_address(signed_in, at):
    page = signed_in.get(at("pin-new")).content.decode()

    assert f'hx-post="{at("pin-interpret")}"' in page
    assert "hx-get" not in page.partition("<h2")[2]


def test_what_is_only_guessed_to_be_an_identifier_is_said_to_be_one(signed_in, at):
    words = "Read as a client certificate identifier; a host has a dot."
    guessed = signed_in.post(at("pin-interpret"), {"target": "MY_S3"})
    assert words in text_of(guessed)
    assert 'class="meaning warn"' in guessed.content.decode()
    assert words not in text_of(signed_in.post(at("pin-interpret"), {"target": "MY_S3", "kind": "identifier"}))


def test_the_only_certificate_is_chosen_for_a_new_pin_and_of_two_none(signed_in, at, add_certificate):
    only = add_certificate("Bank")
    assert signed_in.get(at("pin-new")).context["form"]["certificate"].value() == str(only.pk)
    add_certificate("Tax")
    assert not signed_in.get(at("pin-new")).context["form"]["certificate"].value()


def test_an_edited_pin_shows_before_and_after(signed_in, at, add_certificate, pin):
    bank, tax = add_certificate("Bank"), add_certificate("Tax")
    pinned = pin("api.example.com", bank)
    address = f"{at('pin-interpret')}?pin={pinned.pk}"

    shown = text_of(signed_in.post(address, {"target": "api.example.com", "certificate": str(tax.pk)}))
    assert "Now: api.example.com is sent Bank. After the next apply: api.example.com is sent Tax ." in shown
    unchanged = text_of(signed_in.get(at("pin-edit", pinned.pk)))
    assert "Now: api.example.com is sent Bank." in unchanged
    assert "After the next apply" not in unchanged
    signed_in.post(at("pin-edit", pinned.pk), {"target": "api.example.com", "certificate": str(tax.pk)})

    pinned.refresh_from_db()
    assert pinned.certificate == tax


def test_removing_a_pin_warns_what_its_target_falls_under(signed_in, at, add_certificate, pin):
    pinned = pin("api.example.com", add_certificate())

    assert "may be sent this certificate whenever it accepts one" in text_of(signed_in.get(at("pin-remove", pinned.pk)))
    assert Pin.objects.exists()
    signed_in.post(at("pin-remove", pinned.pk))
    assert not Pin.objects.exists()


def test_the_last_row_says_what_any_other_server_is_sent(signed_in, at, add_certificate, owner):
    assert "is sent no certificate, because this environment has none" in text_of(signed_in.get(at("network")))
    for name in ("A", "B", "C"):
        certificate = add_certificate(name)
    actions.disable(certificate=certificate, by=owner)
    assert "may be sent any of these 2 certificates" in text_of(signed_in.get(at("network")))


# --- What runs --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_pages_mark_what_differs_from_what_runs(
    running_app, signed_in, at, add_certificate, pin, apply, owner, make_file
):
    bank, tax = add_certificate("Bank"), add_certificate("Tax")
    pin("bank.example.com", bank)
    gone = pin("tax.example.com", tax)
    never = pin("telemetry.example.com")
    assert apply().state == "verified"
    before = text_of(signed_in.get(at("network")))
    assert "New" not in before
    assert "Changed" not in before
    version = actions.renew(certificate=bank, identity=pkcs12.read(make_file(), "secret"), in_use=True, by=owner)
    actions.unpin(pin=gone, by=owner)
    actions.unpin(pin=never, by=owner)
    actions.remove(certificate=tax, by=owner)
    pin("new.example.com", bank)

    shown = text_of(signed_in.get(at("network")))

    assert re.search(r"Bank (CN=\S+ )?Changed", shown)
    assert "Tax Removed" in shown
    assert "new.example.com New host Bank" in shown
    assert "tax.example.com Removed host Tax falls under “any other server”" in shown
    assert "telemetry.example.com Removed host Never send a certificate falls under" in shown
    versions = text_of(signed_in.get(at("certificate", bank.pk)))
    assert f"{version.number} Chosen goes with the next apply" in versions
    assert "1 Previous Running" in versions


# --- Who may what -----------------------------------------------------------------------------------------------------

CHANGING = ["certificate-new", "pin-new", "pin-interpret"]
OF_A_CERTIFICATE = ["certificate-renew", "certificate-rename", "certificate-remove"]


def test_a_viewer_sees_everything_and_is_offered_nothing(person_with, at, add_certificate, pin):
    certificate = add_certificate("Bank")
    pinned = pin("api.example.com", certificate)
    viewer = person_with("viewer")

    page = viewer.get(at("network"))
    assert "Bank" in text_of(page)
    assert '<span class="button" aria-disabled="true" title="You may not change certificates' in page.content.decode()
    for name in CHANGING:
        assert at(name) not in page.content.decode()
    # The one form asks which certificate is sent, and changes nothing.
    forms = re.findall('<form[^>]*method="post"[^>]*action="([^"]*)"', page.content.decode().partition("<main")[2])
    assert forms == [at("lookup")]
    assert page.content.decode().partition("<main")[2].count('method="post"') == 1
    assert viewer.get(at("certificate", certificate.pk)).status_code == 200
    assert viewer.get(at("certificates-csv")).status_code == 200
    for address in (*map(at, CHANGING), *(at(name, certificate.pk) for name in OF_A_CERTIFICATE)):
        assert viewer.get(address).status_code == 403
    for address in (
        at("certificate-switch", certificate.pk),
        at("certificate-move", certificate.pk),
        at("version-use", certificate.pk, 1),
        at("pin-edit", pinned.pk),
        at("pin-remove", pinned.pk),
    ):
        assert viewer.post(address).status_code == 403
    assert Pin.objects.exists()


def test_a_stranger_finds_nothing(client, at, add_certificate, pin):
    certificate = add_certificate()
    pinned = pin("api.example.com", certificate)
    client.force_login(Person.objects.create_user("mallory", password="x"))

    for address in (
        at("network"),
        at("certificates-csv"),
        *map(at, CHANGING),
        at("certificate", certificate.pk),
        *(at(name, certificate.pk) for name in OF_A_CERTIFICATE),
        at("pin-edit", pinned.pk),
        at("pin-remove", pinned.pk),
    ):
        assert client.get(address).status_code == 404


def test_a_certificate_is_found_under_its_own_environment_only(signed_in, environment, owner, add_certificate, pin):
    from environments import actions as environments

    certificate = add_certificate()
    pinned = pin("api.example.com", certificate)
    other = environments.create_environment(application=environment.application, name="Production", by=owner)

    for address in (
        other.url("certificate", certificate.pk),
        other.url("certificate-rename", certificate.pk),
        other.url("pin-edit", pinned.pk),
    ):
        assert signed_in.get(address).status_code == 404
