"""The app as a process of its own: what it runs on, whom it shows which certificate, and when it does not start."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from sandbox.calls import Route, call
from sandbox.configuration import load
from sandbox.mendix import Target

BANK, OPEN = "bank.sandbox.test", "open.sandbox.test"
SERVICE = "Billing.PaymentService"


def catches_sigterm(pid: int) -> bool:
    """Whether the process has come so far that it ends in its own way (the mask of caught signals, proc(5))."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def sha256_lines(folder: Path) -> str:
    """The digest from the contract's words, on purpose not with the app's own function."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(f"{hashlib.sha256((folder / p).read_bytes()).hexdigest()}  {p}\n".encode() for p in paths)
    ).hexdigest()


def test_the_status_reports_the_digest_of_what_was_loaded(start_app, configuration):
    folder = configuration("bank-payments", "reports-expiring")
    (folder / "more").mkdir()
    (folder / "more" / "note.txt").write_text("every regular file counts")

    app = start_app(folder)

    status = app.status()
    assert set(status) == {"status", "digest", "incarnation", "started_at", "certificates"}
    assert status["status"] == "running"
    assert status["digest"] == sha256_lines(folder)
    assert status["certificates"] == 2


@pytest.mark.parametrize("exists", [True, False], ids=["empty", "absent"])
def test_an_empty_or_absent_folder_means_no_certificates(start_app, partner, tmp_path, exists):
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    app = start_app(folder)

    assert app.status()["digest"] == hashlib.sha256(b"").hexdigest()
    assert app.status()["certificates"] == 0
    called = app.call(host=OPEN)
    assert (called["rule"], called["sent"], called["outcome"]) == ("none-configured", None, "answered")
    refused = app.call(host=BANK)
    assert refused["outcome"] == "refused"
    assert refused["words"] == "the server demands a client certificate and got none"


def test_each_target_is_shown_the_certificate_that_is_pinned_to_it(start_app, configuration, partner):
    pins = {BANK: "bank-payments", SERVICE: "bank-payments-renewal", "MY_ID": "other-authority"}
    app = start_app(configuration("other-authority", "bank-payments", "bank-payments-renewal", pins=pins))

    for target, slug in (
        ({"host": BANK}, "bank-payments"),
        ({"service": SERVICE}, "bank-payments-renewal"),
        ({"identifier": "MY_ID"}, "other-authority"),
    ):
        calls: list = []
        (seen,) = partner.new_calls(lambda target=target, calls=calls: calls.append(app.call(**target)))
        assert calls[0]["rule"] == "pinned"
        assert calls[0]["outcome"] == "answered"
        assert calls[0]["sent"]["sha256"] == calls[0]["answer"]["sha256"] == partner.sample(slug).sha256
        assert seen["certificate"]["sha256"] == partner.sample(slug).sha256


@pytest.mark.parametrize("way", ["setting", "empty path"])
def test_a_never_target_is_sent_no_certificate_although_the_server_asks(start_app, configuration, partner, way):
    never = {"never": OPEN} if way == "setting" else {"pins": {OPEN: ""}}
    app = start_app(configuration("bank-payments", **never))

    (seen,) = partner.new_calls(lambda: app.call(host=OPEN))
    assert seen["outcome"] == "answered"
    assert seen["certificate"] is None
    assert app.call(host=OPEN)["rule"] == "never"

    (elsewhere,) = partner.new_calls(lambda: app.call(identifier="MY_ID"))
    assert elsewhere["certificate"] is not None, "the same server asks and gets one where nothing forbids it"


def test_without_a_pin_certificates_are_offered_in_order_until_the_authority_is_known(
    start_app, configuration, partner
):
    app = start_app(configuration("other-authority", "bank-payments", "reports-expiring"))
    calls: list = []

    refused, answered = partner.new_calls(lambda: calls.append(app.call(host=BANK)), count=2)

    assert calls[0]["rule"] == "default"
    assert [attempt["outcome"] for attempt in calls[0]["attempts"]] == ["refused", "answered"]
    assert refused["certificate"]["sha256"] == partner.sample("other-authority").sha256
    assert answered["certificate"]["sha256"] == partner.sample("bank-payments").sha256


def test_without_a_pin_an_expired_certificate_of_the_right_authority_is_not_passed_over(start_app, configuration):
    called = start_app(configuration("archive-expired", "bank-payments")).call(host=BANK)

    assert len(called["attempts"]) == 1
    assert called["words"] == "the server says that the certificate has expired (alert: certificate expired)"


def test_a_pin_that_the_partner_refuses_is_told_in_words_and_nothing_else_is_tried(start_app, configuration):
    called = start_app(configuration("bank-payments", "other-authority", pins={BANK: "other-authority"})).call(
        host=BANK
    )

    assert called["outcome"] == "refused"
    assert len(called["attempts"]) == 1
    assert "does not accept the authority" in called["words"]


def test_a_file_written_by_openssl_is_read(start_app, configuration, partner, tmp_path):
    folder = configuration()
    pem = tmp_path / "key-and-chain.pem"
    pem.write_bytes(partner.pem("bank-payments"))
    file = folder / "openssl.p12"
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-in", pem, "-out", file, "-passout", "pass:Outside1"], check=True, timeout=20
    )
    settings = {"ClientCertificates": str(file), "ClientCertificatePasswords": "Outside1"}
    (folder / "custom-settings.json").write_text(json.dumps(settings))

    assert start_app(folder).call(host=BANK)["outcome"] == "answered"


def test_a_link_is_followed_once_and_a_switch_waits_for_the_restart(start_app, configuration, partner, tmp_path):
    old = configuration("bank-payments", folder="13", pins={BANK: "bank-payments"})
    new = configuration("bank-payments-renewal", folder="14", pins={BANK: "bank-payments-renewal"})
    link = tmp_path / "current"
    link.symlink_to(old)
    app = start_app(link)

    link.unlink()
    link.symlink_to(new)
    (old / "bank-payments.pfx").unlink()

    assert app.call(host=BANK)["answer"]["sha256"] == partner.sample("bank-payments").sha256
    before = app.status()
    again = start_app(link)
    assert again.status()["digest"] == sha256_lines(new) != before["digest"]
    assert again.status()["incarnation"] != before["incarnation"] == app.status()["incarnation"]
    assert again.call(host=BANK)["answer"]["sha256"] == partner.sample("bank-payments-renewal").sha256


def test_paths_through_the_link_are_read_from_the_folder_behind_it(start_app, configuration, tmp_path):
    folder = configuration("bank-payments")
    link = tmp_path / "current"
    link.symlink_to(folder)
    settings = {"ClientCertificates": str(link / "bank-payments.pfx"), "ClientCertificatePasswords": "Pwban1"}
    (folder / "custom-settings.json").write_text(json.dumps(settings))

    app = start_app(link)

    assert app.status()["digest"] == sha256_lines(folder)
    assert app.call(host=BANK)["outcome"] == "answered"


def test_what_is_presented_is_what_was_digested_because_each_file_is_read_once(configuration, monkeypatch):
    folder = configuration("bank-payments", "reports-expiring")
    read: list[str] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))

    load(folder)

    assert sorted(read) == ["bank-payments.pfx", "custom-settings.json", "reports-expiring.pfx"]


def test_an_authority_of_the_settings_is_trusted(configuration, partner, tmp_path):
    authority, port = str(partner.world.server_authority_file), str(partner.tls_port)
    for settings, outcome in (({}, "refused"), ({"CACertificates": authority}, "answered")):
        folder = configuration("bank-payments", folder=outcome, **settings)
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.app", "--configuration", folder, "--port", "0", "--partner-port", port],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with urllib.request.urlopen(f"{url}calls.json?host={BANK}", timeout=10) as answer:
                called = json.load(answer)
        finally:
            process.terminate()
            process.communicate(timeout=10)
        assert called["outcome"] == outcome, called
        if outcome == "refused":
            assert "does not trust the server's certificate" in called["words"]


def test_a_broken_configuration_does_not_start(refused_start, configuration, partner):
    good = configuration("bank-payments", "reports-expiring", folder="good")
    settings = json.loads((good / "custom-settings.json").read_text())
    file = settings["ClientCertificates"].split(",")[0]
    broken = {
        "not JSON": ("{", "not JSON"),
        "not an object": ("[]", "JSON object"),
        "missing file": ({**settings, "ClientCertificates": f"{file},{good}/absent.pfx"}, "no such file"),
        "relative path": ({**settings, "ClientCertificates": f"{file},absent.pfx"}, "not absolute"),
        "wrong password": ({**settings, "ClientCertificatePasswords": "Pwban1,Wrong1"}, "wrong or the file is damaged"),
        "swapped": ({**settings, "ClientCertificatePasswords": "Pwrep1,Pwban1"}, "wrong or the file is damaged"),
        "counts differ": ({**settings, "ClientCertificatePasswords": "Pwban1"}, "2 files"),
        "not ASCII": ({**settings, "ClientCertificatePasswords": "Pwban1,Pässword"}, "not ASCII"),
        "unlisted pin": ({**settings, "ClientCertificateUsages": {"a": "/x.pfx"}}, "does not list"),
    }
    for content, words in broken.values():
        text = content if isinstance(content, str) else json.dumps(content)
        (good / "custom-settings.json").write_text(text)
        line = refused_start(good)
        assert line.startswith("Invoicing <Test> did not start. ")
        assert words in line
        for secret in ("Pwban1", "Pwrep1", "Wrong1", "Pässword"):
            assert secret not in line


def test_a_taken_port_is_told_in_one_line(configuration, partner):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "sandbox.app", "--configuration", configuration(), "--port", port],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"Sandbox app did not start. Port {port} cannot be used: Address already in use.\n"


def test_it_ends_within_a_second_even_while_a_call_hangs(start_app, configuration):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = start_app(configuration(), "--resolve", f"{OPEN}:{silent.getsockname()[1]}:127.0.0.1")
        with socket.create_connection(urllib.parse.urlsplit(app.url).netloc.split(":"), timeout=10) as asking:
            asking.sendall(f"GET /calls.json?host={OPEN} HTTP/1.0\r\n\r\n".encode())
            silent.accept()
            assert app.process.end() < 1.0
    assert app.process.child.returncode == 0


def test_a_slow_start_announces_itself_late_and_can_be_ended_early(configuration, partner):
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.app", "--configuration", configuration(), "--port", "0", "--start-delay", "60"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not catches_sigterm(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")


def test_an_unreachable_partner_is_said_to_be_unreachable(start_app, configuration):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # held, so that nobody else gets it, but not listening
        port = deaf.getsockname()[1]
        called = start_app(configuration("bank-payments"), "--resolve", f"{BANK}:{port}:127.0.0.1").call(host=BANK)

    assert called["outcome"] == "unreachable"
    assert called["words"] == f"{BANK} at 127.0.0.1 port {port} does not answer (ConnectionRefusedError)"


def test_only_configured_targets_are_called(start_app, configuration):
    assert "does not call that" in start_app(configuration()).call(host="example.com")["error"]


def test_the_page_calls_the_partner_and_shows_what_was_sent(start_app, configuration, partner):
    app = start_app(configuration("bank-payments", pins={BANK: "bank-payments"}))
    with urllib.request.urlopen(app.url, timeout=10) as answer:
        page = answer.read().decode()
    assert "Invoicing &lt;Test&gt;" in page
    assert "<Test>" not in page
    assert app.status()["digest"] in page
    assert page.count("Not called yet") == 4

    body = urllib.parse.urlencode({"host": BANK}).encode()
    with urllib.request.urlopen(app.url + "call", data=body, timeout=10) as answer:
        page = answer.read().decode()
    assert page.count("Not called yet") == 3
    assert "Sent certificate 1, bank-payments.pfx: <b>You are CN=Bank payments,O=Sandbox Customer.</b>" in page


def test_another_site_cannot_make_the_app_call(start_app, configuration, partner):
    app = start_app(configuration("bank-payments"))
    request = urllib.request.Request(
        app.url + "call", data=b"host=" + OPEN.encode(), headers={"Sec-Fetch-Site": "cross-site"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)
    with urllib.request.urlopen(app.url, timeout=10) as answer:
        assert answer.read().decode().count("Not called yet") == 4


def test_no_key_touches_the_disk(configuration, partner):
    """Runs in this process, so that every file opened for writing is seen by an audit hook."""
    loaded = load(configuration("bank-payments"))
    routes = {BANK: Route("127.0.0.1", partner.tls_port)}
    opened: list[object] = []
    listening = True

    def note(event: str, arguments: tuple) -> None:
        if listening and event == "open" and not isinstance(arguments[0], int) and arguments[2] & os.O_ACCMODE:
            opened.append(arguments[0])

    sys.addaudithook(note)
    try:
        made = call(loaded, Target("host", BANK), BANK, routes=routes, trust=partner.world.server_authority_file)
        written, kept = list(opened), [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        with (partner.world.folder / "seen").open("w"):
            pass
        assert len(opened) == len(written) + 1, "the hook sees a file that is written"
    finally:
        listening = False
    assert made.last.outcome == "answered"
    assert written == []
    assert not [name for name in kept if "client-certificate" in name], "nor does it stay open in memory"
