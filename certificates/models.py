from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from certificates import content as contents
from environments.models import Environment
from vault.models import SealedObject


class ClientCertificate(models.Model):
    """A named slot in an environment. Pins point at the slot, so that a renewal keeps them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="certificates")
    name = models.CharField(max_length=200)
    # Names the exported file and stands for the slot in a revision; never changes, so that renaming is no change.
    slug = models.SlugField(max_length=60)
    position = models.PositiveIntegerField()
    enabled = models.BooleanField(default=True)
    in_use = models.ForeignKey("Version", on_delete=models.PROTECT, null=True, related_name="+")
    contact = models.CharField(max_length=200, blank=True)
    how_to_renew = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["position", "created_at"]
        verbose_name = _("client certificate")
        constraints = [
            models.UniqueConstraint(
                "environment", Lower("name"), condition=Q(removed_at=None), name="one_certificate_per_name_in_any_case"
            ),
            models.UniqueConstraint(fields=["environment", "slug"], name="one_certificate_per_slug_in_an_environment"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return self.environment.url("certificate", self.pk)


class Version(models.Model):
    """Key, certificate and chain of one upload: the key sealed, the facts as columns. No page parses anything."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    # Null for a version that is tracked without its key.
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    file_name = models.CharField(max_length=200, blank=True)
    friendly_name = models.CharField(max_length=200, blank=True)
    subject = models.TextField()
    common_name = models.CharField(max_length=200, blank=True, db_index=True)
    issuer = models.TextField()
    issuer_common_name = models.CharField(max_length=200, blank=True)
    serial = models.CharField(max_length=60, db_index=True)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField(db_index=True)
    sha1 = models.CharField(max_length=40, db_index=True)
    sha256 = models.CharField(max_length=64, db_index=True)
    spki_sha256 = models.CharField(max_length=64, db_index=True)
    key_kind = models.CharField(max_length=40)
    key_bits = models.PositiveIntegerField()
    signature = models.CharField(max_length=60)
    names = models.JSONField(default=list)
    usages = models.JSONField(default=list)
    # [{subject, issuer, sha256, not_after (ISO 8601), self_signed}], leaf's issuer first
    chain = models.JSONField(default=list)
    missing_issuer = models.TextField(blank=True)
    # [{code, sentence}] that do not depend on the day; those that do are derived from the dates
    warnings = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["certificate", "number"], name="one_version_per_number_in_a_certificate"),
        ]

    def __str__(self) -> str:
        return f"{self.certificate.name} v{self.number}"

    @property
    def environment(self) -> Environment:
        return self.certificate.environment

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before

    def left(self, now: datetime | None = None) -> timedelta:
        """Time until it expires; negative afterwards."""
        return self.not_after - (now or timezone.now())

    def status(self, now: datetime | None = None) -> str:
        """`expired`, `not-yet-valid`, `expiring` (the last 60 days, or third of its life if less), or `ok`."""
        now = now or timezone.now()
        if self.not_after <= now:
            return "expired"
        if self.not_before > now:
            return "not-yet-valid"
        if self.not_after - now <= min(timedelta(days=60), self.lifetime / 3):
            return "expiring"
        return "ok"

    def slot(self, slug: str) -> contents.Slot:
        return contents.Slot(slug, self.sha256, tuple(link["sha256"] for link in self.chain))


class Pin(models.Model):
    """A target that presents this certificate here, or, without one, never sends a certificate."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="pins")
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=200)
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, null=True, related_name="pins")
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="one_pin_per_exported_key_in_an_environment"),
        ]

    def __str__(self) -> str:
        return self.key


class Draft(models.Model):
    """A file between upload and confirmation: sealed, short-lived, single use, bound to person and environment.

    First the file as it came; once a password has opened it, the identity that was read (and the file is gone).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session = models.CharField(max_length=64)  # SHA-256 of the session key
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.CASCADE, null=True, related_name="+")
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=200, blank=True)
    file_size = models.PositiveIntegerField()
    # The columns of the version that it would become; empty while the file has not been opened.
    facts = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.file_name or "draft"

    @property
    def is_read(self) -> bool:
        return bool(self.facts)

    def version(self) -> Version:
        """An unsaved Version with these facts, for the preview."""
        values: dict[str, Any] = dict(self.facts)
        for column in ("not_before", "not_after"):
            values[column] = datetime.fromisoformat(values[column])
        return Version(**values)
