"""What runs today comes in: every format there and back, what is refused and why, and the pages."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from audit.models import Event
from certificates import actions as certificates
from certificates import current
from certificates.content import Content
from certificates.intake import Upload
from certificates.models import ClientCertificate, Draft, Incoming, Pin
from environments import actions as environments
from environments.models import Application, Environment, Person
from environments.refusals import Refused
from rollouts import actions
from rollouts.standing import standing
from tests import pki
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)

PARTNER = pki.make_authority("Partner CA")
FORMATS = {
    "mendix-settings": "mendix",
    "m2ee-yaml": "mendix",
    "buildpack-env": "mendix-buildpack",
    "mendix-operator": "mendix-operator",
}


def pfx(cn: str, password: str = "secret") -> bytes:
    return pki.pfx(pki.issue(cn, authority=PARTNER), password)


@pytest.fixture
def another(application: Application, owner: Person) -> Any:
    def another(name: str, runtime: str = "mendix") -> Environment:
        made = environments.create_environment(application=application, name=name, by=owner)
        made.runtime, made.base_folder = runtime, "/srv/app"
        made.save()
        return made

    return another


def meaning(content: Content) -> Any:
    """A content without the names that each environment gives its slots."""
    prints = {slot.slug: slot.sha256 for slot in content.slots}
    pins = sorted((pin.kind, pin.key, prints[pin.slug] if pin.slug else None) for pin in content.pins)
    return [(slot.sha256, slot.chain) for slot in content.slots], pins, content.authorities


def bring(environment: Environment, files: list[Upload], by: Person, pasted: str = "") -> Any:
    known = {"invoicing/acceptance": environment}
    ((target, plan),) = certificates.plan_import(files=files, pasted=pasted, environment=environment, known=known)
    return actions.import_now(environment=target, plan=plan, by=by)


def exported(environment: Environment, kind: str, by: Person) -> list[Upload]:
    bundle = actions.export_to_download(
        environment=environment, exporter=kind, base_folder="/srv/app", reason="move", password=None, by=by
    )
    return [Upload(file.path, file.content) for file in bundle.files]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_was_exported_comes_in_as_it_was(kind: str, zipped: bool, another: Any, owner: Person) -> None:
    """Import, export, import is a fixed point: the third environment has what the second one had."""
    runtime = FORMATS[kind]
    first, second, third = (another(f"{kind} {n}", runtime) for n in range(3))
    fill(first, owner, runtime)
    for before, after in ((first, second), (second, third)):
        files = exported(before, kind, owner)
        bring(after, [Upload("all.zip", packed(files))] if zipped else files, owner)
        assert meaning(current.content(after)) == meaning(current.content(before))


def fill(environment: Environment, by: Person, runtime: str) -> None:
    added = []
    for number, key in enumerate(("rsa-2048", "ec-p256", "ed25519")):
        issued = pki.issue(f"client {number}", key=key, authority=PARTNER)
        added.append(certificates.add(environment=environment, name=f"C {number}", identity=issued.identity, by=by))
    wanted = [("api.example.com", 0), ("Billing.PaymentService", 1), ("MY_S3", 1), ('it\'s "odd" \\ {x}: #', 0)]
    wanted += [("open.example.com", None), ("Open.Service", None)]
    wanted += [("NEVER_S3", None)] if runtime == "mendix" else []
    for text, place in wanted:
        kind = "identifier" if text in ("MY_S3", "NEVER_S3") or " " in text else None
        target = certificates.read_target(environment=environment, text=text, kind=kind, never=place is None)
        sent = None if place is None else added[place]
        certificates.pin(environment=environment, target=target, certificate=sent, by=by)
    if runtime != "mendix-operator":
        read = certificates.read_authorities(environment=environment, files=[Upload("ca", SERVER_CA)])
        certificates.trust(environment=environment, authorities=read, by=by)


SERVER_CA = pki.make_authority("Server CA").certificate_pem


def packed(files: list[Upload]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for file in files:
            archive.writestr(file.name, file.content)
    return found.getvalue()


def as_csv(*rows: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["application", "environment", "file", "password", "name", "targets"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def line(file: str = "a.pfx", targets: str = "", **more: str) -> dict[str, str]:
    given = {"application": "Invoicing", "environment": "Acceptance", "file": file, "password": "secret"}
    return given | {"name": "", "targets": targets} | more


# --- How people write it ----------------------------------------------------------------------------------------------


def test_settings_as_they_stand_in_studio_pro(environment: Environment, owner: Person) -> None:
    """The documents' own example, with its blanks after commas and its doubled backslashes."""
    text = """
    ClientCertificates = D:\\App\\Mx1.pfx, D:\\App\\Mx2.pfx
    ClientCertificatePasswords = pwd1, pwd2
    ClientCertificateUsages = { "Module.WebService1": "D:\\\\App\\\\Mx1.pfx", "Module.WebService2": "",
      "www.server-to-contact.com": "D:\\\\App\\\\Mx2.pfx" }
    """
    files = [Upload("Mx2.pfx", pfx("second", "pwd2")), Upload("MX1.PFX", pfx("first", "pwd1"))]
    bring(environment, files, owner, pasted=text)
    content = current.content(environment)
    assert list(environment.certificates.values_list("name", flat=True)) == ["first", "second"]
    assert [(pin.kind, pin.key, pin.slug) for pin in content.pins] == [
        ("service", "Module.WebService1", "first"),
        ("service", "Module.WebService2", None),
        ("host", "www.server-to-contact.com", "second"),
    ]


def test_the_text_of_an_export_and_a_list_come_in_as_they_were(another: Any, owner: Person) -> None:
    first, second, third = another("A"), another("B"), another("C")
    rows = as_csv(
        line("a.pfx", "api.example.com Billing.PaymentService", environment="A", name="Bank"),
        line("b.pfx", "MY_S3", environment="A", name="Tax, of the state", password="p,w;d"),
        line("", "open.example.com;Open.Service", environment="A"),
    )
    files = [Upload("list.csv", rows), Upload("x/a.pfx", pfx("a")), Upload("x/b.pfx", pfx("b", "p,w;d"))]
    plans = certificates.plan_import(files=files, pasted="", environment=None, known={"invoicing/a": first})
    ((target, plan),) = plans
    actions.import_now(environment=target, plan=plan, by=owner)
    assert list(first.certificates.values_list("name", flat=True)) == ["Bank", "Tax, of the state"]
    assert len(current.content(first).pins) == 5
    for before, after in ((first, second), (second, third)):
        files = [one for one in exported(before, "mendix-settings", owner) if not one.name.endswith(".json")]
        bring(after, files, owner)
        assert meaning(current.content(after)) == meaning(current.content(before))


def test_an_env_file_and_a_bare_list_come_in(environment: Environment, another: Any, owner: Person) -> None:
    entries = [{"pfx": base64.b64encode(pfx("a", "")).decode(), "password": "", "pin_to": ["a.example"]}]
    text = (
        f"export CLIENT_CERTIFICATES='{json.dumps(entries)}'\nMXRUNTIME_NoClientCertificateUsages=b.example,c.example\n"
    )
    bring(environment, [], owner, pasted=text)
    assert sorted(environment.pins.values_list("key", flat=True)) == ["a.example", "b.example", "c.example"]
    other = another("Other")
    bring(other, [Upload("value.json", json.dumps(entries).encode())], owner)
    assert list(other.pins.values_list("key", flat=True)) == ["a.example"]


def test_a_key_is_kept_as_it_is_written(environment: Environment, owner: Person) -> None:
    """What the runtime makes of capitals is not documented, so none are changed on the way."""
    settings = {"ClientCertificates": "/a.pfx", "ClientCertificatePasswords": "secret"}
    settings["ClientCertificateUsages"] = json.dumps({"API.example.com": "/a.pfx", "https://b.example/x": "/a.pfx"})
    files = [Upload("settings.json", json.dumps(settings).encode()), Upload("a.pfx", pfx("a"))]
    ((_target, plan),) = certificates.plan_import(files=files, pasted="", environment=environment, known={})
    assert [(wish.kind, wish.key) for wish in plan.pins] == [
        ("identifier", "API.example.com"),
        ("identifier", "https://b.example/x"),
    ]
    assert all("kept as it is written" in remark for remark in plan.remarks)


def test_a_file_that_nobody_has_leaves_a_place_for_its_key(environment: Environment, owner: Person) -> None:
    settings = {"ClientCertificates": "/x/a.pfx,/x/gone.pfx", "ClientCertificatePasswords": "secret,other"}
    settings["ClientCertificateUsages"] = '{"gone.example": "/x/gone.pfx", "a.example": "/x/a.pfx"}'
    bring(environment, [Upload("a.pfx", pfx("a"))], owner, pasted=json.dumps(settings))
    gone = environment.certificates.get(name="gone.pfx")
    assert gone.in_use is None
    assert [pin.key for pin in current.content(environment).pins] == ["a.example"]
    certificates.renew(certificate=gone, identity=pki.issue("gone").identity, in_use=True, by=owner)
    assert [pin.key for pin in current.content(environment).pins] == ["a.example", "gone.example"]


def test_a_certificate_without_its_key_is_tracked_only(environment: Environment, owner: Person) -> None:
    rows = as_csv(line("a.cer", "a.example", name="Watched"))
    public = pki.issue("watched", authority=PARTNER).certificate_pem
    files = [Upload("list.csv", rows), Upload("a.cer", public)]
    known = {"invoicing/acceptance": environment}
    ((target, plan),) = certificates.plan_import(files=files, pasted="", environment=None, known=known)
    actions.import_now(environment=target, plan=plan, by=owner)
    watched = environment.certificates.get(name="Watched")
    assert watched.in_use is not None
    assert watched.in_use.is_tracked_only
    assert current.content(environment).pins == ()


# --- What is refused --------------------------------------------------------------------------------------------------


def settings(**changes: str) -> bytes:
    given = {
        "ClientCertificates": "/x/a.pfx",
        "ClientCertificatePasswords": "secret",
        "ClientCertificateUsages": '{"a.example": "/x/a.pfx"}',
    }
    return json.dumps(given | changes).encode()


def buildpack(**changes: Any) -> bytes:
    entry = {"pfx": base64.b64encode(GOOD).decode(), "password": "secret", "pin_to": ["a.example"]} | changes
    return json.dumps([{key: value for key, value in entry.items() if value is not None}]).encode()


def manifest(**changes: Any) -> bytes:
    entry = {"key": base64.b64encode(GOOD).decode(), "password": base64.b64encode(b"secret").decode()} | changes
    return yaml.safe_dump({"kind": "MendixApp", "spec": {"runtime": {"clientCertificates": [entry]}}}).encode()


GOOD = pfx("good")
TWO = [{"pfx": base64.b64encode(GOOD).decode(), "password": "secret", "pin_to": ["a.example"]}] * 2

MALFORMED: dict[str, tuple[str, bytes, str]] = {
    "no configuration": ("x.txt", b"hello", "Nothing here is a configuration"),
    "a comma in a password": ("s.json", settings(ClientCertificatePasswords="a,b"), "perhaps a password has a comma"),
    "too few passwords": ("s.json", settings(ClientCertificatePasswords=""), "lists 1 file and"),
    "a usage that is not listed": (
        "s.json",
        settings(ClientCertificateUsages='{"a.example": "/x/b.pfx"}'),
        "pinned to b.pfx, which ClientCertificates does not list",
    ),
    "a usage twice": (
        "s.json",
        settings(ClientCertificateUsages='{"a.example": "/x/a.pfx", "a.example": ""}'),
        "has a.example twice",
    ),
    "usages without braces": (
        "s.json",
        settings(ClientCertificateUsages='"a.example": "/x/a.pfx"'),
        "no object in braces",
    ),
    "single backslashes in the usages": (
        "s.json",
        settings(ClientCertificates="D:\\x\\a.pfx", ClientCertificateUsages='{"a.example": "D:\\x\\a.pfx"}'),
        "double every backslash",
    ),
    "pinned and never": (
        "s.json",
        settings(NoClientCertificateUsages="a.example"),
        "pinned and never sent a certificate",
    ),
    "the same file twice": (
        "s.json",
        settings(ClientCertificates="/x/a.pfx,/x/a.pfx", ClientCertificatePasswords="secret,secret"),
        "lists a.pfx twice",
    ),
    "a wrong password": ("s.json", settings(ClientCertificatePasswords="wrong"), "a.pfx: The password"),
    "an authority that is not there": ("s.json", settings(CACertificates="/x/ca.pem"), "CACertificates names ca.pem"),
    "a pin that no runtime knows": (
        "s.json",
        settings(ClientCertificateUsages='{"2001:db8::1": "/x/a.pfx"}'),
        "IPv6",
    ),
    "an empty variable": ("e.env", b"CLIENT_CERTIFICATES=''", "is empty, so the buildpack does not start"),
    "a variable that is no list": ("e.env", b"CLIENT_CERTIFICATES='{'", "is no JSON list"),
    "no file": ("c.json", buildpack(pfx=None), "has no text “pfx”"),
    "no password": ("c.json", buildpack(password=None), "has no text “password”"),
    "a password with a comma": ("c.json", buildpack(password="a,b"), "has a comma"),
    "pins that are a text": ("c.json", buildpack(pin_to="a.example"), "no list of texts"),
    "no base64": ("c.json", buildpack(pfx="%%%"), "is no base64"),
    "no certificate in it": ("c.json", buildpack(pfx=base64.b64encode(b"hello").decode()), "certificate 1: "),
    "a pin on two certificates": ("c.json", json.dumps(TWO).encode(), "a.example is pinned twice"),
    "an empty password for the operator": ("m.yaml", manifest(password=""), "empty, which the operator refuses"),
    "no base64 for the operator": ("m.yaml", manifest(key="%"), "is no base64 of a file"),
    "pins of the operator that are a text": ("m.yaml", manifest(pinTo="a"), "is no list of texts"),
    "a list in m2ee.yaml that is none": (
        "m2ee.yaml",
        b"mxruntime:\n ClientCertificates: {a: b}\n",
        "neither a text nor a list",
    ),
    "a YAML with aliases": ("m2ee.yaml", b"mxruntime: &a\n ClientCertificates: *a\n", "This YAML cannot be read"),
    "a list without its columns": ("l.csv", b"file,password\na.pfx,x\n", "lacks the columns"),
    "a list without lines": ("l.csv", as_csv(), "has no line below its first"),
    "a list of another environment": ("l.csv", as_csv(line(environment="Nowhere")), "Invoicing/Nowhere"),
    "a line with nothing": ("l.csv", as_csv(line("")), "names neither a file nor a target"),
    "a damaged zip": ("z.zip", b"PK\x03\x04 and no more", "is damaged"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_wrong_is_said_and_nothing_comes_in(name: str, environment: Environment, owner: Person) -> None:
    file, content, part = MALFORMED[name]
    with pytest.raises(Refused) as refused:
        bring(environment, [Upload(file, content), Upload("a.pfx", GOOD)], owner)
    assert part in str(refused.value)
    assert str(refused.value).endswith(".")
    assert "secret" not in str(refused.value)
    assert_untouched(environment)


def assert_untouched(environment: Environment) -> None:
    assert not ClientCertificate.objects.filter(environment=environment).exists()
    assert not Pin.objects.filter(environment=environment).exists()
    assert not environment.authorities.exists()
    assert not Event.objects.filter(action="configuration.imported").exists()


def test_a_zip_that_grows_is_refused(environment: Environment) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.pfx", b"\0" * 1024 * 1024)
    with pytest.raises(Refused, match="more than 500 files or 16 MiB"):
        certificates.plan_import(files=[Upload("z.zip", bomb.getvalue())], pasted="", environment=environment, known={})


def test_a_zip_with_a_damaged_entry_is_refused_in_words(environment: Environment) -> None:
    packed_well = io.BytesIO()
    with zipfile.ZipFile(packed_well, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pfx", bytes(range(256)) * 20)
    damaged = bytearray(packed_well.getvalue())
    damaged[40:48] = b"\xff" * 8
    with pytest.raises(Refused, match="is damaged"):
        certificates.plan_import(files=[Upload("z.zip", bytes(damaged))], pasted="", environment=environment, known={})


def test_what_came_without_a_key_is_not_said_to_run(environment: Environment, running_app: Any, owner: Person) -> None:
    """The app may have that key: that an apply from here takes it away has to show as changes."""
    files = [
        Upload("s.json", settings(ClientCertificates="/x/a.pfx,/x/gone.pfx", ClientCertificatePasswords="secret,x"))
    ]
    bring(environment, [*files, Upload("a.pfx", GOOD)], owner)
    running_app.refresh_from_db()
    assert running_app.running is None
    assert standing(environment).count > 0


def test_what_is_pinned_here_already_is_not_pinned_again(environment: Environment, owner: Person) -> None:
    target = certificates.read_target(environment=environment, text="a.example", never=True)
    certificates.pin(environment=environment, target=target, certificate=None, by=owner)
    with pytest.raises(Refused, match=r"a\.example is already pinned here"):
        bring(environment, [Upload("s.json", settings()), Upload("a.pfx", GOOD)], owner)
    assert not environment.certificates.exists()


# --- The pages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(client: Client, owner: Person) -> Client:
    client.force_login(owner)
    return client


def sent(*files: tuple[str, bytes]) -> dict[str, Any]:
    found = []
    for name, content in files:
        file = io.BytesIO(content)
        file.name = name
        found.append(file)
    return {"file": found}


def test_forty_certificates_in_twelve_apps_come_in_at_once(browser: Client, owner: Person) -> None:
    rows, files = [], []
    for number in range(40):
        name = f"App {number % 12}"
        if number < 12:
            application = environments.create_application(name=name, by=owner)
            environments.create_environment(application=application, name="Production", by=owner)
        files.append(Upload(f"files/{number}.pfx", pfx(f"client {number}", f"Pw{number}")))
        given = line(f"{number}.pfx", f"h{number}.example S{number % 12}.Service", application=name)
        rows.append(given | {"environment": "production", "password": f"Pw{number}", "targets": f"h{number}.example"})
    everything = packed([*files, Upload("list.csv", as_csv(*rows))])
    page = browser.post("/import/", sent(("all.zip", everything)), follow=True)
    text = page.content.decode()
    assert text.count("Can come in") == 12
    assert "client 39" in text
    assert not ClientCertificate.objects.exists()
    done = browser.post(page.request["PATH_INFO"], {"add": "yes"}, follow=True).content.decode()
    assert "App 0 / Production: brought in 4 certificates and 4 pins" in done
    assert ClientCertificate.objects.count() == Pin.objects.count() == 40
    assert (Draft.objects.count(), Incoming.objects.count()) == (0, 0)
    assert SealedObject.objects.count() == 40


def test_of_two_environments_the_one_with_a_problem_stays_untouched(
    browser: Client, environment: Environment, another: Any
) -> None:
    other = another("Test")
    rows = [line("a.pfx", "a.example"), line("a.pfx", "b.example", environment="Test", password="wrong")]
    page = browser.post("/import/", sent(("l.csv", as_csv(*rows)), ("a.pfx", GOOD)), follow=True)
    text = page.content.decode()
    assert text.count("Can come in") == 1
    assert "a.pfx: The password" in text
    done = browser.post(page.request["PATH_INFO"], {"add": "yes"}, follow=True).content.decode()
    assert "Acceptance: brought in 1 certificate" in done
    assert "Problems to solve" in done
    with pytest.raises(Refused, match="problems to solve first"):
        actions.bring_in(incoming=Incoming.objects.get(), by=Person.objects.get(username="grace"))
    assert environment.certificates.count() == 1
    assert not other.certificates.exists()
    browser.post(page.request["PATH_INFO"], {"cancel": "yes"})
    assert (Draft.objects.count(), Incoming.objects.count()) == (0, 0)


def test_a_preview_is_for_the_one_who_made_it(browser: Client, environment: Environment) -> None:
    files = sent(("s.json", settings()), ("a.pfx", GOOD))
    answer = browser.post("/import/", files | {"environment": "invoicing/acceptance"})
    assert answer.status_code == 302, answer.content.decode()
    ada = Person.objects.create_user("ada", is_superuser=True)
    other = Client()
    other.force_login(ada)
    assert other.get(answer.url).status_code == 302
    assert other.post(answer.url, {"add": "yes"}).status_code == 302
    assert not environment.certificates.exists()
    assert "good" in browser.get(answer.url).content.decode()


def test_what_expired_meanwhile_does_not_come_in_without_its_key(browser: Client, environment: Environment) -> None:
    files = sent(("s.json", settings()), ("a.pfx", GOOD))
    address = browser.post("/import/", files | {"environment": "invoicing/acceptance"}).url
    Draft.objects.update(expires_at=Incoming.objects.get().created_at)
    assert "This import has expired" in browser.post(address, {"add": "yes"}, follow=True).content.decode()
    assert_untouched(environment)


def test_what_takes_too_long_is_not_waited_for(
    browser: Client, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certificates.actions.imports.OPEN_SECONDS", -1.0)
    files = sent(("s.json", settings()), ("a.pfx", GOOD))
    page = browser.post("/import/", files | {"environment": "invoicing/acceptance"}, follow=True).content.decode()
    assert "a.pfx was not opened, because those before it took too long" in page
    assert not Draft.objects.exists()


def test_a_viewer_cannot_import_and_a_stranger_does_not_learn_of_places(
    client: Client, environment: Environment, owner: Person
) -> None:
    ada = Person.objects.create_user("ada")
    environments.add_member(application=environment.application, person=ada, role="viewer", by=owner)
    client.force_login(ada)
    answer = client.post("/import/", sent(("l.csv", as_csv(line("a.pfx"))), ("a.pfx", GOOD)))
    assert answer.status_code == 422
    assert "you may change no environment of this name" in answer.content.decode()
    files = sent(("s.json", settings()), ("a.pfx", GOOD)) | {"environment": "invoicing/acceptance"}
    assert client.post("/import/", files).status_code == 422
    assert_untouched(environment)


def test_what_was_imported_does_not_ask_for_a_restart(
    browser: Client, environment: Environment, running_app: Any, apply: Any, place: dict[str, Any], owner: Person
) -> None:
    bring(environment, [Upload("s.json", settings()), Upload("a.pfx", GOOD)], owner)
    stand = standing(environment)
    assert stand.count == 0
    assert stand.configuration.text == "Imported, not yet restarted by us"
    assert "imported, not yet restarted by us" in browser.get(environment.url("environment")).content.decode()
    certificates.add(environment=environment, name="Newcomer", identity=pki.issue("n").identity, by=owner)
    assert standing(environment).count == 1
    # The first apply fails, and what was imported comes back, written from here.
    place["behaviour"].write_text(json.dumps({"refuse": "newcomer"}))
    failed = apply()
    assert failed.state == "rolled_back"
    assert (place["apps"] / "tiny" / "current" / "certificates" / "good.pfx").exists()
    assert failed.previous_bundle is not None
    assert failed.previous_bundle.revision == failed.previous
    place["behaviour"].write_text("{}")
    assert apply(insist=True).state == "verified"
    assert standing(environment).configuration.text == "Up to date"


def test_the_command_brings_in_and_prints_for_programs(
    environment: Environment, owner: Person, tmp_path: Any, capsys: Any
) -> None:
    (tmp_path / "s.json").write_bytes(settings())
    (tmp_path / "a.pfx").write_bytes(GOOD)
    paths = [str(tmp_path / "s.json"), str(tmp_path / "a.pfx")]
    call_command("import_configuration", "invoicing/acceptance", *paths, "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["certificates"], told["pins"]) == (["good"], 1)
    with pytest.raises(SystemExit) as ended:
        call_command("import_configuration", "invoicing/acceptance", *paths)
    assert ended.value.code == 1
    assert "already pinned here" in capsys.readouterr().err
