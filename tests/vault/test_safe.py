"""The one door: bytes go in, come out for a recorded reason, and belong to one row only."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction

from vault import safe
from vault.envelope import KeyMissing, KeyWrong, TamperedOrMoved, UnknownFormat, key_id_of
from vault.errors import Destroyed, FileMissing, KeyringAbsent, KeyringUnusable, StorageFailed
from vault.keyrings import local
from vault.models import KeyCheck, SealedObject
from vault.transactions import TransactionOpen

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault_settings")]

SECRET = b"-----BEGIN PRIVATE KEY----- not for other eyes"
TEST, PRODUCTION = uuid4(), uuid4()


def stored(plaintext: bytes = SECRET, *, environment_id: UUID | None = TEST, field="identity", version=1):
    sealed = safe.put(plaintext, environment_id=environment_id, field=field, version=version)
    sealed.save()
    return sealed


def opened(sealed: SealedObject) -> bytes:
    return safe.open_sealed(SealedObject.objects.get(pk=sealed.pk), record=lambda _: None)


@pytest.mark.parametrize("environment_id", [TEST, None])
def test_what_was_put_can_be_opened(environment_id: UUID | None) -> None:
    assert opened(stored(environment_id=environment_id)) == SECRET


def test_the_row_is_left_to_the_caller_to_save() -> None:
    sealed = safe.put(SECRET, environment_id=TEST, field="identity")
    assert not SealedObject.objects.exists()
    sealed.save()
    row = SealedObject.objects.get()
    assert (row.environment_id, row.field, row.version) == (TEST, "identity", 1)


def test_neither_file_nor_row_shows_the_secret(storage_folder: Path) -> None:
    sealed = stored()
    file = storage_folder / sealed.storage_name
    assert sealed.size == len(file.read_bytes()) == 24 + 32 + len(SECRET) + 16
    for place in (file.read_bytes(), bytes(sealed.header)):
        assert SECRET not in place
        assert b"PRIVATE" not in place


def test_the_recorder_comes_before_any_key_or_file(key_file: Path, storage_folder: Path) -> None:
    sealed = stored()
    key_file.unlink()
    (storage_folder / sealed.storage_name).unlink()
    recorded: list[SealedObject] = []
    with pytest.raises(KeyringAbsent):
        safe.open_sealed(sealed, record=recorded.append)
    assert recorded == [sealed]


def test_nothing_is_opened_when_it_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = stored()
    unsealed: list[object] = []
    monkeypatch.setattr("vault.envelope.unseal", lambda *args, **kwargs: unsealed.append(args))

    def full(_: SealedObject) -> None:
        raise OSError("no space left for the audit log")

    with pytest.raises(OSError, match="audit log"):
        safe.open_sealed(sealed, record=full)
    assert unsealed == []


def test_there_is_no_opening_without_a_recorder() -> None:
    with pytest.raises(TypeError, match="record"):
        safe.open_sealed(stored())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "change", [{"environment_id": PRODUCTION}, {"environment_id": None}, {"field": "password"}, {"version": 2}]
)
def test_a_row_that_was_moved_does_not_open(change: dict) -> None:
    sealed = stored()
    SealedObject.objects.filter(pk=sealed.pk).update(**change)
    with pytest.raises(TamperedOrMoved):
        opened(sealed)


def test_a_row_copied_under_another_id_does_not_open() -> None:
    sealed = stored()
    SealedObject.objects.filter(pk=sealed.pk).update(id=(other := uuid4()))
    with pytest.raises(TamperedOrMoved):
        opened(SealedObject(pk=other))


def test_files_that_changed_places_do_not_open(storage_folder: Path) -> None:
    one, other = stored(b"one"), stored(b"other")
    first, second = (storage_folder / sealed.storage_name for sealed in (one, other))
    first_content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_content)
    for sealed in (one, other):
        with pytest.raises(TamperedOrMoved):
            opened(sealed)


def test_rows_that_point_at_each_others_files_and_keys_do_not_open() -> None:
    one, other = stored(b"one"), stored(b"other", environment_id=PRODUCTION)
    SealedObject.objects.filter(pk=one.pk).delete()
    SealedObject.objects.filter(pk=other.pk).update(storage_name=one.storage_name, header=one.header)
    with pytest.raises(TamperedOrMoved):
        opened(other)


def test_a_file_cut_short_does_not_open(storage_folder: Path) -> None:
    sealed = stored()
    os.truncate(storage_folder / sealed.storage_name, 60)
    with pytest.raises(TamperedOrMoved):
        opened(sealed)


def test_a_missing_file_is_named_with_what_to_do(storage_folder: Path) -> None:
    sealed = stored()
    (storage_folder / sealed.storage_name).unlink()
    with pytest.raises(FileMissing, match=f"{sealed.storage_name}.*restore"):
        opened(sealed)


def test_a_storage_that_fails_is_told_apart_from_a_missing_file(storage_folder: Path) -> None:
    sealed = stored()
    file = storage_folder / sealed.storage_name
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageFailed, match="IsADirectoryError"):
        opened(sealed)


def test_a_row_cannot_lead_out_of_the_storage(tmp_path: Path) -> None:
    sealed = stored()
    (tmp_path / "outside").write_text("outside")
    SealedObject.objects.filter(pk=sealed.pk).update(storage_name="../outside")
    with pytest.raises(StorageFailed):
        opened(sealed)


def test_a_header_of_another_kind_is_refused() -> None:
    sealed = stored()
    SealedObject.objects.filter(pk=sealed.pk).update(header=b"CPV1")
    with pytest.raises(UnknownFormat):
        opened(sealed)


def test_another_ring_misses_the_key(key_file: Path) -> None:
    sealed = stored()
    key_file.unlink()
    local.generate(key_file)
    with pytest.raises(KeyMissing, match=key_id_of(sealed.header)):
        opened(sealed)


def wrong_key(key_file: Path) -> str:
    """Put other bytes under the id that the file already names; give back the id."""
    key_id = local.LocalKeyring.from_options({"path": key_file}).active_id
    key_file.write_bytes(local._dump(key_id, {key_id: bytes(32)}))
    return key_id


def test_a_wrong_key_is_told_apart_from_a_changed_object(key_file: Path) -> None:
    sealed = stored()
    with pytest.raises(KeyWrong, match=wrong_key(key_file)):
        opened(sealed)


def test_nothing_is_sealed_under_a_wrong_key(key_file: Path, storage_folder: Path) -> None:
    stored()
    wrong_key(key_file)
    with pytest.raises(KeyWrong):
        safe.put(SECRET, environment_id=TEST, field="identity")
    assert len(list(storage_folder.iterdir())) == 1


def test_a_loose_key_file_closes_the_vault(key_file: Path, storage_folder: Path) -> None:
    sealed = stored()
    key_file.chmod(0o644)
    with pytest.raises(KeyringUnusable, match="0644"):
        opened(sealed)
    with pytest.raises(KeyringUnusable, match="0644"):
        safe.put(SECRET, environment_id=TEST, field="identity")


@pytest.mark.parametrize("misuse", [{"field": ""}, {"field": "identity", "version": 0}])
def test_an_object_needs_a_field_and_a_version(misuse: dict, storage_folder: Path) -> None:
    with pytest.raises(ValueError, match="field"):
        safe.put(SECRET, environment_id=TEST, **misuse)
    assert not storage_folder.exists()


PORTS: dict[str, Callable[[SealedObject], object]] = {
    "put": lambda sealed: safe.put(SECRET, environment_id=TEST, field="identity"),
    "open": lambda sealed: safe.open_sealed(sealed, record=lambda _: pytest.fail("recorded")),
    "destroy": lambda sealed: safe.destroy(sealed),
    "rewrap": lambda sealed: safe.rewrap(sealed),
    "sweep": lambda sealed: safe.sweep(timedelta(0)),
}


@pytest.mark.parametrize("port", PORTS)
def test_the_vault_is_not_called_inside_a_transaction(port: str, storage_folder: Path) -> None:
    sealed = stored()
    with pytest.raises(TransactionOpen), transaction.atomic():
        PORTS[port](sealed)
    assert [file.name for file in storage_folder.iterdir()] == [sealed.storage_name]
    assert opened(sealed) == SECRET


@pytest.mark.django_db(transaction=True)
def test_it_works_where_no_test_case_holds_a_transaction() -> None:
    sealed = safe.put(SECRET, environment_id=TEST, field="identity")
    with transaction.atomic():
        sealed.save()
        with pytest.raises(TransactionOpen):
            opened(sealed)
    assert opened(sealed) == SECRET


def test_destroying_forgets_the_key_and_the_file(storage_folder: Path) -> None:
    sealed = stored()
    safe.destroy(sealed)
    row = SealedObject.objects.get(pk=sealed.pk)
    assert row.header is None
    assert row.destroyed_at is not None
    assert list(storage_folder.iterdir()) == []
    for known in (sealed, row):
        with pytest.raises(Destroyed):
            safe.open_sealed(known, record=lambda _: None)


def test_destroying_twice_keeps_the_first_time() -> None:
    sealed = stored()
    safe.destroy(sealed)
    first = SealedObject.objects.get(pk=sealed.pk).destroyed_at
    safe.destroy(SealedObject.objects.get(pk=sealed.pk))
    assert SealedObject.objects.get(pk=sealed.pk).destroyed_at == first


def test_a_row_that_was_never_saved_can_be_destroyed(storage_folder: Path) -> None:
    safe.destroy(safe.put(SECRET, environment_id=TEST, field="identity"))
    assert list(storage_folder.iterdir()) == []
    assert not SealedObject.objects.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_of_what_never_came_to_be_nothing_stays(error: type[BaseException], storage_folder: Path) -> None:
    stays, sealed = stored(), safe.put(SECRET, environment_id=TEST, field="identity")

    def interrupted() -> None:
        with safe.kept(sealed), transaction.atomic():
            sealed.save()
            raise error

    with pytest.raises(error):
        interrupted()
    assert [file.name for file in storage_folder.iterdir()] == [stays.storage_name]
    assert SealedObject.objects.get() == stays


def test_what_came_to_be_stays() -> None:
    sealed = safe.put(SECRET, environment_id=TEST, field="identity")
    with safe.kept(sealed), transaction.atomic():
        sealed.save()
    assert opened(sealed) == SECRET


def test_a_storage_that_keeps_the_file_hides_no_error(storage_folder: Path) -> None:
    sealed = safe.put(SECRET, environment_id=TEST, field="identity")
    (storage_folder / sealed.storage_name).unlink()
    (storage_folder / sealed.storage_name / "in the way").mkdir(parents=True)
    with pytest.raises(ValueError, match="ours"), safe.kept(sealed):
        raise ValueError("ours")


def test_the_sweep_takes_only_old_files_that_no_living_row_knows(storage_folder: Path) -> None:
    kept, young, orphan, destroyed = (stored() for _ in range(4))
    for lost in (young, orphan):
        SealedObject.objects.filter(pk=lost.pk).delete()
    content = (storage_folder / destroyed.storage_name).read_bytes()
    safe.destroy(destroyed)
    (storage_folder / destroyed.storage_name).write_bytes(content)  # as if the deletion had not got through
    (storage_folder / "README").write_text("not the vault's")
    hour_ago = time.time() - 3600
    for file in storage_folder.iterdir():
        if file.name != young.storage_name:
            os.utime(file, (hour_ago, hour_ago))
    assert safe.sweep(timedelta(minutes=30)) == 2
    assert {file.name for file in storage_folder.iterdir()} == {kept.storage_name, young.storage_name, "README"}
    assert opened(kept) == SECRET


def test_the_sweep_of_an_empty_vault_finds_nothing(storage_folder: Path) -> None:
    assert not storage_folder.exists()
    assert safe.sweep(timedelta(0)) == 0


def test_a_storage_without_paths_serves_as_well(vault_settings) -> None:
    """As object storage does: no path to sync, names and times from its own listing."""
    vault_settings.STORAGES = {
        **vault_settings.STORAGES,
        "vault": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    kept, orphan = stored(), stored()
    SealedObject.objects.filter(pk=orphan.pk).delete()
    assert safe.sweep(timedelta(0)) == 1
    assert opened(kept) == SECRET
    safe.storages["vault"].delete(kept.storage_name)
    with pytest.raises(FileMissing):
        opened(kept)
    safe.destroy(kept)


def test_a_file_and_its_name_are_on_disk_before_the_row_can_point_at_it(
    storage_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", watched)
    sealed = safe.put(SECRET, environment_id=TEST, field="identity")
    file = storage_folder / sealed.storage_name
    assert (file.stat().st_ino, sealed.size) in synced
    assert storage_folder.stat().st_ino in [inode for inode, _ in synced]


def test_a_storage_that_cannot_be_written_is_told(storage_folder: Path) -> None:
    storage_folder.write_text("a file in the way")
    with pytest.raises(StorageFailed, match="FileExistsError"):
        safe.put(SECRET, environment_id=TEST, field="identity")


def test_rewrapping_moves_a_row_to_the_active_key(key_file: Path, storage_folder: Path) -> None:
    sealed = stored()
    content = (storage_folder / sealed.storage_name).read_bytes()
    assert safe.rewrap(sealed) is False
    new_id = local.add_key(key_file)
    assert safe.rewrap(sealed) is True
    assert key_id_of(SealedObject.objects.get(pk=sealed.pk).header) == new_id
    assert (storage_folder / sealed.storage_name).read_bytes() == content
    assert opened(sealed) == SECRET
    assert KeyCheck.objects.filter(pk=new_id).exists()


def test_rewrapping_does_not_bring_a_destroyed_object_back(key_file: Path) -> None:
    stale = stored()
    local.add_key(key_file)
    safe.destroy(SealedObject.objects.get(pk=stale.pk))
    assert safe.rewrap(stale) is False
    assert SealedObject.objects.get(pk=stale.pk).header is None


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"header": None}, "a_sealed_object_has_its_key_until_destroyed"),
        ({"destroyed_at": "2026-11-23T12:00Z"}, "a_sealed_object_has_its_key_until_destroyed"),
        ({"version": 0}, "versions_of_sealed_objects_count_from_one"),
        ({"field": ""}, "a_sealed_object_names_its_field"),
        ({"storage_name": ""}, "a_sealed_object_names_its_file"),
    ],
)
def test_the_database_refuses_a_row_that_makes_no_sense(change: dict, constraint: str) -> None:
    sealed = stored()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        SealedObject.objects.filter(pk=sealed.pk).update(**change)


def test_one_file_belongs_to_one_row() -> None:
    one, other = stored(), stored()
    # SQLite names the column, PostgreSQL the constraint.
    with pytest.raises(IntegrityError, match=r"storage_name|one_sealed_object_per_file"), transaction.atomic():
        SealedObject.objects.filter(pk=other.pk).update(storage_name=one.storage_name)


def test_a_key_check_has_a_value() -> None:
    with pytest.raises(IntegrityError, match="a_key_check_has_a_value"), transaction.atomic():
        KeyCheck.objects.create(key_id="local/1", check_value="")
