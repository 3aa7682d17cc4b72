"""Counts every write of what an environment should run, inside the database, where no action can forget it.

Pages show counts and marks that were worked out before (rollouts.comparisons). They are shown only while the number
here is the one that they were worked out for, so a write by an action, a command, a migration or by hand in the
database all count alike: triggers raise the number in the same transaction. Two who write in one environment wait for
one another at that number; actions take turns before (environments.actions), so that they never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from certificates.models import ClientCertificate, Pin, Serial, TrustedAuthority, Version
from environments.models import Environment

# Part of the triggers' names: another number where what they do changes, so that the next migrate replaces them.
FORM = 1
PREFIX = "content_written_"
EVENTS = ("INSERT", "UPDATE", "DELETE")
# table → the column that names the environment; "" for a table whose rows never change: a write there concerns all
TABLES = {
    ClientCertificate._meta.db_table: "environment_id",
    Pin._meta.db_table: "environment_id",
    TrustedAuthority._meta.db_table: "environment_id",
    Environment._meta.db_table: "id",
    Version._meta.db_table: "",
}
SERIALS = Serial._meta.db_table


def install(*, using: str = "default", **signal: Any) -> None:
    """After each migrate: the triggers are there, each environment has its number, and after a change of tables every
    number moves on (SQLite makes some tables anew, without their triggers, and a migration may write)."""
    connection = connections[using]
    # Back before the release that brought them, there is nothing to count in.
    here = SERIALS in connection.introspection.table_names()
    wanted, there = dict(_triggers(connection.vendor)) if here else {}, _installed(connection)
    with connection.cursor() as cursor:
        for name, table in there.items():
            if name not in wanted:
                cursor.execute(f'DROP TRIGGER "{name}"' + (f' ON "{table}"' if connection.vendor != "sqlite" else ""))
        if connection.vendor == "postgresql" and not set(wanted) <= set(there):
            cursor.execute(_POSTGRESQL)
        for name, statement in wanted.items():
            if name not in there:
                # On PostgreSQL this waits for those who are writing, and later writers count.
                cursor.execute(statement)
    if not here:
        return
    _number_all(using, connection.vendor)
    if signal.get("plan"):
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {SERIALS} SET number = number + 1")  # noqa: S608


def _number_all(using: str, vendor: str) -> None:
    missing = Environment.objects.using(using).filter(serial=None)
    if not missing.exists():
        return
    with transaction.atomic(using=using):
        if vendor == "postgresql":
            # A writer whose trigger found no number to raise has to be done before there is one.
            with connections[using].cursor() as cursor:
                cursor.execute(f"LOCK TABLE {', '.join(TABLES)} IN SHARE ROW EXCLUSIVE MODE")
        Serial.objects.using(using).bulk_create(Serial(environment=e, number=1) for e in missing)


def uninstall(*, using: str = "default", **signal: Any) -> None:
    """Before tables change: SQLite does not rename a table while a trigger names one that is not there."""
    connection = connections[using]
    if connection.vendor == "sqlite" and signal.get("plan"):
        with connection.cursor() as cursor:
            for name in _installed(connection):
                cursor.execute(f'DROP TRIGGER "{name}"')


def _installed(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Name of the trigger → its table."""
    asked = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s"
    if connection.vendor == "postgresql":
        asked = (
            "SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE pg_table_is_visible(c.oid) AND NOT t.tgisinternal AND t.tgname LIKE %s"
        )
    with connection.cursor() as cursor:
        cursor.execute(asked, [PREFIX + "%"])
        return dict(cursor.fetchall())


def _triggers(vendor: str) -> Iterator[tuple[str, str]]:
    for table, column in TABLES.items():
        for event in EVENTS:
            # A new version changes nothing until a certificate uses it, which is a write of the certificate.
            if column or event != "INSERT":
                name = f"{PREFIX}{table}_{event.lower()}_{FORM}"
                yield name, _trigger(vendor, name, table, column, event)


def _trigger(vendor: str, name: str, table: str, column: str, event: str) -> str:
    head = f'CREATE TRIGGER "{name}" AFTER {event} ON "{table}" FOR EACH ROW'
    if vendor == "postgresql":
        return f"{head} EXECUTE FUNCTION content_written({repr(column) if column else ''})"
    if (table, event) == (Environment._meta.db_table, "INSERT"):
        return f"{head} BEGIN INSERT INTO {SERIALS} (environment_id, number) VALUES (NEW.id, 1); END"  # noqa: S608
    rows = [f"{row}.{column}" for row, absent in (("NEW", "DELETE"), ("OLD", "INSERT")) if event != absent]
    where = f" WHERE environment_id IN ({', '.join(rows)})" if column else ""
    return f"{head} BEGIN UPDATE {SERIALS} SET number = number + 1{where}; END"  # noqa: S608


_POSTGRESQL = f"""
CREATE OR REPLACE FUNCTION content_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  was uuid;
  is_now uuid;
BEGIN
  IF TG_NARGS = 0 THEN
    UPDATE {SERIALS} SET number = number + 1;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN was := to_jsonb(OLD) ->> TG_ARGV[0]; END IF;
  IF TG_OP <> 'DELETE' THEN is_now := to_jsonb(NEW) ->> TG_ARGV[0]; END IF;
  IF TG_OP = 'INSERT' AND TG_TABLE_NAME = '{Environment._meta.db_table}' THEN
    INSERT INTO {SERIALS} (environment_id, number) VALUES (is_now, 1);
  ELSE
    UPDATE {SERIALS} SET number = number + 1 WHERE environment_id IN (was, is_now);
  END IF;
  RETURN NULL;
END
$$
"""  # noqa: S608  # names of our own tables
