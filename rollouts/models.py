from __future__ import annotations

import contextlib
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from certificates.content import Content
from certificates.models import Version
from environments.models import Environment, Person
from rollouts import states
from rollouts.connectors import Abilities, ConnectorError, connector_class
from vault.models import SealedObject


class Revision(models.Model):
    """A configuration, frozen: the whole content that an exporter reads, immutable and numbered."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    content = models.TextField()  # certificates.content.Content.canonical()
    digest = models.CharField(max_length=64, db_index=True)
    reason = models.CharField(max_length=500, blank=True)
    ticket = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "number"], name="one_revision_per_number_in_an_environment"),
        ]

    def __str__(self) -> str:
        return f"{self.environment} {self.number}"

    @property
    def frozen(self) -> Content:
        return Content.from_canonical(self.content)


class RevisionEntry(models.Model):
    """Which version a revision's slot presents. PROTECT is the answer to “is it in use?”."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="entries")
    slug = models.SlugField(max_length=60)
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="entries")
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["revision", "slug"], name="one_entry_per_slot_in_a_revision"),
        ]

    def __str__(self) -> str:
        return f"{self.revision}: {self.slug}"


class Bundle(models.Model):
    """The files that were written for a revision, sealed once; every later step uses these same bytes.

    Without a revision: the files that stand for “no certificates”, to go back to when there was nothing before.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="bundles")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="bundles")
    exporter = models.CharField(max_length=40)
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, related_name="+")
    digest = models.CharField(max_length=64)
    files = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"export {self.digest[:12]}"


class Destination(models.Model):
    """Where an environment runs: who writes and delivers for it, what was last proved, and what was last observed."""

    environment = models.OneToOneField(
        Environment, on_delete=models.CASCADE, primary_key=True, related_name="destination"
    )
    connector = models.CharField(max_length=40)
    exporter = models.CharField(max_length=40)
    # One of the names that the server's settings list (settings.LOCAL_PROCESSES), or what stands for an app on another
    # platform (rollouts.actions.places.place_on); one environment each.
    place = models.CharField(max_length=100, unique=True)
    # What a page was told of the platform, secrets aside, and the sealed secrets (JSON, name -> text).
    options = models.JSONField(default=dict, db_default={})
    secrets = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    # What its connector keeps between calls (rollouts.connectors.Memory); no secret.
    memory = models.TextField(blank=True, default="", db_default="")
    running = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="+")
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, null=True, related_name="+")
    proof = models.CharField(max_length=20, blank=True)
    proved_at = models.DateTimeField(null=True)
    wanted_running = models.BooleanField(default=False)
    # The content digest of a revision that failed; refused until something in it changes, or somebody insists.
    blocked_digest = models.CharField(max_length=64, blank=True)
    observed_at = models.DateTimeField(null=True)
    observed_status = models.CharField(max_length=20, blank=True)
    observed_incarnation = models.CharField(max_length=100, blank=True)
    observed_digest = models.CharField(max_length=64, blank=True)
    observed_note = models.TextField(blank=True)
    running_since = models.DateTimeField(null=True)
    # The digest of the delivered files as they were last read back by the way, where the app reports none; "" before.
    observed_files = models.CharField(max_length=64, blank=True, default="", db_default="")
    files_read_at = models.DateTimeField(null=True)
    # A page of the app that has to answer after a restart: address, status, a text in it, and the seconds it may take.
    health_url = models.CharField(max_length=400, blank=True, default="", db_default="")
    health_status = models.PositiveIntegerField(default=200, db_default=200)
    health_text = models.CharField(max_length=200, blank=True, default="", db_default="")
    health_seconds = models.PositiveIntegerField(default=60, db_default=60)
    # Since when the app, which ought to run, is not seen to; and since when it runs with something else.
    away_since = models.DateTimeField(null=True)
    drifted_since = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.environment} on {self.place}"

    @property
    def is_listed(self) -> bool:
        """Whether the server's settings say where it is, and not a page."""
        return self.place in settings.LOCAL_PROCESSES

    @property
    def settings(self) -> dict[str, Any]:
        """What is known of the place, secrets aside."""
        return {**settings.LOCAL_PROCESSES.get(self.place, {}), **self.options}

    @property
    def is_known(self) -> bool:
        """Whether the server's settings, or a page, still say where this is."""
        return self.is_listed or bool(self.options)

    @property
    def title(self) -> str:
        if self.options:
            with contextlib.suppress(ConnectorError):
                return connector_class(self.connector).names(self.options)[1]
        return str(self.settings.get("title", self.place))

    @property
    def address(self) -> str:
        return str(self.settings.get("address", ""))

    @property
    def has_drifted(self) -> bool:
        """Whether the running app reports, or would read at its next start, something else than what was proved."""
        if self.bundle is None or self.observed_status != "running":
            return False
        seen = self.observed_digest or self.observed_files
        return bool(seen) and seen != self.bundle.digest

    @property
    def is_away(self) -> bool:
        return self.wanted_running and self.observed_status in ("unreachable", "stopped")

    @property
    def able(self) -> Abilities:
        try:
            return connector_class(self.connector).able(self.settings)
        except ConnectorError:
            return Abilities("")


class Handout(models.Model):
    """An export that a receiver may fetch, once, until then (rollouts.connectors.webhook). Of the address only the mark
    is kept."""

    mark = models.CharField(max_length=64, primary_key=True)  # SHA-256 (hex) of the token in the address
    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    fetched_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"handout of {self.bundle}"


class Series(models.Model):
    """Applies to several environments that were asked for in one go, one outcome each."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    reason = models.CharField(max_length=500)
    ticket = models.CharField(max_length=100, blank=True)
    # One after the other, and none after the first that is not verified; all at once otherwise.
    stops_at_failure = models.BooleanField()
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"series of {self.created_at:%Y-%m-%d %H:%M}"

    def get_absolute_url(self) -> str:
        return reverse("series", args=[self.pk])


class Rollout(models.Model):
    """One attempt to make a revision run, or to stop, start or restart what runs."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="rollouts")
    kind = models.CharField(max_length=20)
    state = models.CharField(max_length=20, default="requested")
    state_since = models.DateTimeField(default=timezone.now)
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="rollouts")
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, null=True, related_name="+")
    previous = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="+")
    previous_bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, null=True, related_name="+")
    # Whether the app is to run at the end; an apply to a stopped app delivers without starting it unless asked.
    # While it is scheduled: whether somebody asked for that, whatever is the case when it begins.
    start_after = models.BooleanField(default=True)
    series = models.ForeignKey(Series, on_delete=models.PROTECT, null=True, related_name="rollouts")
    position = models.PositiveIntegerField(default=0, db_default=0)
    reason = models.CharField(max_length=500, blank=True)
    ticket = models.CharField(max_length=100, blank=True)
    # What a connection test that is refused does to it: block, warn, or skip the tests.
    connection_tests = models.CharField(max_length=10, default="skip", db_default="skip")
    requested_by = models.CharField(max_length=200)
    # The same, where it was a person at a page: what is scheduled runs only if they may still apply then.
    requester = models.ForeignKey(Person, on_delete=models.PROTECT, null=True, related_name="+")
    # A scheduled one is dated anew when it begins, so that it stands among the others where it ran; when it was asked
    # for is when its revision was frozen.
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    # When it was scheduled to begin; stays afterwards. What was told of it, once each (rollouts.scheduled).
    due_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True)
    result_told_at = models.DateTimeField(null=True)
    # How many changes were made since it was scheduled, counted for the content with this digest.
    since = models.PositiveIntegerField(default=0, db_default=0)
    since_digest = models.CharField(max_length=64, blank=True, default="", db_default="")
    finished_at = models.DateTimeField(null=True)
    # Why it did not go forward, and how it ended: one sentence each.
    failure = models.TextField(blank=True)
    sentence = models.TextField(blank=True)
    proof = models.CharField(max_length=20, blank=True)
    # What ran before the first stop, and before the stop of the going back.
    incarnation_before = models.CharField(max_length=100, blank=True)
    incarnation_back = models.CharField(max_length=100, blank=True)
    phase = models.CharField(max_length=20, blank=True)
    stopped_at = models.DateTimeField(null=True)
    running_at = models.DateTimeField(null=True)
    # One worker per move: who holds it until when, under which fencing number (0 before the first).
    fence = models.PositiveBigIntegerField(default=0)
    holder = models.CharField(max_length=100, blank=True, default="", db_default="")
    lease_until = models.DateTimeField(null=True)
    nudged_at = models.DateTimeField(null=True)

    # Set by a move, not stored: it wants a moment before the next try, or before the next look (seconds).
    pause = False
    again_in: float | None = 0.0

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(state__in=states.ACTIVE),
                name="one_active_rollout_per_environment",
            ),
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(state="scheduled"),
                name="one_scheduled_apply_per_environment",
            ),
            models.CheckConstraint(
                condition=Q(state__in=list(states.STATES)), name="a_rollout_is_in_a_state_that_exists"
            ),
            models.CheckConstraint(
                condition=~Q(state="scheduled") | Q(due_at__isnull=False), name="what_is_scheduled_has_its_time"
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "-created_at"], name="rollouts_of_an_environment"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="scheduled_rollouts"),
        ]

    def __str__(self) -> str:
        return f"{self.environment}: {self.kind}"

    def get_absolute_url(self) -> str:
        return self.environment.url("rollout", self.pk)

    @property
    def is_final(self) -> bool:
        return states.STATES[self.state].final

    @property
    def asked_at(self) -> datetime:
        """When it was asked for."""
        return self.revision.created_at if self.due_at is not None and self.revision is not None else self.created_at

    @property
    def missed(self) -> bool:
        """Whether it was scheduled, and could not begin when its time came."""
        return self.state == "cancelled" and self.due_at is not None and bool(self.failure)

    @property
    def able(self) -> Abilities:
        """What the platform can do; nothing in particular where the environment has left it since."""
        here = getattr(self.environment, "destination", None)
        return here.able if here is not None else Abilities("")

    @property
    def overdue(self) -> bool:
        state = states.STATES[self.state]
        return not state.final and timezone.now() - self.state_since > timedelta(seconds=self.time_allowed)

    @property
    def time_allowed(self) -> int:
        """Seconds for the current state: while verifying, those of the app's health check come on top."""
        here = getattr(self.environment, "destination", None) if self.state == "verifying" else None
        return states.STATES[self.state].timeout + (here.health_seconds if here is not None and here.health_url else 0)

    @property
    def downtime(self) -> timedelta | None:
        """How long the app was down by our hand, as far as we saw."""
        if self.stopped_at and self.running_at and self.running_at > self.stopped_at:
            return self.running_at - self.stopped_at
        return None

    @property
    def returns_by(self) -> datetime | None:
        """The latest moment at which the old configuration is back if this one fails."""
        if self.state not in ("delivering", "stopping", "starting", "verifying"):
            return None
        return timezone.now() + timedelta(seconds=120)


class Step(models.Model):
    """One line of a rollout's log: the intent is committed before a call to the outside, the outcome after it."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="steps")
    state = models.CharField(max_length=20)
    fence = models.PositiveBigIntegerField()
    # Which of its state's calls to the outside this line is about (rollouts.states); "" for a remark
    call = models.CharField(max_length=20, blank=True, default="", db_default="")
    text = models.TextField()
    # "" while the call is under way; then ok, warn or failed
    outcome = models.CharField(max_length=10, blank=True)
    result = models.TextField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("step")

    def __str__(self) -> str:
        return self.text


class ConnectionTest(models.Model):
    """What one test of a connection found, with what was to be sent: of a rollout, or asked for by itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="connection_tests_made")
    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, null=True, related_name="tests")
    # before the restart, after it, when what ran before was back; "" for one that was asked for by itself
    moment = models.CharField(max_length=10, blank=True)
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=200)
    # Null where nothing was to be sent.
    version = models.ForeignKey(Version, on_delete=models.PROTECT, null=True, related_name="+")
    address = models.CharField(max_length=300, blank=True)
    # SHA-256 over what the result depends on (rollouts.connections): it says something only while that is the same.
    basis = models.CharField(max_length=64)
    verdict = models.CharField(max_length=20)
    sentence = models.TextField()
    caution = models.TextField(blank=True)
    facts = models.JSONField(default=dict)  # rollouts.probing.Finding
    tested_at = models.DateTimeField(default=timezone.now)
    tested_by = models.CharField(max_length=200)
    # Whether no test of this target came after it (rollouts.connections.kept); lists ask for those alone.
    is_last = models.BooleanField(default=True, db_default=False)

    class Meta:
        ordering = ["-tested_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "moment", "key"],
                condition=Q(rollout__isnull=False),
                name="one_test_per_target_and_moment_of_a_rollout",
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "key", "-tested_at"], name="tests_of_a_target"),
            models.Index(fields=["environment", "verdict"], condition=Q(is_last=True), name="last_tests_by_verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.verdict}"


class Pulse(models.Model):
    """When a worker or the clock last showed itself, one row each (rollouts/pulses.py); pages say by it what waits."""

    name = models.CharField(max_length=120, primary_key=True)
    # worker or clock; sweep or tidy for when that was last done, by whomever
    kind = models.CharField(max_length=20, blank=True, default="", db_default="")
    host = models.CharField(max_length=64, blank=True, default="", db_default="")
    pid = models.PositiveBigIntegerField(default=0, db_default=0)
    since = models.DateTimeField(null=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%H:%M:%S}"
