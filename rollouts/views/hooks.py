"""The two doors for receivers of webhooks (rollouts/connectors/webhook.py): fetching an export, and reporting.

Nobody signs in here: who comes has signed with the key that the receiver and this environment share. Everything that is
not in order gets the same answer.
"""

from __future__ import annotations

import json
import logging
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from audit import trail
from rollouts import actions, unseal
from rollouts.connectors import ConnectorError
from rollouts.connectors.webhook import is_signed, kept, signing_key
from rollouts.downloads import zipped
from rollouts.models import Destination, Handout, Rollout
from rollouts.states import ACTIVE
from vault.errors import VaultError

log = logging.getLogger(__name__)
# Bytes of a report.
LONGEST = 16 * 1024


@login_not_required
@never_cache
@require_safe
def fetch(request: HttpRequest, token: str) -> HttpResponse:
    """The files of one export as a zip, once."""
    mark, now = unseal.mark_of(token), timezone.now()
    waiting = Handout.objects.filter(pk=mark, fetched_at=None, expires_at__gt=now)
    handout = waiting.select_related("bundle__sealed", "bundle__environment__application").first()
    if handout is None or request.method != "GET":
        raise Http404
    environment = handout.bundle.environment
    _known(Destination.objects.filter(environment=environment), request, b"")
    if not waiting.update(fetched_at=now):  # of two at once, one
        raise Http404
    bundle = unseal.open_bundle(handout.bundle, reason="fetched by the receiver of its webhook")
    with transaction.atomic():
        trail.record("export.fetched", by=None, subject=environment, digest=bundle.digest)
    return HttpResponse(zipped(bundle), content_type="application/zip")


@login_not_required
@csrf_exempt
@never_cache
@require_POST
def report(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What a receiver says by itself; a rollout that waits for it goes on at once."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > LONGEST:
        raise Http404
    destination = _known(Destination.objects.filter(pk=pk), request, request.body)
    try:
        told = json.loads(request.body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return HttpResponse("A report is a JSON object.", status=422, content_type="text/plain")
    memory = unseal.Memory(destination.pk)
    memory.keep(json.dumps({**kept(memory.recall()), "report": told}))
    for rollout in Rollout.objects.filter(environment=destination.environment_id, state__in=ACTIVE):
        actions.nudge(rollout.pk)
    return HttpResponse(status=204)


def _known(found: QuerySet[Destination], request: HttpRequest, body: bytes) -> Destination:
    """The destination whose key signed this. Raises Http404."""
    destination = found.filter(connector="webhook").select_related("secrets").first()
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        if destination is not None and is_signed(signing_key(unseal.secrets_of(destination)["key"]), headers, body):
            return destination
    except (ConnectorError, VaultError, KeyError):
        log.warning("a webhook's key could not be used", exc_info=True)
    raise Http404
