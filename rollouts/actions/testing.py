"""Testing connections."""

from __future__ import annotations

import threading
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from audit import trail
from certificates import current
from certificates.models import Pin
from environments.refusals import Refused
from rollouts import connections, unseal
from rollouts.models import ConnectionTest, Destination
from vault.errors import VaultError

# In one web process; each takes a thread of its own until it ends.
TESTS_AT_ONCE = threading.BoundedSemaphore(4)


def test_connection(*, pin: Pin, by: Any) -> ConnectionTest:
    """Tries the connection that a pin is for, with the certificate that it would send after the next apply."""
    environment = pin.environment
    destination = Destination.objects.filter(environment=environment).first()
    asked = connections.of_pins(environment, destination, [pin.pk])
    if not asked:
        raise Refused(
            _("“%(name)s” is disabled or has no private key here, so nothing can be sent; enable it first.")
            % {"name": pin.certificate}
        )
    (one,) = asked
    if not TESTS_AT_ONCE.acquire(timeout=1):
        raise Refused(_("Several connections are being tested already; try again in a few seconds."))
    try:
        version = pin.certificate.in_use if pin.certificate else None
        identities = {}
        if version is not None and one.slot is not None and one.address is not None:
            identities[one.slot.slug] = unseal.identity_of(version, reason=f"connection test of {pin.key}", by=by)
        authorities = connections.trusted(environment, destination, current.content(environment))
        ((_one, finding),) = connections.tried(asked, identities, authorities)
    except (VaultError, unseal.ReadBackError) as error:
        raise Refused(str(error)) from None
    finally:
        TESTS_AT_ONCE.release()
    with transaction.atomic():
        made = connections.kept(environment, one, finding, version=version, by=by)
        trail.record(
            "connection.tested", by=by, subject=pin, target=pin.key, address=made.address, verdict=made.verdict,
            certificate=pin.certificate.name if pin.certificate else None,
        )  # fmt: skip
    return made
