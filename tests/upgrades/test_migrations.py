"""While an upgrade is under way, old programs run on the new tables. What they could not stand is found here.

The order is: migrate, restart the workers, restart the web servers (docs/install.md). Until the last of them is new, an
old one still inserts rows without knowing new columns, and selects every column that it knows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import IndexOperation, ModelOperation
from django.db.models import NOT_PROVIDED

from tests.upgrades import release_0_1_0

RELEASES = [release_0_1_0]

# (app, migration, operation as Django describes it) -> why old programs can live with it all the same.
_ONE_STATE_MORE = "it knows one state more than before, which programs of the release before never write"
ALLOWED: dict[tuple[str, str, str], str] = {
    ("rollouts", "0005_platforms", f"Create constraint {name} on model rollout"): _ONE_STATE_MORE
    for name in ("one_active_rollout_per_environment", "a_rollout_is_in_a_state_that_exists")
} | {
    ("rollouts", "0010_scheduled_applies", f"Create constraint {name} on model rollout"): _ONE_STATE_MORE
    for name in (
        "one_scheduled_apply_per_environment",
        "a_rollout_is_in_a_state_that_exists",
        "what_is_scheduled_has_its_time",
    )
}


def dangers(operation: Operation, state: migrations.state.ProjectState, app: str) -> str:
    """Why a program of the release before could fail after this operation; "" where it could not. `state` is before."""
    match operation:
        case migrations.RemoveField() | migrations.RenameField():
            return "it selects and inserts the column that is gone"
        case migrations.DeleteModel() | migrations.RenameModel() | migrations.AlterModelTable():
            return "it uses the table that is gone"
        case migrations.AddField(field=field):
            return "" if _fills_itself(field) else "it inserts rows without the column"
        case migrations.AlterField(model_name=model, name=name, field=field):
            return _narrowed(state.models[app, model.lower()].get_field(name), field)
        case migrations.AddConstraint() | migrations.AlterUniqueTogether():
            return "it may write what the constraint refuses, and the table may hold such rows already"
        case migrations.RunSQL():
            return "nobody here knows what the SQL does"
        case migrations.SeparateDatabaseAndState(database_operations=inner):
            return next(filter(None, (dangers(one, state, app) for one in inner)), "")
    return ""


def _fills_itself(field: models.Field) -> bool:
    """The database has a value for a row that comes without one. (Django's `default` is none: it leaves the table.)"""
    return field.null or field.many_to_many or field.db_default is not NOT_PROVIDED


def _narrowed(before: models.Field, after: models.Field) -> str:
    if before.null and not after.null:
        return "it inserts NULL"
    if not before.unique and after.unique:
        return "it may write a value twice"
    if before.db_default is not NOT_PROVIDED and not _fills_itself(after):
        return "it relies on the default of the database"
    widths = (before.max_length, after.max_length)
    if None not in widths and widths[1] < widths[0]:
        return "it may write a longer text"
    if _kind(before) != _kind(after) and not _wider(before, after):
        return f"it reads and writes {_kind(before)}, not {_kind(after)}"
    return ""


def _kind(field: models.Field) -> str:
    return field.get_internal_type()


WIDER = {
    ("IntegerField", "BigIntegerField"), ("PositiveIntegerField", "PositiveBigIntegerField"),
    ("PositiveSmallIntegerField", "PositiveIntegerField"), ("SmallIntegerField", "IntegerField"),
    ("CharField", "TextField"), ("SlugField", "CharField"), ("AutoField", "BigAutoField"),
}  # fmt: skip


def _wider(before: models.Field, after: models.Field) -> bool:
    return (_kind(before), _kind(after)) in WIDER


def newer(release: object) -> Iterator[tuple[str, str, Operation, migrations.state.ProjectState]]:
    """Each operation of ours after the release, with the state before it, in the order of the migrations."""
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None)
    leaves = list(release.LEAVES.items())
    done = {node for leaf in leaves for node in loader.graph.forwards_plan(leaf)}
    for app in release.LEAVES:
        for leaf in loader.graph.leaf_nodes(app):
            for node in loader.graph.forwards_plan(leaf):
                if node in done:
                    continue
                done.add(node)
                migration = loader.get_migration(*node)
                state = loader.project_state(node, at_end=False)
                for operation in migration.operations:
                    before = state.clone()
                    operation.state_forwards(node[0], state)
                    yield node[0], node[1], operation, before


def found(release: object) -> dict[tuple[str, str, str], str]:
    from django.db.migrations.loader import MigrationLoader

    known = MigrationLoader(None).project_state(list(release.LEAVES.items())).models
    return {
        (app, name, operation.describe()): danger
        for app, name, operation, state in newer(release)
        # A table that came later is nothing to the programs of that release.
        if (app, getattr(operation, "model_name", getattr(operation, "name", "")).lower()) in known
        or not isinstance(operation, FieldOperation | IndexOperation | ModelOperation)
        if app in release.LEAVES and (danger := dangers(operation, state, app))
    }


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.__name__.rpartition(".")[2])
def test_old_programs_can_run_on_the_new_tables(release: object) -> None:
    """Make it in two releases (first add what may be empty, then use it, then remove), or say in ALLOWED why not."""
    refused = {where: danger for where, danger in found(release).items() if where not in ALLOWED}
    assert refused == {}


def test_each_exception_is_needed_and_has_its_reason() -> None:
    needed = set().union(*(found(release).keys() for release in RELEASES))
    assert set(ALLOWED) <= needed
    assert all(len(reason) > 20 for reason in ALLOWED.values())


# --- The rules, each broken on purpose --------------------------------------------------------------------------------

TEXT = models.CharField(max_length=20)


@pytest.mark.parametrize(
    ("operation", "danger"),
    [
        (migrations.RemoveField("event", "actor"), "column that is gone"),
        (migrations.RenameField("event", "actor", "person"), "column that is gone"),
        (migrations.DeleteModel("Event"), "table that is gone"),
        (migrations.AddField("event", "place", TEXT), "without the column"),
        (migrations.AddField("event", "place", models.CharField(max_length=9, default="x")), "without the column"),
        (migrations.AddField("event", "place", models.CharField(max_length=9, db_default="x")), ""),
        (migrations.AddField("event", "place", models.CharField(max_length=9, null=True)), ""),
        (migrations.AlterField("event", "actor", models.CharField(max_length=20)), "longer text"),
        (migrations.AlterField("event", "actor", models.CharField(max_length=300)), ""),
        (migrations.AlterField("event", "actor", models.IntegerField()), "reads and writes CharField"),
        (migrations.AlterField("event", "actor", models.CharField(max_length=200, unique=True)), "twice"),
        (migrations.AddConstraint("event", models.UniqueConstraint(fields=["actor"], name="one")), "refuses"),
        (migrations.RunSQL("DROP TABLE x"), "nobody here knows"),
        (migrations.AddIndex("event", models.Index(fields=["actor"], name="by_actor")), ""),
        (migrations.RemoveConstraint("event", "one"), ""),
    ],
    ids=lambda value: value.describe() if isinstance(value, Operation) else value or "harmless",
)
def test_the_rules_tell_harm_from_harmless(operation: Operation, danger: str) -> None:
    from django.db.migrations.loader import MigrationLoader

    state = MigrationLoader(None).project_state(("audit", "0001_initial"))
    said = dangers(operation, state, "audit")
    assert danger in said if danger else said == ""


def test_a_column_that_becomes_obligatory_is_refused() -> None:
    from django.db.migrations.loader import MigrationLoader

    state = MigrationLoader(None).project_state(("rollouts", "0001_initial"))
    operation = migrations.AlterField("rollout", "lease_until", models.DateTimeField())
    assert dangers(operation, state, "rollouts") == "it inserts NULL"
