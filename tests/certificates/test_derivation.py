"""Keys from passwords: OpenSSL's function and ours give the same, so that either can stand in for the other."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import derivation, pkcs12
from certificates.derivation import Work
from tests import pki
from tests.certificates.made import all_made

DIGESTS = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512"]


@given(
    st.sampled_from(DIGESTS),
    st.sampled_from([b"\x01", b"\x02", b"\x03"]),
    st.binary(max_size=300),
    st.binary(max_size=200),
    st.integers(1, 40),
    st.integers(1, 150),
)
def test_both_ways_derive_the_same_key(digest, purpose, password, salt, rounds, length):
    ours = derivation._derived(digest, purpose, password, salt, rounds, length)
    assert len(ours) == length
    # OpenSSL takes nothing at all for a mistake; then ours stands in.
    theirs = derivation._derived_by_openssl(digest, purpose, password, salt, rounds, length)
    assert theirs == (ours if password + salt else None)


@given(
    st.sampled_from(DIGESTS), st.binary(max_size=200), st.binary(max_size=90), st.integers(1, 40), st.integers(1, 150)
)
def test_pbkdf2_is_that_of_hashlib(digest, password, salt, rounds, length):
    assert derivation.pbkdf2(digest, password, salt, rounds, length) == hashlib.pbkdf2_hmac(
        digest, password, salt, rounds, length
    )


def test_a_published_key_is_derived():
    """The first of the vectors that implementations of PKCS #12 share: “smeg”, SHA-1, one iteration, 24 bytes."""
    password = "smeg\0".encode("utf-16-be")
    salt = bytes.fromhex("0a58cf64530d823f")
    key = derivation.pkcs12("sha1", derivation.KEY, password, salt, 1, 24, Work())
    assert key.hex() == "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3"


def test_where_openssl_is_out_of_reach_the_same_files_are_read(monkeypatch: pytest.MonkeyPatch):
    old = [
        made for made in all_made() if made.code == "ok" and "600,000" not in made.name and "GnuTLS" not in made.name
    ]
    with_it = [pkcs12.read(made.file, made.password) for made in old]
    monkeypatch.setattr(derivation, "_openssl", lambda: None)
    assert [pkcs12.read(made.file, made.password) for made in old] == with_it
    assert pkcs12.read(pki.pfx(pki.issue(), "secret"), "secret")


def test_the_interpreters_own_digests_are_those_of_hashlib():
    for name in DIGESTS:
        assert derivation._hash(name)(b"abc").digest() == hashlib.new(name, b"abc").digest()
