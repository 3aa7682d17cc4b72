"""What /metrics says, in the words that Prometheus and its like collect: when each certificate ends, when the last look
was made, and what waits to be sent."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from certificates.models import ClientCertificate, TrustedAuthority
from notices import watching
from notices.models import Message

A_PART = 2000
PLACE = ("application", "environment")


def exposition(accepts: str) -> tuple[bytes, str]:
    """The text and its content type, in the format that the collector prefers; a constant number of queries."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rows())
    encode, content_type = choose_encoder(accepts)
    return encode(registry), content_type


class _Rows(Collector):
    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield _certificates()
        yield _authorities()
        last = watching.last()
        moment = GaugeMetricFamily(
            "countersign_watch_last_success_timestamp_seconds",
            "When everything that ends was last looked at; 0 where that never happened.",
        )
        moment.add_metric([], last.ended_at.timestamp() if last and last.ended_at else 0)
        yield moment
        for name, words, value in (
            ("countersign_watch_checked", "What the last look looked at.", last.checked if last else 0),
            ("countersign_watch_unreadable", "What it could not read.", last.unreadable if last else 0),
        ):
            yield GaugeMetricFamily(name, words, value=value)
        unsent = Message.objects.filter(Q(state__in=("waiting", "sending")))
        yield GaugeMetricFamily("countersign_notices_unsent", "Messages that wait to be sent.", value=unsent.count())
        given_up = Message.objects.filter(state="given-up").exclude(kind="test")
        yield GaugeMetricFamily(
            "countersign_notices_given_up", "Messages that could not be sent for a week.", value=given_up.count()
        )


def _certificates() -> Metric:
    family = GaugeMetricFamily(
        "countersign_certificate_not_after_timestamp_seconds",
        "When the version of a client certificate that goes with the next apply ends.",
        labels=[*PLACE, "certificate", "production"],
    )
    rows = ClientCertificate.objects.filter(
        environment__archived_at=None, environment__application__archived_at=None, enabled=True, removed_at=None,
        expires_at__isnull=False,
    )  # fmt: skip
    columns = ("environment__application__slug", "environment__slug", "slug", "environment__production", "expires_at")
    for app, env, slug, production, ends in rows.order_by().values_list(*columns).iterator(A_PART):
        family.add_metric([app, env, slug, "true" if production else "false"], ends.timestamp())
    return family


def _authorities() -> Metric:
    family = GaugeMetricFamily(
        "countersign_authority_not_after_timestamp_seconds",
        "When a trusted authority ends.",
        labels=[*PLACE, "sha256"],
    )
    rows = TrustedAuthority.objects.filter(environment__archived_at=None, removed_at=None)
    columns = ("environment__application__slug", "environment__slug", "sha256", "not_after")
    for app, env, sha256, ends in rows.order_by().values_list(*columns).iterator(A_PART):
        family.add_metric([app, env, sha256], ends.timestamp())
    return family
