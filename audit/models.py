from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Event(models.Model):
    """Who did what, when, to what, and why. Written once; plain text references, so that it outlives its subject.

    `body` is the canonical JSON text (sorted keys, compact, UTF-8) of every column and of the details; the other
    columns repeat parts of it for searching.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    action = models.CharField(max_length=60, db_index=True)
    actor = models.CharField(max_length=200, db_index=True)
    actor_kind = models.CharField(max_length=10)
    actor_id = models.CharField(max_length=40, blank=True, db_index=True)
    subject = models.CharField(max_length=250)
    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=40, blank=True, db_index=True)
    application_id = models.CharField(max_length=40, blank=True)
    environment_id = models.CharField(max_length=40, blank=True)
    refused = models.BooleanField(default=False)
    body = models.TextField()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("event")
        verbose_name_plural = _("audit log")
        indexes = [
            models.Index(fields=["application_id", "-id"], name="events_of_an_application"),
            models.Index(fields=["environment_id", "-id"], name="events_of_an_environment"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("An event of the audit log is written once and never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("An event of the audit log is never deleted.")
