"""What is sealed opens in its own place, whole, with its own key, and in no other way."""

import random
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.envelope import (
    Context,
    KeyMissing,
    KeyWrong,
    Sealed,
    TamperedOrMoved,
    UnknownFormat,
    VaultError,
    key_id_of,
    rewrap,
    seal,
    unseal,
    verify_key,
)
from vault.keyrings import local
from vault.keyrings.local import LocalKeyring

SECRET = b"-----BEGIN PRIVATE KEY----- not for other eyes"


@pytest.fixture
def keyring(key_file: Path) -> LocalKeyring:
    return LocalKeyring.from_options({"path": key_file})


@pytest.fixture
def context() -> Context:
    return Context("vault.SealedObject", uuid4(), uuid4(), "identity", 1)


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 40_000])
def test_what_was_sealed_opens_again(size: int, context: Context, keyring: LocalKeyring) -> None:
    plaintext = random.Random(size).randbytes(size)
    assert unseal(seal(plaintext, context=context, keyring=keyring), context=context, keyring=keyring) == plaintext


def test_equal_plaintexts_never_give_equal_bytes(context: Context, keyring: LocalKeyring) -> None:
    one, other = (seal(SECRET, context=context, keyring=keyring) for _ in range(2))
    assert one.ciphertext != other.ciphertext
    assert one.header != other.header
    assert SECRET not in one.ciphertext + one.header


@pytest.mark.parametrize(
    "change",
    [
        {"table": "vault.Other"},
        {"object_id": uuid4()},
        {"environment_id": uuid4()},
        {"environment_id": None},
        {"field": "password"},
        {"version": 2},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_place_does_not_open_it(change: dict, context: Context, keyring: LocalKeyring) -> None:
    sealed = seal(SECRET, context=context, keyring=keyring)
    with pytest.raises(TamperedOrMoved):
        unseal(sealed, context=replace(context, **change), keyring=keyring)


def test_the_data_alone_is_bound_to_its_place_even_for_who_has_its_data_key(
    context: Context, keyring: LocalKeyring
) -> None:
    """The wrap refuses first in the test above; here the data key reaches the data, which must refuse by itself."""

    class OpenRing(LocalKeyring):
        def wrap(self, key_id: str, data_key: bytes, *, context: bytes) -> bytes:
            return data_key

        def unwrap(self, key_id: str, wrapped: bytes, *, context: bytes) -> bytes:
            return wrapped

    ring = OpenRing(active_id="open", keys={"open": bytes(32)})
    sealed = seal(SECRET, context=context, keyring=ring)
    assert unseal(sealed, context=context, keyring=ring) == SECRET
    with pytest.raises(TamperedOrMoved):
        unseal(sealed, context=replace(context, version=2), keyring=ring)


def test_halves_of_two_objects_do_not_fit(context: Context, keyring: LocalKeyring) -> None:
    one, other = (seal(SECRET, context=context, keyring=keyring) for _ in range(2))
    with pytest.raises(TamperedOrMoved):
        unseal(Sealed(header=one.header, ciphertext=other.ciphertext), context=context, keyring=keyring)


def test_every_truncation_is_noticed(context: Context, keyring: LocalKeyring) -> None:
    # Three chunks; a cut exactly between two chunks is the one that a naive format would not notice.
    sealed = seal(bytes(40_000), context=context, keyring=keyring)
    chunk = 16_384 + 16
    for length in (0, 1, 24, 55, 56, 72, 56 + chunk, 56 + 2 * chunk, len(sealed.ciphertext) - 1):
        with pytest.raises(TamperedOrMoved):
            unseal(replace(sealed, ciphertext=sealed.ciphertext[:length]), context=context, keyring=keyring)
    for length in range(len(sealed.header)):
        with pytest.raises(UnknownFormat):
            unseal(replace(sealed, header=sealed.header[:length]), context=context, keyring=keyring)


def test_added_bytes_are_noticed(context: Context, keyring: LocalKeyring) -> None:
    sealed = seal(SECRET, context=context, keyring=keyring)
    with pytest.raises(TamperedOrMoved):
        unseal(replace(sealed, ciphertext=sealed.ciphertext + b"\0"), context=context, keyring=keyring)
    with pytest.raises(UnknownFormat):
        unseal(replace(sealed, header=sealed.header + b"\0"), context=context, keyring=keyring)


def test_five_hundred_flipped_bits_are_all_noticed_without_a_word_of_the_secret(
    context: Context, keyring: LocalKeyring
) -> None:
    sealed = seal(SECRET, context=context, keyring=keyring)
    whole = sealed.header + sealed.ciphertext
    for bit in random.Random(4).sample(range(8 * len(whole)), 500):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        broken = Sealed(bytes(flipped[: len(sealed.header)]), bytes(flipped[len(sealed.header) :]))
        with pytest.raises(VaultError) as refusal:
            unseal(broken, context=context, keyring=keyring)
        assert "PRIVATE" not in str(refusal.value)


def test_a_key_that_is_not_in_the_ring_is_named(tmp_path: Path, context: Context, keyring: LocalKeyring) -> None:
    local.generate(tmp_path / "other.key")
    other = LocalKeyring.from_options({"path": tmp_path / "other.key"})
    with pytest.raises(KeyMissing, match=keyring.active_id):
        unseal(seal(SECRET, context=context, keyring=keyring), context=context, keyring=other)


def test_another_key_under_the_same_id_is_refused(context: Context, keyring: LocalKeyring) -> None:
    impostor = LocalKeyring(active_id=keyring.active_id, keys={keyring.active_id: bytes(32)})
    with pytest.raises(TamperedOrMoved):
        unseal(seal(SECRET, context=context, keyring=keyring), context=context, keyring=impostor)
    with pytest.raises(KeyWrong, match=keyring.active_id):
        verify_key(impostor, keyring.active_id, expected=keyring.check_value(keyring.active_id))


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [
        (0, b"X", "not the vault's"),
        (4, b"\x02", "format 2"),
        (5, b"\x02", "suite 2"),
        (6, b"\x00", "add up"),
        (9, b"\xff", "key id"),
        (9, b"L", "key id"),
    ],
)
def test_a_header_of_another_kind_is_refused_by_name(
    offset: int, value: bytes, says: str, context: Context, keyring: LocalKeyring
) -> None:
    header = seal(SECRET, context=context, keyring=keyring).header
    with pytest.raises(UnknownFormat, match=says):
        key_id_of(header[:offset] + value + header[offset + 1 :])


def test_rewrapping_moves_to_the_new_key_and_leaves_the_data(key_file: Path, context: Context) -> None:
    before = LocalKeyring.from_options({"path": key_file})
    sealed = seal(SECRET, context=context, keyring=before)
    new_id = local.add_key(key_file)
    both = LocalKeyring.from_options({"path": key_file})
    renewed = rewrap(sealed.header, context=context, keyring=both)
    assert (key_id_of(sealed.header), key_id_of(renewed)) == (before.active_id, new_id)
    assert unseal(replace(sealed, header=renewed), context=context, keyring=both) == SECRET
    assert unseal(sealed, context=context, keyring=both) == SECRET
    with pytest.raises(TamperedOrMoved):
        rewrap(sealed.header, context=replace(context, version=9), keyring=both)


def test_a_header_cannot_be_relabelled_with_another_key_id(key_file: Path, context: Context) -> None:
    """Even if two ids stand for one key, the wrap is bound to the id that it was made under."""
    key = bytes(range(32))
    ring = LocalKeyring(active_id="local/a", keys={"local/a": key, "local/b": key})
    sealed = seal(SECRET, context=context, keyring=ring)
    relabelled = replace(sealed, header=sealed.header.replace(b"local/a", b"local/b"))
    with pytest.raises(TamperedOrMoved):
        unseal(relabelled, context=context, keyring=ring)


contexts = st.builds(
    Context,
    table=st.text(max_size=4),
    object_id=st.sampled_from([UUID(int=0), UUID(int=1)]),
    environment_id=st.sampled_from([None, UUID(int=0), UUID(int=1)]),
    field=st.text(max_size=4),
    version=st.integers(0, 3),
)


@given(contexts, contexts)
def test_two_contexts_have_equal_bytes_only_if_they_are_equal(one: Context, other: Context) -> None:
    assert (bytes(one) == bytes(other)) == (one == other)


def test_a_table_cannot_borrow_letters_from_the_field() -> None:
    one = Context("ab", UUID(int=1), None, "c", 1)
    assert bytes(one) != bytes(replace(one, table="a", field="bc"))


def test_no_repr_shows_key_or_content(context: Context, keyring: LocalKeyring) -> None:
    sealed = seal(SECRET, context=context, keyring=keyring)
    assert repr(sealed) == "Sealed()"
    key = keyring._keys[keyring.active_id]
    assert repr(key) not in repr(keyring)
    assert repr(keyring) == f"LocalKeyring(active_id={keyring.active_id!r}, key_ids={[keyring.active_id]!r})"
