"""The sandbox's authorities and samples are made once and kept."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from sandbox.authority import BANK_HOST, OPEN_HOST, World, prepare

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return prepare(tmp_path_factory.mktemp("authority"), now=NOW)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(world: World, slug: str) -> pkcs12.PKCS12KeyAndCertificates:
    sample = next(sample for sample in world.samples if sample.slug == slug)
    return pkcs12.load_pkcs12(world.sample_file(sample).read_bytes(), sample.password.encode())


def test_preparing_again_changes_no_byte(world: World):
    before = contents(world.folder)

    again = prepare(world.folder, now=NOW + timedelta(hours=2))

    assert contents(world.folder) == before
    assert again == world


def test_every_sample_opens_with_the_password_beside_it(world: World):
    assert len(world.samples) == 6
    for sample in world.samples:
        content = pkcs12.load_pkcs12(world.sample_file(sample).read_bytes(), sample.password.encode())
        assert content.key is not None
        assert content.cert is not None
        assert content.cert.certificate.subject.rfc4514_string() == sample.subject
        assert content.additional_certs, "a chain comes with it"


def test_the_renewal_has_the_same_subject_and_another_key(world: World):
    first, renewal = opened(world, "bank-payments").cert, opened(world, "bank-payments-renewal").cert
    assert first is not None
    assert renewal is not None
    assert first.certificate.subject == renewal.certificate.subject
    assert first.certificate.public_key() != renewal.certificate.public_key()
    assert renewal.certificate.not_valid_after_utc > first.certificate.not_valid_after_utc


def test_the_samples_tell_their_stories(world: World):
    ends = {sample.slug: datetime.fromisoformat(sample.not_after) - NOW for sample in world.samples}
    assert ends["reports-expiring"] == timedelta(days=12)
    assert ends["archive-expired"] == timedelta(days=-21)
    keys = {type(opened(world, sample.slug).key).__mro__[0] for sample in world.samples}
    assert any(issubclass(key, rsa.RSAPrivateKey) for key in keys)
    assert any(issubclass(key, ec.EllipticCurvePrivateKey) for key in keys)


def test_what_has_grown_too_old_for_its_story_is_renewed_and_the_rest_stays(tmp_path: Path):
    first = prepare(tmp_path, now=NOW)
    authorities = contents(tmp_path / "authority")
    bank_server = first.server_file(BANK_HOST).read_bytes()

    soon = prepare(tmp_path, now=NOW + timedelta(days=5))
    renewed = {sample.slug for sample in soon.samples} - {
        sample.slug for sample in first.samples if sample in soon.samples
    }
    assert renewed == {"reports-expiring"}
    assert soon.server_file(BANK_HOST).read_bytes() == bank_server

    later = prepare(tmp_path, now=NOW + timedelta(days=360))
    assert contents(tmp_path / "authority") == authorities
    for host in (BANK_HOST, OPEN_HOST):
        server = x509.load_pem_x509_certificate(later.server_file(host).read_bytes())
        assert server.not_valid_after_utc > NOW + timedelta(days=700)
    expired = next(sample for sample in later.samples if sample.slug == "archive-expired")
    assert expired in first.samples


def test_a_lost_manifest_is_no_reason_to_fail(tmp_path: Path):
    prepare(tmp_path, now=NOW)
    (tmp_path / "samples.json").write_text("[{")

    assert len(prepare(tmp_path, now=NOW).samples) == 6


def test_files_with_keys_or_passwords_are_for_their_owner_only(world: World):
    public = {"partner-server-ca.pem", "partner-client-ca.pem", ".lock"}
    for path in world.folder.rglob("*"):
        if path.is_file() and path.name not in public:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (world.server_authority_file, world.client_authority_file):
        assert b"PRIVATE" not in path.read_bytes()


def test_every_authority_says_that_it_is_not_for_production(world: World):
    for authority in world.client_authorities:
        assert "not for production" in authority.subject.rfc4514_string()
