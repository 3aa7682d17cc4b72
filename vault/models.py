"""What the vault knows of each sealed object, and of each key that it has used."""

from __future__ import annotations

from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class SealedObject(models.Model):
    """One sealed object: its wrapped data key here, its ciphertext in storage.

    Id, environment, field and version are what the ciphertext is bound to, so they never change. A destroyed object
    keeps its row, without the wrapped key.
    """

    id = models.UUIDField(_("id"), primary_key=True, default=uuid4, editable=False)
    storage_name = models.CharField(_("name in storage"), max_length=200, editable=False)
    header = models.BinaryField(_("wrapped data key"), null=True)
    environment_id = models.UUIDField(_("environment"), null=True, editable=False)
    field = models.CharField(_("field"), max_length=60, editable=False)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    size = models.PositiveBigIntegerField(_("size of the ciphertext in bytes"), editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    destroyed_at = models.DateTimeField(_("destroyed at"), null=True, editable=False)

    class Meta:
        verbose_name = _("sealed object")
        verbose_name_plural = _("sealed objects")
        constraints = [
            models.UniqueConstraint(fields=["storage_name"], name="one_sealed_object_per_file"),
            models.CheckConstraint(condition=~Q(storage_name=""), name="a_sealed_object_names_its_file"),
            models.CheckConstraint(condition=~Q(field=""), name="a_sealed_object_names_its_field"),
            models.CheckConstraint(condition=Q(version__gte=1), name="versions_of_sealed_objects_count_from_one"),
            models.CheckConstraint(
                condition=Q(header__isnull=False, destroyed_at__isnull=True)
                | Q(header__isnull=True, destroyed_at__isnull=False),
                name="a_sealed_object_has_its_key_until_destroyed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.field} {self.id}"


class KeyCheck(models.Model):
    """The check value of a key when it was first used, so that another key under the same id is noticed."""

    key_id = models.CharField(_("key id"), primary_key=True, max_length=64)
    check_value = models.CharField(_("check value"), max_length=16)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("key check")
        verbose_name_plural = _("key checks")
        constraints = [
            models.CheckConstraint(condition=~Q(check_value=""), name="a_key_check_has_a_value"),
        ]

    def __str__(self) -> str:
        return self.key_id
