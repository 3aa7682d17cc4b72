"""The connector `directory` with services that are real: Debian's nginx, from an apply to what the partner sees."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import stat
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import actions as certificates
from certificates import pkcs12
from certificates.content import Bundle, File
from rollouts import actions
from rollouts.connectors import CALL_LIMIT, ConnectorError, sessions
from rollouts.connectors.directory import COMMAND_LIMIT, STATUS_LIMIT, Directory
from rollouts.outbound import Door
from tests import ports
from tests.sandbox.conftest import RunningPartner

pytestmark = [pytest.mark.contract, pytest.mark.timeout(90)]

ROOT = Path(__file__).resolve().parents[2]
BANK = "bank.sandbox.test"
NGINX = """
{user} worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {current}/nginx-client-certificates.conf;
    upstream {bank} {{ server 127.0.0.1:{partner}; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass https://{bank}/;
            proxy_ssl_server_name on;
            proxy_ssl_certificate $client_certificate;
            proxy_ssl_certificate_key $client_certificate_key;
            proxy_set_header Host $proxy_host;
        }}
    }}
}}
"""


class Proxy:
    """An nginx of this machine that calls the bank; its certificates are delivered by the portal."""

    def __init__(self, folder: Path, partner: RunningPartner) -> None:
        self.folder, self.port, self.partner = folder / "nginx", ports.free_port(), partner
        self.folder.mkdir()
        self.conf = self.folder / "nginx.conf"
        delivered = folder / "certificates"
        self.conf.write_text(
            NGINX.format(
                folder=self.folder, current=delivered / "current", bank=BANK, partner=partner.tls_port, port=self.port,
                user="user root;" if os.geteuid() == 0 else "",
            )
        )  # fmt: skip
        self.argv = ["/usr/sbin/nginx", "-e", f"{self.folder}/error.log", "-c", str(self.conf)]
        self.place: dict[str, Any] = {
            "title": "Proxy", "connector": "directory", "exporter": "pem-bundle", "folder": str(delivered),
            "trust": str(partner.world.server_authority_file),
            "start": self.argv, "stop": [*self.argv, "-s", "stop"], "reload": [*self.argv, "-s", "reload"],
            "status": ["/bin/sh", str(ROOT / "deploy" / "directory" / "nginx-status.sh"), f"{self.folder}/nginx.pid"],
        }  # fmt: skip

    @property
    def master(self) -> int:
        return int((self.folder / "nginx.pid").read_text())

    def serial_that_the_bank_sees(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=20) as answer:
            assert answer.status == 200
        return str(next(call for call in self.partner.calls() if call["host"] == BANK)["certificate"]["serial"])


@pytest.fixture
def proxy(tmp_path: Path, partner: RunningPartner, settings: Any) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, partner)
    settings.LOCAL_PROCESSES = {"proxy": proxy.place}
    settings.DOORS = settings.DOORS | {"tests": Door(places={(BANK, 443): ("127.0.0.1", partner.tls_port)})}
    yield proxy
    # By its number: nginx does not take `-s stop` where its configuration was spoiled.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(proxy.master, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while (proxy.folder / "nginx.pid").exists():
        assert time.monotonic() < deadline, "nginx does not end"
        time.sleep(0.05)


@pytest.fixture
def pinned(proxy: Proxy, environment: Any, owner: Any) -> Any:
    """The environment runs on the proxy, and the bank is pinned to the first sample; nothing is applied yet."""
    actions.use_place(environment=environment, place="proxy", by=owner)
    certificate = certificates.add(
        environment=environment, name="Bank payments", identity=sample(proxy.partner, "bank-payments"), by=owner
    )
    target = certificates.read_target(environment=environment, text=BANK)
    certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)
    return certificate


def sample(partner: RunningPartner, slug: str) -> pkcs12.Identity:
    found = partner.sample(slug)
    return pkcs12.read(partner.world.sample_file(found).read_bytes(), found.password)


def serial(partner: RunningPartner, slug: str) -> str:
    return f"{partner.certificate(slug).serial_number:x}"


@pytest.mark.django_db(transaction=True)
def test_a_renewal_reaches_the_partner_through_a_reload_and_the_proxy_is_never_down(
    proxy, pinned, environment, owner, apply
):
    environment.refresh_from_db()
    assert environment.runtime == "nginx"
    first = apply(start=True)
    assert (first.state, first.proof) == ("verified", "read-back"), first.failure
    assert set(first.tests.values_list("verdict", flat=True)) == {"accepted"}
    assert proxy.serial_that_the_bank_sees() == serial(proxy.partner, "bank-payments")
    master = proxy.master

    renewal = sample(proxy.partner, "bank-payments-renewal")
    certificates.renew(certificate=pinned, identity=renewal, in_use=True, by=owner)
    second = apply()
    assert (second.state, second.proof) == ("verified", "read-back"), second.failure
    assert proxy.serial_that_the_bank_sees() == serial(proxy.partner, "bank-payments-renewal")
    assert proxy.master == master, "it was reloaded, and never down"
    assert second.downtime is None
    assert [step.text for step in second.steps.filter(call__in=("stop", "start"))] == [
        "Let the app read what was delivered"
    ]


@pytest.mark.django_db(transaction=True)
def test_a_reload_that_is_refused_leaves_the_old_certificate_in_use(proxy, pinned, environment, owner, apply):
    assert apply(start=True).state == "verified"
    certificates.renew(
        certificate=pinned, identity=sample(proxy.partner, "bank-payments-renewal"), in_use=True, by=owner
    )
    proxy.conf.write_text(proxy.conf.read_text() + "nonsense;")
    rollout = apply()
    assert rollout.state == "rolled_back"
    assert "The reload command ended with 1" in rollout.failure
    assert "nonsense" in rollout.failure
    assert "The app was not interrupted." in rollout.sentence
    assert proxy.serial_that_the_bank_sees() == serial(proxy.partner, "bank-payments")


@pytest.mark.django_db(transaction=True)
def test_stop_and_start_are_the_services_own(proxy, pinned, environment, owner, apply, run_rollout):
    assert apply(start=True).state == "verified"
    assert run_rollout(actions.stop(environment=environment, by=owner)).state == "verified"
    assert not (proxy.folder / "nginx.pid").exists()
    assert run_rollout(actions.start(environment=environment, by=owner)).state == "verified"
    master = proxy.master
    assert run_rollout(actions.restart(environment=environment, by=owner)).state == "verified"
    assert proxy.master != master, "who asks for a restart gets one"


# --- What the commands say ---


def told(tmp_path: Path, script: str, **more: Any) -> Directory:
    file = tmp_path / "status.sh"
    file.write_text(script)
    words = ["/bin/sh", str(file)]
    return Directory({"folder": str(tmp_path / "app"), "start": ["true"], "stop": ["true"], "status": words, **more})


@pytest.mark.parametrize(
    ("script", "status", "incarnation", "note"),
    [
        ("echo 12-34", "running", "12-34", ""),
        ("echo 12-34; exit 75", "starting", "12-34", ""),
        ("exit 3", "stopped", "", ""),
        ("printf '12\\n-\\nout of memory\\n'; exit 3", "stopped", "", "out of memory"),
        ("exit 0", "unreachable", "", "does not print what identifies this start"),
        ("echo broken; exit 1", "unreachable", "", "ended with 1 and said: broken"),
        ("sleep 5", "unreachable", "", "did not end within 2 seconds"),
    ],
)
def test_a_status_is_what_the_command_says(tmp_path, script, status, incarnation, note):
    seen = told(tmp_path, script).observe()
    assert (seen.status, seen.incarnation) == (status, incarnation)
    assert note in seen.note
    assert bool(seen.ended) == (note == "out of memory")


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(ConnectorError, match=r"The start command ended with 2: ls: .*nowhere"):
        told(tmp_path, "exit 3", start=["ls", "/nowhere"], env={"LANG": "C"}).start()
    with pytest.raises(ConnectorError, match="start command /nowhere cannot be run"):
        told(tmp_path, "exit 3", start=["/nowhere"]).start()
    with pytest.raises(ConnectorError, match="and the app still runs"):
        told(tmp_path, "echo 1").stop()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"folder": "relative"}, "not an absolute path"), ({"start": "true"}, "start is not a list"),
        ({"status": []}, "status is not a list"), ({"group": "no-such-group"}, "no group no-such-group"),
        ({"owner": "no-such-user"}, "no user no-such-user"), ({"env": {"A": 1}}, "not texts"),
        ({"cwd": "x"}, "absolute"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(tmp_path, wrong, words):
    good = {"folder": str(tmp_path), "start": ["true"], "stop": ["true"], "status": ["true"]}
    with pytest.raises(ConnectorError, match=words):
        Directory(good | wrong)


def test_a_group_may_read_what_is_delivered_and_nobody_else(tmp_path):
    group = grp.getgrgid(os.getgid()).gr_name
    app = told(tmp_path, "exit 3", group=group)
    app.deliver(Bundle((File("pem/key.pem", b"key"),)))
    file = (app.folder / "current").resolve() / "pem" / "key.pem"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, app.folder / "versions", app.folder)]
    assert modes == [0o640, 0o750, 0o750, 0o750]
    assert file.stat().st_gid == os.getgid()
    file.chmod(0o644)
    app.deliver(Bundle((File("pem/key.pem", b"key"),)))
    assert stat.S_IMODE((app.folder / "current" / "pem" / "key.pem").stat().st_mode) == 0o640, "written anew"


def test_the_limits_of_one_call_together_stay_below_the_limit_of_a_call():
    longest = sessions.LOCK_LIMIT + STATUS_LIMIT + COMMAND_LIMIT + STATUS_LIMIT
    assert longest < CALL_LIMIT


# --- A unit of systemd ---

SYSTEMCTL = """#!/bin/sh
# As systemctl(1) says of `show --value --property=…`: the value alone, and exit code 0 for a unit that is not there.
for word in "$@"; do case $word in --property=*) asked=${{word#--property=}} ;; esac; done
case $asked in ActiveState) echo "{state}" ;; InvocationID) echo 0f3c ;; Result) echo exit-code ;; esac
"""


@pytest.mark.parametrize(
    ("state", "status", "incarnation"),
    [
        ("active", "running", "0f3c"), ("activating", "starting", "0f3c"), ("inactive", "stopped", ""),
        ("failed", "stopped", ""), ("maintenance", "unreachable", ""),
    ],
)  # fmt: skip
def test_the_status_of_a_unit(tmp_path, state, status, incarnation):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL.format(state=state))
    systemctl.chmod(0o755)
    script = (ROOT / "deploy" / "directory" / "systemd-status.sh").read_text()
    seen = told(tmp_path, script, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).observe()
    assert (seen.status, seen.incarnation) == (status, incarnation)
    if state == "failed":
        assert (seen.ended, seen.note) == ("0f3c", "The unit failed (exit-code).")
