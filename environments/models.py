from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Person(AbstractUser):
    """Someone who signs in. An installation owner (`is_superuser`) may do everything and adds people."""

    email = models.EmailField(_("e-mail"), blank=True)
    must_change_password = models.BooleanField(default=False)

    address: str = ""  # where the current request came from; set by the edge, written to the audit log

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [
            models.UniqueConstraint(Lower("username"), name="one_person_per_name_in_any_case"),
        ]

    def __str__(self) -> str:
        return self.get_full_name() or self.username


class Application(models.Model):
    """What is deployed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=50, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    archived_at = models.DateTimeField(null=True, blank=True)

    # What the person who fetched this application may do in it as a whole; set by environments.access.
    rights: frozenset[str] = frozenset()

    class Meta:
        ordering = [Lower("name")]
        constraints = [
            models.UniqueConstraint(
                Lower("name"), condition=Q(archived_at=None), name="one_application_per_name_in_any_case"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("application", args=[self.slug])


class Environment(models.Model):
    """One place where an application runs, with its own certificates, pins and configuration."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.PROTECT, related_name="environments")
    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=50)
    position = models.PositiveIntegerField(default=0)
    production = models.BooleanField(default=False)
    # What the exporters read beside certificates and pins; all of it is part of a revision's content.
    runtime = models.CharField(max_length=40, default="mendix")
    runtime_version = models.CharField(max_length=40, blank=True)
    profile = models.CharField(max_length=40, blank=True)
    base_folder = models.CharField(max_length=400, blank=True)
    # What a connection test that is refused does to an apply: block, warn, or skip the tests. Not exported.
    connection_tests = models.CharField(max_length=10, default="block", db_default="block")
    # How the ticket of each apply is written (environments.tickets); "" where none is asked for.
    ticket_pattern = models.CharField(max_length=40, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    archived_at = models.DateTimeField(null=True, blank=True)
    archived_by = models.CharField(max_length=200, blank=True)

    # What the person who fetched this environment may do here; set by environments.access.
    rights: frozenset[str] = frozenset()

    class Meta:
        ordering = ["position", Lower("name")]
        constraints = [
            models.UniqueConstraint(fields=["application", "slug"], name="one_environment_per_slug_in_an_application"),
            models.UniqueConstraint(
                "application", Lower("name"), condition=Q(archived_at=None), name="one_environment_per_name_in_any_case"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.application.name} / {self.name}"

    def get_absolute_url(self) -> str:
        return self.url("environment")

    def url(self, name: str, *args: Any) -> str:
        """The address of a page of this environment; `args` follow the two slugs."""
        return reverse(name, args=[self.application.slug, self.slug, *args])


class Membership(models.Model):
    """One role of a person in an application, or in one environment of it. Roles add up (environments.access)."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="memberships")
    environment = models.ForeignKey(
        Environment, on_delete=models.CASCADE, related_name="memberships", null=True, blank=True
    )
    role = models.CharField(max_length=40)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["person", "application", "environment", "role"],
                name="one_membership_per_person_place_and_role",
            ),
            models.UniqueConstraint(
                fields=["person", "application", "role"],
                condition=Q(environment=None),
                name="one_membership_per_person_application_and_role",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person} in {self.environment or self.application}"
