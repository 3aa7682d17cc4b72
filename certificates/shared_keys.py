"""A key that is used outside production must not enter production unnoticed: one rule, for every page that brings a
certificate or a pin there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from certificates.models import ClientCertificate, Version
from environments.access import visible_environments
from environments.models import Environment, Person
from environments.refusals import Refused

NAMED = 3
# Of the warning, where several kinds stand together.
CODE = "also_in_tests"


def also_in_tests(environment: Environment, versions: Iterable[Version], reader: Any) -> dict[str, str]:
    """Of these versions, by their SHA-256, those whose key or certificate is also in use outside production, each with
    the sentence about it; none where `environment` is not production.

    Every environment counts, whoever may see it; only those that the reader may see are named. Two queries.
    """
    asked = {v.sha256: v for v in versions}
    if not environment.production or not asked:
        return {}
    same = Q(in_use__sha256__in=asked) | Q(in_use__spki_sha256__in={v.spki_sha256 for v in asked.values()} - {""})
    used = ClientCertificate.objects.filter(same, environment__production=False, removed_at=None)
    used = used.select_related("environment__application", "in_use").only(
        "name", "in_use__sha256", "in_use__spki_sha256", "environment__name", "environment__application__name"
    )
    seen = set(_seen_by(reader).values_list("pk", flat=True))
    places: dict[str, list[str]] = defaultdict(list)
    for certificate in used.order_by("environment__application__name", "environment__name", "name"):
        assert certificate.in_use is not None
        place = f"{certificate.environment}: {certificate.name}" if certificate.environment_id in seen else ""
        for sha256, version in asked.items():
            if certificate.in_use.sha256 == sha256 or certificate.in_use.spki_sha256 == version.spki_sha256 != "":
                places[sha256].append(place)
    return {sha256: _sentence(found) for sha256, found in places.items()}


def insist(environment: Environment, versions: Iterable[Version], *, confirmed: bool, by: Any) -> None:
    """Raises Refused where one of these keys is also in use outside production and nobody confirmed it."""
    sentence = "" if confirmed else next(iter(also_in_tests(environment, versions, by).values()), "")
    if sentence:
        raise Refused(
            _("%(sentence)s Confirm this to use it all the same.") % {"sentence": sentence}, field="confirmed"
        )


def _seen_by(reader: Any) -> Any:
    """Whoever runs a command on the server sees everything."""
    return visible_environments(reader) if isinstance(reader, Person) else Environment.objects.all()


def _sentence(places: list[str]) -> str:
    named = [place for place in places if place]
    if not named:
        return _("This key is also in use outside production, where you may not look; production needs its own.")
    words = "; ".join(named[:NAMED])
    if len(places) > len(named[:NAMED]):
        words = _("%(places)s; and elsewhere") % {"places": words}
    return _("This key is also in use outside production (%(places)s); production needs its own.") % {"places": words}
