from django.db import migrations, models


def existing_ones_warn(apps, schema_editor):
    """What is applied today must not be refused tomorrow because of an upgrade."""
    environment = apps.get_model("environments", "Environment")
    environment.objects.using(schema_editor.connection.alias).update(connection_tests="warn")


class Migration(migrations.Migration):
    dependencies = [
        ("environments", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="environment",
            name="connection_tests",
            field=models.CharField(db_default="block", default="block", max_length=10),
        ),
        migrations.RunPython(existing_ones_warn, migrations.RunPython.noop),
    ]
