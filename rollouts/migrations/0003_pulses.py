from django.db import migrations, models


def workers_are_workers(apps, schema_editor):
    """The one row of release 0.1.0 is that of its workers, and keeps being written by those that still run."""
    apps.get_model("rollouts", "Pulse").objects.filter(name="worker").update(kind="worker")


class Migration(migrations.Migration):
    """Signs of life by process. Every column has a default in the database, for workers of the release before."""

    dependencies = [
        ("rollouts", "0002_fencing_and_calls"),
    ]

    operations = [
        migrations.AlterField(
            model_name="pulse",
            name="name",
            field=models.CharField(max_length=120, primary_key=True, serialize=False),
        ),
        migrations.AddField(
            model_name="pulse",
            name="kind",
            field=models.CharField(blank=True, db_default="", default="", max_length=20),
        ),
        migrations.AddField(
            model_name="pulse",
            name="host",
            field=models.CharField(blank=True, db_default="", default="", max_length=64),
        ),
        migrations.AddField(
            model_name="pulse",
            name="pid",
            field=models.PositiveBigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="pulse",
            name="since",
            field=models.DateTimeField(null=True),
        ),
        migrations.RunPython(workers_are_workers, migrations.RunPython.noop, elidable=True),
    ]
