from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from certificates.models import ClientCertificate
from environments.models import Application, Environment
from notices.thresholds import Plan
from vault.models import SealedObject


class Lead(models.Model):
    """How long before an end the notices of an environment come, where somebody wants other days than the usual."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, primary_key=True, related_name="lead")
    first = models.PositiveIntegerField(default=Plan.first)
    week = models.PositiveIntegerField(default=Plan.week)
    day = models.PositiveIntegerField(default=Plan.day)

    def __str__(self) -> str:
        return f"{self.environment}: {self.first}, {self.week}, {self.day} days"

    @property
    def plan(self) -> Plan:
        return Plan(self.first, self.week, self.day)


class Crossing(models.Model):
    """A threshold that something has crossed, or something that was found about its next renewal. Once for each
    subject, so that nothing is said twice; a new version is another subject, and starts anew."""

    # certificate (a version), issuer (what ends first in the chain of that version), authority (a trusted one), or
    # renewal (a code of what may keep the next renewal of that version from working)
    kind = models.CharField(max_length=20)
    subject = models.UUIDField()  # of the version, or of the trusted authority
    threshold = models.CharField(max_length=40)  # notices.thresholds, or the code
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="crossings")
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.CASCADE, null=True, related_name="crossings")
    moment = models.DateTimeField()
    seen_at = models.DateTimeField()
    # Everybody who is to be told has a message that says it.
    done = models.BooleanField(default=False)

    class Meta:
        ordering = ["moment"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject", "threshold"], name="one_crossing_per_subject_and_threshold"
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "seen_at"], condition=Q(done=False), name="crossings_to_tell"),
            models.Index(fields=["certificate", "-seen_at"], name="crossings_of_a_certificate"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.threshold}"


class Channel(models.Model):
    """Where an application's notices go: mail, or a service that Apprise speaks to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="channels")
    kind = models.CharField(max_length=20)  # mail or service
    title = models.CharField(max_length=100)
    # Of mail: whether the people of the application are told, and further addresses.
    to_people = models.BooleanField(default=True)
    addresses = models.JSONField(default=list)
    # Of a service: its sealed address, and what kind of service that is, for pages.
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    service = models.CharField(max_length=60, blank=True)
    # Which messages it takes, beside those about what ends.
    weekly = models.BooleanField(default=True)
    rollouts = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=200)
    removed_at = models.DateTimeField(null=True)
    removed_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.title

    @property
    def is_mail(self) -> bool:
        return self.kind == "mail"


class Message(models.Model):
    """One message to one channel: written with the rows that it tells of, sent afterwards, and tried again."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=20)  # notice, digest, test, reminder, result
    # Whatever may be said only once to a channel: the week of a digest, the rollout of a result; "" for the others.
    once = models.CharField(max_length=80, blank=True, default="")
    title = models.CharField(max_length=250)
    text = models.TextField()
    recipients = models.JSONField(default=list)  # of mail
    created_at = models.DateTimeField()
    # waiting, sending, sent, given-up
    state = models.CharField(max_length=20, default="waiting")
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "kind", "once"], condition=~Q(once=""), name="one_message_of_a_kind_that_comes_once"
            ),
        ]
        indexes = [
            models.Index(fields=["channel", "-created_at"], name="messages_of_a_channel"),
            models.Index(
                fields=["next_try_at"], condition=Q(state__in=["waiting", "sending"]), name="messages_to_send"
            ),
        ]

    def __str__(self) -> str:
        return self.title


class Told(models.Model):
    """That a crossing was said to a channel, and by which message; once, whatever happens to the message."""

    crossing = models.ForeignKey(Crossing, on_delete=models.CASCADE, related_name="told")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="told")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["crossing", "channel"], name="one_telling_per_crossing_and_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.crossing} to {self.channel}"


class Snooze(models.Model):
    """That a certificate's notices wait until then, and why. It holds for everybody, and everybody sees it."""

    certificate = models.ForeignKey(ClientCertificate, on_delete=models.CASCADE, related_name="snoozes")
    until = models.DateTimeField()
    reason = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=200)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["certificate"], condition=Q(ended_at=None), name="one_open_snooze_per_certificate"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.certificate} until {self.until:%Y-%m-%d}"


class Feed(models.Model):
    """A calendar at a secret address: what one person may see, asked anew each time. Of the address only the mark is
    kept."""

    mark = models.CharField(max_length=64, primary_key=True)  # SHA-256 (hex) of the token in the address
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="feeds")
    scope = models.CharField(max_length=20)  # mine, application, all
    application = models.ForeignKey(Application, on_delete=models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    fetched_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["person", "scope"], condition=Q(application=None), name="one_feed_per_person_and_scope"
            ),
            models.UniqueConstraint(
                fields=["person", "application"],
                condition=Q(application__isnull=False),
                name="one_feed_per_person_and_application",
            ),
        ]

    def __str__(self) -> str:
        return f"calendar of {self.person}: {self.application or self.scope}"

    @property
    def title(self) -> str:
        if self.application is not None:
            return str(self.application)
        return str(_("What I am responsible for") if self.scope == "mine" else _("Everything that I may see"))


class Watch(models.Model):
    """One look at everything that ends. One for each time at which one is due, so that two workers do not both look."""

    due_at = models.DateTimeField(unique=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    checked = models.PositiveIntegerField(default=0)
    unreadable = models.PositiveIntegerField(default=0)
    crossed = models.PositiveIntegerField(default=0)
    messages = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-due_at"]

    def __str__(self) -> str:
        return f"watch of {self.due_at:%Y-%m-%d %H:%M}"
