"""What an address in the environment comes to: settings with limits, or one sentence that quotes no password."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import engines, env

SECRET = "pass-word-1"


@pytest.mark.parametrize(
    "url",
    [f"mysql://portal:{SECRET}@db/countersign", f"portal:{SECRET}@db", f"postgresql://portal:{SECRET}@db:54x2/name"],
)
def test_an_address_of_a_database_that_cannot_be_meant_is_refused_without_its_password(url: str):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as refused:
        engines.database(url)
    assert SECRET not in str(refused.value)


def test_what_the_address_of_a_database_says_itself_wins():
    options = engines.database("postgresql://db/name?connect_timeout=1&sslmode=verify-full")["OPTIONS"]
    assert int(options["connect_timeout"]) == 1
    assert options["sslmode"] == "verify-full"
    assert "lock_timeout=20s" in options["options"]


@pytest.mark.parametrize("url", [f"sqs://key:{SECRET}@", f"redis:/{SECRET}@host", f"http://{SECRET}@host", "localhost"])
def test_a_broker_that_nobody_tried_is_refused_without_its_password(url: str):
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_BROKER_URL") as refused:
        engines.broker(url, ca="")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("written", "spoken"), [("valkey://h/0", "redis://h/0"), ("valkeys://h/0", "rediss://h/0")])
def test_valkey_may_be_called_by_its_name(written: str, spoken: str):
    assert engines.broker(written, ca="")["BROKER_URL"] == spoken


@pytest.mark.parametrize("address", ["redis", "amqp", "files"])
def test_without_tls_nothing_of_tls_is_set(address: str):
    assert "BROKER_USE_SSL" not in engines.broker(f"{address}://host//", ca="")


def bucket(**options: str):
    given = {"endpoint": "", "region": "", "access_key": "", "secret_key": "", "addressing": "auto", "ca": ""}
    return engines.bucket("name", **(given | options))


@pytest.mark.parametrize("half", [{"access_key": SECRET}, {"secret_key": SECRET}])
def test_half_a_credential_is_refused(half: dict[str, str]):
    with pytest.raises(ImproperlyConfigured, match="Set both") as refused:
        bucket(**half)
    assert SECRET not in str(refused.value)


def test_a_bundle_of_authorities_that_is_not_there_is_refused():
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_VAULT_CA"):
        bucket(ca="/nowhere.pem")
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_BROKER_CA"):
        engines.broker("amqps://host//", ca="/nowhere.pem")


def test_a_way_of_addressing_that_does_not_exist_is_refused():
    with pytest.raises(ImproperlyConfigured, match="auto, path or virtual"):
        bucket(addressing="domain")


def test_any_variable_may_stand_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("COUNTERSIGN_VAULT_SECRET_KEY_FILE", str(tmp_path / "secret"))
    assert env.text("COUNTERSIGN_VAULT_SECRET_KEY") == SECRET


@pytest.mark.parametrize(
    "url", [f"smtp:{SECRET}", f"http://{SECRET}@host", f"smtp://user:{SECRET}@host:2x5", "smtp://h?tls=no", "host:25"]
)
def test_a_mail_server_that_cannot_be_meant_is_refused_without_its_password(url: str):
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_MAIL_URL") as refused:
        engines.mail(url)
    assert SECRET not in str(refused.value)


def test_mail_goes_over_tls_unless_somebody_says_otherwise():
    assert engines.mail("smtp://u:p%40ss@mail.example")["HOST_PASSWORD"] == "p@ss"
    assert [engines.mail(url)["USE_TLS"] for url in ("smtp://h", "smtps://h", "smtp://h:25?tls=none")] == [1, 0, 0]
    assert engines.mail("smtps://h")["USE_SSL"]
    assert (engines.mail("smtp://h")["PORT"], engines.mail("smtps://h")["PORT"]) == (587, 465)
