"""What an installation sealed in the past must open for ever, with or without the library that sealed it.

`vectors.json` was written once and is never written again: a test that fails here is a change of format that would cost
somebody their keys. `open_by_hand` and `seal_by_hand` follow the public documents only: Cobblestone-256 as in C2SP
chunked-encryption v1 (c2sp.org/chunked-encryption, with SHA-512 and AES-256-GCM), the envelope as in the docstring of
vault/envelope.py. They share no code with the vault.
"""

import base64
import hashlib
import json
import os
import struct
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.envelope import Context, Sealed, seal, unseal
from vault.keyrings.local import LocalKeyring

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
CHUNK = 16 * 1024


def derived(key: bytes, salt: bytes, context: bytes) -> tuple[AESGCM, int, bytes]:
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + context
    okm = HKDFExpand(SHA512(), 32 + 12 + 32, info).derive(key)
    return AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big"), okm[44:]


def nonce(base: int, number: int) -> bytes:
    return (base ^ number).to_bytes(12, "big")


def cobblestone_open(key: bytes, context: bytes, message: bytes) -> bytes:
    salt, commitment, rest = message[:24], message[24:56], message[56:]
    aead, base, expected = derived(key, salt, context)
    assert commitment == expected
    chunks = [rest[start : start + CHUNK + 16] for start in range(0, len(rest), CHUNK + 16)]
    assert len(chunks[-1]) < CHUNK + 16, "the last chunk is always short"
    return b"".join(aead.decrypt(nonce(base, number), chunk, None) for number, chunk in enumerate(chunks))


def cobblestone_seal(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    salt = os.urandom(24)
    aead, base, commitment = derived(key, salt, context)
    chunks = [plaintext[start : start + CHUNK] for start in range(0, len(plaintext) + 1, CHUNK)]
    return salt + commitment + b"".join(aead.encrypt(nonce(base, n), chunk, None) for n, chunk in enumerate(chunks))


def lp(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def context_by_hand(place: dict) -> bytes:
    environment = UUID(place["environment_id"]).bytes if place["environment_id"] else b""
    version = place["version"].to_bytes(8, "big")
    return lp(place["table"].encode(), UUID(place["object_id"]).bytes, environment, place["field"].encode(), version)


def open_by_hand(keys: dict[str, bytes], place: dict, header: bytes, ciphertext: bytes) -> bytes:
    assert header[:6] == b"CTSG\x01\x01"
    n, m = struct.unpack(">BH", header[6:9])
    key_id, wrapped = header[9 : 9 + n], header[9 + n :]
    assert len(wrapped) == m
    here = context_by_hand(place)
    data_key = cobblestone_open(keys[key_id.decode()], lp(b"countersign/wrap", header[:6], key_id, here), wrapped)
    return cobblestone_open(data_key, lp(b"countersign/data", b"\x01", here), ciphertext)


def seal_by_hand(key_id: str, key: bytes, place: dict, plaintext: bytes) -> tuple[bytes, bytes]:
    here, data_key = context_by_hand(place), os.urandom(32)
    prelude = b"CTSG\x01\x01"
    wrapped = cobblestone_seal(key, lp(b"countersign/wrap", prelude, key_id.encode(), here), data_key)
    header = prelude + struct.pack(">BH", len(key_id), len(wrapped)) + key_id.encode() + wrapped
    return header, cobblestone_seal(data_key, lp(b"countersign/data", b"\x01", here), plaintext)


def context_of(place: dict) -> Context:
    environment = UUID(place["environment_id"]) if place["environment_id"] else None
    return Context(place["table"], UUID(place["object_id"]), environment, place["field"], place["version"])


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    path = tmp_path / "vault.key"
    path.touch(mode=0o600)
    path.write_text(json.dumps(VECTORS["keyring_file"]))
    return LocalKeyring.from_options({"path": path})


@pytest.fixture
def keys() -> dict[str, bytes]:
    return {key_id: base64.b64decode(text) for key_id, text in VECTORS["keyring_file"]["keys"].items()}


@pytest.fixture(params=VECTORS["sealed"], ids=lambda vector: vector["name"])
def vector(request: pytest.FixtureRequest) -> dict:
    return request.param


def test_the_vault_opens_what_was_sealed_long_ago(vector: dict, keyring: LocalKeyring) -> None:
    sealed = Sealed(base64.b64decode(vector["header"]), base64.b64decode(vector["ciphertext"]))
    plaintext = unseal(sealed, context=context_of(vector["context"]), keyring=keyring)
    assert len(plaintext) == vector["plaintext_length"]
    assert hashlib.sha256(plaintext).hexdigest() == vector["plaintext_sha256"]


def test_it_opens_without_the_library_too(vector: dict, keys: dict[str, bytes]) -> None:
    header, ciphertext = base64.b64decode(vector["header"]), base64.b64decode(vector["ciphertext"])
    plaintext = open_by_hand(keys, vector["context"], header, ciphertext)
    assert hashlib.sha256(plaintext).hexdigest() == vector["plaintext_sha256"]


def test_check_values_stay_what_they_were(keyring: LocalKeyring) -> None:
    assert {key_id: keyring.check_value(key_id) for key_id in keyring.key_ids} == VECTORS["check_values"]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_vault_and_document_read_each_other(size: int, keyring: LocalKeyring, keys: dict[str, bytes]) -> None:
    place = {"table": "t", "object_id": str(uuid4()), "environment_id": None, "field": "identity", "version": 7}
    plaintext = os.urandom(size)
    sealed = seal(plaintext, context=context_of(place), keyring=keyring)
    assert open_by_hand(keys, place, sealed.header, sealed.ciphertext) == plaintext
    by_hand = Sealed(*seal_by_hand(keyring.active_id, keys[keyring.active_id], place, plaintext))
    assert unseal(by_hand, context=context_of(place), keyring=keyring) == plaintext
