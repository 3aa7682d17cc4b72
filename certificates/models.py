from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from certificates import content as contents
from certificates import pkcs10
from certificates.spelled import key_of
from environments.models import Environment
from vault.models import SealedObject

EXPIRES_SOON = timedelta(days=60)
# By what a partner may recognise a client, and how pages say it
IDENTIFIED_BY = {
    "subject": _("its subject"),
    "thumbprint": _("its fingerprint (thumbprint)"),
    "issuer": _("its issuer"),
    "key": _("its public key"),
}
# Stored warnings of a certificate that servers may refuse for what it is, whatever the day (certificates.facts)
WEAK = frozenset({"weak_key", "explicit_curve", "dsa_key", "weak_signature", "no_client_auth"})
# column of a client certificate → those that follow from it
FOLLOWS = {"name": ("sought",), "in_use": ("expires_at", "issued_by", "public_key", "weak", "tracked_only")}


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
    # What is known of the partner's side; none of it is exported, so none of it is a change.
    contact = models.CharField(max_length=200, blank=True)
    contact_mail = models.EmailField(blank=True, default="", db_default="")
    how_to_renew = models.TextField(blank=True)
    ticket_queue = models.CharField(max_length=200, blank=True, default="", db_default="")
    # By what the partner recognises us, of IDENTIFIED_BY; a renewal that changes it has to be agreed with them.
    identified_by = models.JSONField(default=list, db_default=[], blank=True)
    notes = models.TextField(blank=True, default="", db_default="")
    # Who is told first that it expires.
    responsible = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.CharField(max_length=200, blank=True)
    # What lists are searched, filtered and sorted by, at any length: the name without regard to case, and of what is in
    # use its end, issuer, kind of key (“RSA 2048”), whether it is weak (WEAK), and whether its key is missing. All
    # follow from the columns above; save() sees to it.
    sought = models.TextField(editable=False, db_default="")
    expires_at = models.DateTimeField(null=True, editable=False)
    issued_by = models.CharField(max_length=200, editable=False, default="", db_default="")
    public_key = models.CharField(max_length=60, editable=False, default="", db_default="")
    weak = models.BooleanField(editable=False, default=False, db_default=False)
    tracked_only = models.BooleanField(editable=False, default=False, db_default=False)

    class Meta:
        ordering = ["position", "created_at"]
        verbose_name = _("client certificate")
        indexes = [
            models.Index(
                fields=["environment", "position", "created_at"],
                condition=Q(removed_at=None),
                name="listed_in_order",
            ),
            models.Index(fields=["expires_at", "id"], condition=Q(removed_at=None), name="listed_by_expiry"),
            models.Index(
                fields=["environment", "expires_at", "id"],
                condition=Q(removed_at=None),
                name="listed_by_expiry_in_one_place",
            ),
            # The place comes last, so that counting what somebody may see reads the index alone.
            models.Index(
                fields=["issued_by", "expires_at", "id", "environment"],
                condition=Q(removed_at=None),
                name="listed_by_issuer",
            ),
            models.Index(
                fields=["public_key", "expires_at", "id", "environment"],
                condition=Q(removed_at=None),
                name="listed_by_key",
            ),
            models.Index(fields=["sought", "id"], condition=Q(removed_at=None), name="listed_by_name"),
            models.Index(fields=["expires_at", "id"], condition=Q(removed_at=None, weak=True), name="listed_weak"),
            models.Index(
                fields=["expires_at", "id"], condition=Q(removed_at=None, tracked_only=True), name="listed_tracked_only"
            ),
            models.Index(
                fields=["environment", "expires_at"],
                condition=Q(removed_at=None, enabled=True),
                name="enabled_by_expiry_in_a_place",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                "environment", Lower("name"), condition=Q(removed_at=None), name="one_certificate_per_name_in_any_case"
            ),
            models.UniqueConstraint(fields=["environment", "slug"], name="one_certificate_per_slug_in_an_environment"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Also writes what follows from the columns that are written."""
        written = None if update_fields is None else set(update_fields)
        if written is None or "name" in written:
            self.sought = self.name.casefold()
        if written is None or "in_use" in written:
            self.follow()
        if written is not None:
            written |= {one for column, follows in FOLLOWS.items() if column in written for one in follows}
        super().save(*args, update_fields=written, **kwargs)

    def get_absolute_url(self) -> str:
        return self.environment.url("certificate", self.pk)

    def follow(self) -> None:
        """What lists say of the version in use."""
        version = self.in_use
        self.expires_at = version.not_after if version else None
        self.issued_by = (version.issuer_common_name or version.issuer)[:200] if version else ""
        self.public_key = key_of(version) if version else ""
        self.weak = version is not None and any(warning["code"] in WEAK for warning in version.warnings)
        self.tracked_only = version is None or version.is_tracked_only


class ChainCertificate(models.Model):
    """A certificate above a leaf, as it was uploaded: public, and what completes another file that lacks it."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    subject_mark = models.CharField(max_length=64, db_index=True)  # SHA-256 of the name's DER
    certificate = models.BinaryField()  # DER
    not_after = models.DateTimeField()
    self_signed = models.BooleanField()

    def __str__(self) -> str:
        return self.sha256


class Lived:
    """What is valid from `not_before` to `not_after`."""

    not_before: Any
    not_after: Any

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before

    def left(self, now: datetime | None = None) -> timedelta:
        """Time until it expires; negative afterwards."""
        return self.not_after - (now or timezone.now())

    def status(self, now: datetime | None = None) -> str:
        """`expired`, `not-yet-valid`, `expiring` (the last 60 days, or third of its life if less), or `ok`."""
        return status_at(now or timezone.now(), self.not_before, self.not_after)


class Version(Lived, models.Model):
    """Key, certificate and chain of one upload: the key sealed, the facts as columns. No page parses anything."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    # Null for a version that is tracked without its key.
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    file_name = models.CharField(max_length=200, blank=True)
    friendly_name = models.CharField(max_length=200, blank=True)
    subject = models.TextField()
    # With its string types (facts.Parts); empty for what was uploaded before they were kept.
    subject_parts = models.JSONField(default=list, db_default=[], blank=True)
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
    # [{subject, issuer, sha256, not_after (ISO 8601), self_signed, completed}], leaf's issuer first; `completed` is of
    # one that the file did not have
    chain = models.JSONField(default=list)
    chain_certificates = models.ManyToManyField(ChainCertificate, related_name="versions")
    missing_issuer = models.TextField(blank=True)
    # [{code, sentence}] that do not depend on the day; those that do are derived from the dates
    warnings = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    # The words that a search looks in, without regard to case; a version never changes, so neither do they.
    sought = models.TextField(editable=False, db_default="")
    # When the first certificate of its chain ends; null without a chain. Follows from `chain`, too.
    chain_ends_at = models.DateTimeField(null=True, editable=False)

    # Set on those that are not stored yet, by their draft.
    drafted_without_key = False

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["certificate", "number"], name="one_version_per_number_in_a_certificate"),
        ]

    def __str__(self) -> str:
        return f"{self.certificate.name} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.sought = sought_in(self)
        self.chain_ends_at = min((datetime.fromisoformat(link["not_after"]) for link in self.chain), default=None)
        super().save(*args, **kwargs)

    @property
    def environment(self) -> Environment:
        return self.certificate.environment

    @property
    def is_tracked_only(self) -> bool:
        """Its facts are known here, and its key is not: it cannot be sent."""
        return self.sealed_id is None

    @property
    def has_key(self) -> bool:
        """Its key is here, or would be. Who has only the certificate is told nothing of incidents with its key."""
        return not self.is_tracked_only or (self._state.adding and not self.drafted_without_key)

    @cached_property
    def key_is_compromised(self) -> bool:
        """One query, unless somebody asked for many at once (certificates.compromised)."""
        return self.has_key and bool(self.spki_sha256) and Incident.of_keys([self.spki_sha256]).exists()

    def slot(self, slug: str) -> contents.Slot:
        return contents.Slot(slug, self.sha256, tuple(link["sha256"] for link in self.chain))


def sought_in(version: Any) -> str:
    """Common name, alternative names, subject and issuer of a version, case-folded, one a line."""
    words = [version.common_name, *version.names, version.subject, version.issuer_common_name]
    return "\n".join(word.casefold() for word in words if word)


def status_at(now: datetime, not_before: datetime, not_after: datetime) -> str:
    """`expired`, `not-yet-valid`, `expiring` (the last 60 days, or third of its life if less), or `ok`."""
    if not_after <= now:
        return "expired"
    if not_before > now:
        return "not-yet-valid"
    return "expiring" if expiring_from(not_before, not_after) <= now else "ok"


def expiring_from(not_before: datetime, not_after: datetime) -> datetime:
    return not_after - min(EXPIRES_SOON, (not_after - not_before) / 3)


class Renewal(models.Model):
    """One renewal that was brought to several certificates at once: a version in each, old pins and all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    common_name = models.CharField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    # Not a column of the version: a write of a version counts as a change of every environment (certificates.serials).
    versions = models.ManyToManyField(Version, related_name="renewals")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.common_name or self.sha256[:12]

    def get_absolute_url(self) -> str:
        return reverse("renewal", args=[self.pk])


class Pin(models.Model):
    """A target that presents this certificate here, or, without one, never sends a certificate."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="pins")
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=200)
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, null=True, related_name="pins")
    note = models.CharField(max_length=200, blank=True)
    # Where a connection is tried for it (certificates.addresses); "" for what follows from the target. Not exported.
    test_address = models.CharField(max_length=300, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="one_pin_per_exported_key_in_an_environment"),
        ]

    def __str__(self) -> str:
        return self.key


class TrustedAuthority(Lived, models.Model):
    """A certificate that an environment's app trusts when a server shows it, or one that it signed, beside those that
    it trusts anyway. Public: nothing of it is sealed. A removed one is kept for the revisions that have it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="authorities")
    name = models.CharField(max_length=200)
    certificate = models.BinaryField()  # DER
    subject = models.TextField()
    issuer = models.TextField()
    issuer_common_name = models.CharField(max_length=200, blank=True)
    serial = models.CharField(max_length=60)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    sha1 = models.CharField(max_length=40)
    sha256 = models.CharField(max_length=64)
    key_kind = models.CharField(max_length=40)
    key_bits = models.PositiveIntegerField()
    signature = models.CharField(max_length=60)
    self_signed = models.BooleanField()
    # [{code, sentence}] that do not depend on the day
    warnings = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = [Lower("name"), "sha256"]
        verbose_name = _("trusted authority")
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "sha256"], name="one_trusted_authority_per_certificate_in_an_environment"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return self.environment.url("trusted", self.pk)

    @property
    def names(self) -> list[str]:
        return []

    usages = names


class CertificateRequest(models.Model):
    """A request for a certificate (PKCS #10), whose private key was made here and waits, sealed, for the certificate.

    It ends once: answered, withdrawn or expired. Then nothing of the key is left but what the answering version has;
    the row stays, so that a certificate that comes too late can be told what became of its key.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="requests")
    # The slot that is to be renewed; null for a new one.
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, null=True, related_name="requests")
    name = models.CharField(max_length=200)  # of the slot when it was asked for, or of the one that is to be
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    request = models.BinaryField()  # DER
    subject = models.TextField()
    names = models.JSONField(default=list)
    kind = models.CharField(max_length=20)  # of the key (pkcs10.KEYS)
    spki_sha256 = models.CharField(max_length=64, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)
    expires_at = models.DateTimeField(db_index=True)
    mailed_at = models.DateTimeField(null=True)
    mailed_to = models.CharField(max_length=254, blank=True)
    ending = models.CharField(max_length=20, blank=True)  # answered, withdrawn or expired
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=200, blank=True)
    version = models.OneToOneField(Version, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["created_at", "id"]
        verbose_name = _("certificate request")
        constraints = [
            models.CheckConstraint(
                condition=Q(ending="", ended_at=None, sealed__isnull=False)
                | Q(ending__in=["answered", "withdrawn", "expired"], ended_at__isnull=False, sealed=None),
                name="a_request_has_its_key_until_it_ends",
            ),
            models.CheckConstraint(
                condition=Q(ending="answered", version__isnull=False) | (~Q(ending="answered") & Q(version=None)),
                name="a_request_has_a_version_once_it_is_answered",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return self.environment.url("request", self.pk)

    @property
    def key_title(self) -> str:
        """“RSA 3072”, “EC P-256”."""
        return pkcs10.KEYS[self.kind][0] if self.kind in pkcs10.KEYS else self.kind

    @property
    def days_left(self) -> int:
        return max(0, (self.expires_at - timezone.now()).days)

    @property
    def waits(self) -> bool:
        return not self.ending and self.expires_at > timezone.now()

    @property
    def slot(self) -> ClientCertificate | None:
        """What is renewed by the answer; None where that is a new certificate, or the old one is off the list."""
        return self.certificate if self.certificate and self.certificate.removed_at is None else None


# How an upload link came to its end.
ENDS = {
    "used": _("used"),
    "withdrawn": _("withdrawn"),
    "limited": _("closed after too many attempts"),
    "expired": _("expired"),
}


class UploadLink(models.Model):
    """An address at which a partner, who has no account, sends the next version of one certificate: once, until then.

    Of the address only the mark is kept. What the partner reads of us is `asked_by` and `about`, and nothing else.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    mark = models.CharField(max_length=64, unique=True)  # SHA-256 (hex) of the random part of the address
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.CASCADE, related_name="upload_links")
    asked_by = models.CharField(max_length=200)
    about = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=200)
    expires_at = models.DateTimeField(db_index=True)
    # How often something was sent to it.
    tries = models.PositiveIntegerField(default=0, db_default=0)
    ended_at = models.DateTimeField(null=True)
    ended_as = models.CharField(max_length=20, blank=True, default="", db_default="")  # of ENDS

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("upload link")

    def __str__(self) -> str:
        return self.about or "an unknown link"

    @property
    def environment(self) -> Environment:
        return self.certificate.environment

    @property
    def is_open(self) -> bool:
        """As far as the link itself says; what it is for may be gone (certificates.actions.links)."""
        return self.ended_at is None and self.expires_at > timezone.now()

    @property
    def end(self) -> str:
        return str(ENDS.get(self.ended_as or "expired", self.ended_as)).capitalize()


class Draft(models.Model):
    """A file between upload and confirmation: sealed, short-lived, single use, bound to an environment, and in it to a
    person and their session, or to the link that it came by.

    First the files as they came; once a password has opened them, the identities that were read (and the files are
    gone); at last the one that was chosen. Several that were uploaded at once have one `batch`, and a place in it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    session = models.CharField(max_length=64)  # SHA-256 of the session key; "" for one that came by a link
    # A partner sent it: while the link is open, to be read; once it is used, for whoever may confirm it there.
    link = models.ForeignKey(UploadLink, on_delete=models.CASCADE, null=True, related_name="drafts")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.CASCADE, null=True, related_name="+")
    # Null where the files were refused before any password; only a batch keeps such a draft, to say so.
    sealed = models.OneToOneField(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    # There are certificates in the files, and no key.
    tracked = models.BooleanField(default=False, db_default=False)
    # The one whose key belongs to the certificate; they are joined when the draft is confirmed.
    request = models.ForeignKey(CertificateRequest, on_delete=models.CASCADE, null=True, related_name="+")
    batch = models.UUIDField(null=True, db_index=True)
    place = models.PositiveIntegerField(default=0, db_default=0)
    # {code, details} of why it was last refused, in a batch; nothing of a password
    refusal = models.JSONField(null=True)
    file_name = models.CharField(max_length=200, blank=True)
    file_size = models.PositiveIntegerField()
    # The columns of the version that it would become; empty while the files have not been opened, or hold several.
    facts = models.JSONField(default=dict)
    # [those of each], where the files hold several identities and none was chosen yet
    choices = models.JSONField(null=True)
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
        version = version_with(self.facts)
        version.drafted_without_key = self.tracked
        return version

    def versions(self) -> list[Version]:
        """The same for each choice."""
        return [version_with(facts) for facts in self.choices or ()]


class Incoming(models.Model):
    """What an import would bring into one environment, between its reading and its confirmation. Its certificates are
    drafts, with this as their batch; those of several environments that one list names have one `group`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    group = models.UUIDField(db_index=True)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session = models.CharField(max_length=64)  # SHA-256 of the session key
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    # {source, certificates: [{name, file, given}], pins: [{kind, key, place}], authorities: [base64 of DER], problems,
    # remarks}; no password and no key
    plan = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return str(self.plan.get("source", "import"))


class Incident(models.Model):
    """A private key that others may have. Its key is used again only where somebody insists, also when everything is
    done; not so after a false alarm."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    spki_sha256 = models.CharField(max_length=64, db_index=True)
    # On whose page somebody said so. Of this place, others who hold the key learn nothing.
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500)
    opened_at = models.DateTimeField(default=timezone.now)
    opened_by = models.CharField(max_length=200)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=200, blank=True)
    closing_note = models.CharField(max_length=500, blank=True)
    false_alarm = models.BooleanField(default=False)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["spki_sha256"], condition=Q(closed_at=None), name="one_open_incident_per_key"
            ),
        ]

    def __str__(self) -> str:
        return _("key of %(name)s") % {"name": self.certificate.name}

    def get_absolute_url(self) -> str:
        return reverse("incident", args=[self.pk])

    @classmethod
    def of_keys(cls, keys: Any) -> models.QuerySet[Incident]:
        """Those that say of one of these keys (SHA-256 of the public key, hex; a list or a query) that others may have
        it."""
        return cls.objects.filter(spki_sha256__in=keys, false_alarm=False)

    @property
    def environment(self) -> Environment:
        return self.certificate.environment


class Announcement(models.Model):
    """Somebody outside was told of an incident: its issuer (to revoke it) or the partner."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="announcements")
    kind = models.CharField(max_length=20)  # revocation, partner
    sha256 = models.CharField(max_length=64)  # of the certificate
    # For whose sake; who may not see it, does not learn who told.
    certificate = models.ForeignKey(ClientCertificate, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=500, blank=True)
    announced_at = models.DateTimeField(default=timezone.now)
    announced_by = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["incident", "kind", "sha256"], name="one_announcement_of_a_kind_per_certificate_of_an_incident"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.sha256}"


# What a partner sent by a link, read and complete; beside it there may be files that were sent and never opened.
ARRIVED = Q(link__ended_as="used") & (~Q(facts={}) | Q(choices__isnull=False))


def version_with(facts: dict[str, Any]) -> Version:
    """An unsaved Version with these columns, whose dates are ISO 8601."""
    dates = {column: datetime.fromisoformat(facts[column]) for column in ("not_before", "not_after")}
    return Version(**facts | dates)


class PublicAuthority(models.Model):
    """A public authority that stops issuing certificates for clients, and when. Owners keep the list."""

    name = models.CharField(max_length=100, unique=True)
    # The organisation in the name of an issuer, as it is spelled there; compared without regard to case.
    organisation = models.CharField(max_length=200)
    stops_on = models.DateField()
    source = models.URLField(max_length=500)

    class Meta:
        ordering = ["name"]
        verbose_name = _("public authority")

    def __str__(self) -> str:
        return self.name


class Serial(models.Model):
    """How often what an environment should run was written. Triggers of the database count (certificates.serials), so
    that nothing derived from the content can be taken for current when it is not, whoever wrote."""

    environment = models.OneToOneField(
        # No constraint: the trigger of a new environment writes this row before that one is complete.
        Environment, on_delete=models.CASCADE, primary_key=True, related_name="serial", db_constraint=False
    )  # fmt: skip
    number = models.BigIntegerField()

    def __str__(self) -> str:
        return str(self.number)


class Comparison(models.Model):
    """What should run beside what runs, counted once and read by every page of an environment.

    It holds for one serial, one running revision and a span of time; whoever reads it checks all three
    (rollouts.comparisons). A row that does not hold costs a new count and is otherwise without meaning.
    """

    environment = models.OneToOneField(
        Environment, on_delete=models.CASCADE, primary_key=True, related_name="comparison"
    )
    serial = models.BigIntegerField()
    running = models.UUIDField(null=True)  # the revision
    digest = models.CharField(max_length=64)  # of what should run
    sendable = models.PositiveIntegerField()  # certificates that go with the next apply
    running_certificates = models.PositiveIntegerField()
    running_pins = models.PositiveIntegerField()
    changes = models.PositiveIntegerField()
    # [[what, mark, actor, actor's id, number of changes]]; null until a page asks for it
    named = models.JSONField(null=True)
    # {status: number of certificates that are enabled}, from `counted_at` until the next of them changes
    statuses = models.JSONField(default=dict)
    counted_at = models.DateTimeField()
    holds_until = models.DateTimeField(null=True)
    next_to_expire = models.ForeignKey(
        Version, on_delete=models.CASCADE, null=True, related_name="+", db_constraint=False
    )
    # Long, and so at the end of the row, where those who do not ask for them do not pass by.
    # {what: {key: mark}} of each change; `out` where it is gone from what runs next and still listed
    marks = models.JSONField(default=dict)
    # {key: [kind, slug or null]} of the pins that run and are wanted no more
    gone_pins = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.environment_id}: {self.changes} changes"
