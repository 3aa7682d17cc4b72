"""What must not be shared, and what must not wait for ever: connections over a fork, a lock, a bucket that is gone."""

from __future__ import annotations

import ipaddress
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from django.core.files.base import ContentFile
from storages.backends.s3 import S3Storage

from portal import engines
from tests import pki, services
from tests.deploy import shape
from tests.journeys.product import InParts, here

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

# As an application module of gunicorn's: it asks the database before gunicorn forks, and then serves the portal.
USED_BEFORE_THE_FORK = """
from portal.wsgi import application
from django.db import connection
from django.contrib.sessions.models import Session
assert connection.settings_dict["OPTIONS"]["pool"]["max_size"] == 2
assert Session.objects.count() == 0
connection.close()
"""


def test_each_web_process_has_connections_of_its_own(tmp_path: Path):
    """Two processes that wrote to one socket would read one another's answers, and soon none."""
    (tmp_path / "preloaded.py").write_text(USED_BEFORE_THE_FORK)
    with services.postgresql() as url:
        product = InParts(
            tmp_path / "data",
            {"DATABASE_URL": url, "COUNTERSIGN_DATABASE_POOL": "2", "PYTHONPATH": str(tmp_path)},
            webs=1,
        )
        product.manage("prepare")
        bind = {"0.0.0.0:8000": f"127.0.0.1:{product.webs[0]}", "portal.wsgi:application": "preloaded:application"}
        product.start_part("web", [*here(shape.image_command(), bind), "--preload"])
        product.await_answer(f"http://127.0.0.1:{product.webs[0]}/healthz")
        outcomes: list[object] = []

        def look() -> None:
            for _time in range(10):
                try:
                    address = f"http://127.0.0.1:{product.webs[0]}/sign-in/"
                    # A session that does not exist is looked for in the database.
                    request = urllib.request.Request(address, headers={"Cookie": f"countersign={'x' * 32}"})
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        outcomes.append(answer.status)
                except OSError as error:
                    outcomes.append(error)

        people = [threading.Thread(target=look) for _ in range(8)]
        for person in people:
            person.start()
        for person in people:
            person.join()
        with psycopg.connect(url) as database:
            connections = database.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign'"
            ).fetchone()
        product.end_part("web")
        assert outcomes == [200] * 80, product.log("web").read_text()
        assert connections is not None
        assert connections[0] <= 3 * 2, "neither the two processes nor their parent have more than their pool"


def test_a_connection_to_postgresql_waits_for_nothing_without_an_end():
    with services.postgresql() as url:
        options: dict[str, Any] = engines.database(url)["OPTIONS"]
        with psycopg.connect(url, **options) as connection:

            def limit(name: str) -> str:
                row = connection.execute(f"SHOW {name}").fetchone()  # type: ignore[call-overload]
                return str(row[0])

            assert limit("lock_timeout") == "20s", "as long as on SQLite"
            assert limit("statement_timeout") == "30s"
            assert limit("idle_in_transaction_session_timeout") == "1min"
            with psycopg.connect(url, **(options | {"options": "-c lock_timeout=200ms"})) as other:
                connection.execute("CREATE TABLE one (n int)")
                connection.commit()
                connection.execute("LOCK TABLE one")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute("SELECT * FROM one")


def storage_at(server: services.S3, **other: str) -> S3Storage:
    given = {
        "endpoint": server.url,
        "region": "eu-west-1",
        "access_key": server.access_key,
        "secret_key": server.password,
        "addressing": "auto",
        "ca": "",
    }
    return S3Storage(**engines.bucket(server.bucket, **(given | other))["OPTIONS"])


class TlsS3(services.S3):
    """Behind a certificate of an authority of our own."""

    def prepare(self) -> None:
        super().prepare()
        authority = pki.make_authority("Storage CA")
        here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        issued = pki.issue("storage", authority=authority, eku=("serverAuth",), sans=here)
        (self.folder / "ca.pem").write_bytes(authority.certificate_pem)
        (self.folder / "server.pem").write_bytes(issued.certificate_pem)
        (self.folder / "server.key").write_bytes(issued.key_pem)

    def commands(self):
        return [[*super().commands()[0], "--cert", self.folder / "server.pem", "--key", self.folder / "server.key"]]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def test_a_bucket_keeps_an_object_under_a_name_of_its_own():
    with services.S3() as server:
        storage = storage_at(server)
        first, second = (storage.save("one.sealed", ContentFile(text)) for text in (b"first", b"second"))
        assert first == "one.sealed" != second, "what is there is never written over"
        with storage.open(first) as file:
            assert file.read() == b"first"
        assert sorted(storage.listdir("")[1]) == sorted([first, second]) == server.objects()
        with pytest.raises(FileNotFoundError):
            storage.open("none.sealed").read()
        with pytest.raises(Exception, match=r"SignatureDoesNotMatch|Forbidden|403"):
            storage_at(server, secret_key="wrong").save("two.sealed", ContentFile(b"x"))


def test_a_bucket_behind_tls_is_trusted_by_the_named_authority_only():
    with TlsS3() as server:
        trusting = storage_at(server, ca=str(server.folder / "ca.pem"))
        trusting.save("one.sealed", ContentFile(b"first"))
        assert server.objects() == ["one.sealed"]
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            storage_at(server).exists("one.sealed")


def test_a_bucket_that_does_not_answer_is_given_up():
    with services.S3() as server:
        storage = storage_at(server)
        assert not storage.exists("one.sealed")
        server.pause()
        began = time.monotonic()
        with pytest.raises(Exception, match=r"[Tt]imeout"):
            storage.exists("one.sealed")
        assert time.monotonic() - began < 60
        server.resume()
        assert not storage.exists("one.sealed")
