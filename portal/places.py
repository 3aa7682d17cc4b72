"""More places where apps run, out of a file of the server's own: COUNTERSIGN_PLACES.

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
      },
      "proxy": {
        "connector": "directory",
        "exporter": "pem-bundle",
        "title": "Outgoing proxy",
        "folder": "/srv/countersign/proxy",
        "group": "www-data",
        "start": ["/usr/sbin/nginx"],
        "stop": ["/usr/sbin/nginx", "-s", "quit"],
        "reload": ["/usr/sbin/nginx", "-s", "reload"],
        "status": ["/bin/sh", "/opt/countersign/deploy/directory/nginx-status.sh", "/run/nginx.pid"]
      },
      "orders": {
        "connector": "m2ee",
        "exporter": "pad-hocon",
        "title": "Orders, a Mendix runtime",
        "folder": "/srv/countersign/orders",
        "group": "mendix",
        "admin": "http://127.0.0.1:8090/"
      }
    }

`connector` says who runs the app: `local-process`, as a process of the portal (the default; `argv` and `status_url`
must be there), `directory`, by commands of its own (`start`, `stop` and `status` must be there), or `m2ee`, a Mendix
runtime that its supervisor brings back (`admin`, its admin port, must be there; the password is typed under Settings
and sealed). `exporter` says what is written for it, `mendix-settings` unless told. `{configuration}` becomes the folder
with the delivered files; without `folder` it lies in the data folder. `trust` names a PEM file with the authorities
that the app trusts beside the public ones, for tests of connections. The names are kept beside environments, so they do
not change. A command stands here and never on a page: whoever may write this file decides what runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from rollouts.exporters import EXPORTERS

_COMMON: Final = {"connector", "exporter", "title", "address", "folder", "trust"}
_TEXTS: Final = _COMMON | {"status_url", "owner", "group", "cwd", "admin"}
# connector -> what must stand in a place, and what else may
_KNOWN: Final = {
    "local-process": ({"argv", "status_url"}, _COMMON | {"env", "cwd"}),
    "directory": ({"start", "stop", "status"}, _COMMON | {"env", "cwd", "reload", "owner", "group"}),
    "m2ee": ({"admin"}, _COMMON | {"owner", "group"}),
}
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
        raise refuse("must be an object")
    connector = given.get("connector", "local-process")
    if connector not in _KNOWN:
        raise refuse(f"has a connector that is not here; known are {', '.join(sorted(_KNOWN))}")
    needed, allowed = _KNOWN[connector]
    if unknown := sorted(set(given) - needed - allowed):
        raise refuse(f"has {unknown[0]}, which means nothing; known are {', '.join(sorted(needed | allowed))}")
    if missing := sorted(needed - set(given)):
        raise refuse(f"has no {missing[0]}")
    if "exporter" in given and given["exporter"] not in EXPORTERS:
        raise refuse(f"has an exporter that is not here; known are {', '.join(sorted(EXPORTERS))}")
    if wrong := sorted(key for key in _TEXTS & set(given) if not isinstance(given[key], str)):
        raise refuse(f"has {wrong[0]} that is not a text")
    return {"title": name, "address": "", "folder": str(apps / name), **given}
