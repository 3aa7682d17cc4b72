"""More places for the local-process connector, out of a file of the server's own: COUNTERSIGN_PLACES.

    {
      "billing-test": {
        "title": "Billing, test",
        "argv": ["/opt/billing/bin/start", "--settings", "{configuration}"],
        "status_url": "http://127.0.0.1:8090/status",
        "address": "http://billing.internal/",
        "folder": "/srv/countersign/billing-test",
        "cwd": "/opt/billing",
        "env": {"JAVA_HOME": "/usr/lib/jvm/default-java"},
        "trust": "/etc/ssl/internal-authorities.pem"
      }
    }

`argv` and `status_url` must be there. `{configuration}` becomes the folder with the delivered files; without `folder`
it lies in the data folder. `trust` names a PEM file with the authorities that the app trusts beside the public ones,
for tests of connections. The names are kept beside environments, so they do not change. A command stands here and
never on a page: whoever may write this file decides what runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

_TEXTS: Final = {"title", "status_url", "address", "folder", "cwd", "trust"}
_KNOWN: Final = _TEXTS | {"argv", "env"}
# As in rollouts.models.Destination.place.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


def read(file: str, apps: Path) -> dict[str, dict[str, object]]:
    """name -> place, as in settings.LOCAL_PROCESSES. `apps`: where those live that name no folder.

    Raises ImproperlyConfigured with a sentence; the connector judges the values when it uses them.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImproperlyConfigured(
            f"COUNTERSIGN_PLACES names {file}, which cannot be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise ImproperlyConfigured(f"COUNTERSIGN_PLACES names {file}, which is not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ImproperlyConfigured(
            f"COUNTERSIGN_PLACES names {file}, which must hold an object: a name for each place."
        )
    places = {name: _place(file, name, given, apps) for name, given in found.items()}
    folders = [place["folder"] for place in places.values()]
    if len(set(folders)) < len(folders):
        raise ImproperlyConfigured(f"Two places in {file} have one folder; give each app a folder for itself alone.")
    return places


def _place(file: str, name: str, given: Any, apps: Path) -> dict[str, object]:
    def refuse(what: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"The place “{name}” in {file} {what}.")

    if not _NAME.fullmatch(name):
        raise refuse("has a name that is not made of small letters, digits and hyphens, at most 60")
    if not isinstance(given, dict):
        raise refuse("must be an object with argv and status_url")
    if unknown := sorted(set(given) - _KNOWN):
        raise refuse(f"has {unknown[0]}, which means nothing; known are {', '.join(sorted(_KNOWN))}")
    if missing := sorted({"argv", "status_url"} - set(given)):
        raise refuse(f"has no {missing[0]}")
    if wrong := sorted(key for key in _TEXTS & set(given) if not isinstance(given[key], str)):
        raise refuse(f"has {wrong[0]} that is not a text")
    return {"title": name, "address": "", "folder": str(apps / name), **given}
