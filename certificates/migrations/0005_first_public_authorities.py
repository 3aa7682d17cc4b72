from datetime import date

from django.db import migrations

# As of November 2026. The dates were moved before; owners keep the list from here on.
KNOWN = [
    (
        "DigiCert",
        "DigiCert",
        date(2027, 3, 1),
        "https://knowledge.digicert.com/alerts/sunsetting-client-authentication-eku-from-digicert-public-tls-certificates",
    ),
    ("Let's Encrypt", "Let's Encrypt", date(2026, 7, 8), "https://letsencrypt.org/2025/05/14/ending-tls-client-authentication"),
    ("Sectigo", "Sectigo", date(2027, 2, 10), "https://sectigo.com/faq-client-authentication-eku-deprecation"),
]


def add(apps, schema_editor):
    authorities = apps.get_model("certificates", "PublicAuthority").objects.using(schema_editor.connection.alias)
    for name, organisation, stops_on, source in KNOWN:
        authorities.create(name=name, organisation=organisation, stops_on=stops_on, source=source)


class Migration(migrations.Migration):
    dependencies = [("certificates", "0004_chains_batches_and_public_authorities")]

    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
