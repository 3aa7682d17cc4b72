"""The audit log in words: each action's label for the filter, and its sentence, which begins after the person's name.

A sentence may use the event's `subject`, and its details by their names. Where one word of the details decides what
is said, VARIANTS names it, and the sentence of that variant wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from audit.models import Event
from environments.access import ROLES, WHAT

Words = str | Promise

# action -> (label, sentence)
ACTIONS: dict[str, tuple[Words, Words]] = {
    "access.refused": (_("Access refused"), _("was not allowed to {what}")),
    "application.created": (_("Application created"), _("created the application {subject}")),
    "application.renamed": (_("Application renamed"), _("renamed {before} to {after}")),
    "authority.added": (_("Public authority listed"), _("listed the public authority {subject}")),
    "authority.changed": (_("Public authority changed"), _("changed the public authority {subject}")),
    "authority.removed": (_("Public authority removed"), _("removed the public authority {subject} from the list")),
    "certificate.added": (_("Certificate added"), _("added the certificate {subject}")),
    "certificate.described": (_("Certificate described"), _("changed contact or instructions of {subject}")),
    "certificate.disabled": (_("Certificate disabled"), _("disabled {subject}")),
    "certificate.enabled": (_("Certificate enabled"), _("enabled {subject}")),
    "certificate.moved": (_("Certificate moved"), _("moved {subject} to position {position}")),
    "certificate.refused": (_("Certificate file refused"), _("uploaded {file}, which could not be read")),
    "certificate.removed": (_("Certificate removed"), _("removed the certificate {subject}")),
    "certificate.renamed": (_("Certificate renamed"), _("renamed the certificate {before} to {after}")),
    "certificate.renewed": (_("Certificate renewed"), _("uploaded a renewal of {subject}")),
    "certificate.version-chosen": (_("Version chosen"), _("chose version {version} of {subject}")),
    "certificate.snoozed": (_("Notices snoozed"), _("snoozed the notices of {subject}: {reason}")),
    "certificate.woken": (_("Snooze ended"), _("ended the snooze of {subject}")),
    "channel.added": (_("Channel added"), _("added the channel {subject}")),
    "channel.changed": (_("Channel changed"), _("changed the channel {subject}")),
    "channel.opened": (_("Channel’s address opened"), _("opened the address of the channel {subject}: {reason}")),
    "channel.removed": (_("Channel removed"), _("removed the channel {subject}")),
    "channel.tested": (_("Channel tested"), _("sent a test to the channel {subject}")),
    "changes.undone": (_("Changes undone"), _("undid the changes that were not running")),
    "configuration.imported": (_("Configuration imported"), _("brought into {subject} what runs today")),
    "connection.tested": (_("Connection tested"), _("tested the connection to {target} ({verdict})")),
    "draft.discarded": (_("Partner's file discarded"), _("discarded what the partner sent for {subject}: {reason}")),
    "draft.expired": (
        _("Partner's file destroyed"),
        _("destroyed what the partner sent for {subject}; nobody confirmed it"),
    ),
    "environment.archived": (_("Environment archived"), _("archived {subject}")),
    "environment.brought-back": (_("Environment brought back"), _("brought {subject} back")),
    "environment.changed": (_("Environment changed"), _("changed the settings of {subject}")),
    "environment.created": (_("Environment created"), _("created the environment {subject}")),
    "health-check.changed": (_("Health check changed"), _("changed the health check of {subject}")),
    "series.requested": (_("Several applies requested"), _("asked for {environments} applies in one go")),
    "series.cancelled": (_("Rest of a series cancelled"), _("cancelled the rest of {subject}")),
    "export.fetched": (_("Export fetched"), _("handed the export of {subject} to the receiver of its webhook")),
    "feed.closed": (_("Calendar closed"), _("closed the calendar “{scope}” of {subject}")),
    "feed.opened": (_("Calendar opened"), _("made a new address for the calendar “{scope}” of {subject}")),
    "handover.downloaded": (_("Files handed over"), _("downloaded what is to be uploaded by hand for {subject}")),
    "handover.confirmed": (_("Upload confirmed"), _("said that the upload for {subject} is done")),
    "credentials.changed": (_("Credentials changed"), _("entered new credentials of the platform of {subject}")),
    "credentials.opened": (_("Credentials opened"), _("opened the credentials of the platform of {subject}: {reason}")),
    "platform.checked": (_("Platform checked"), _("looked at the platform of {subject}")),
    "environment.placed": (_("Place set"), _("set {subject} to run on {place}")),
    "export.downloaded": (_("Export downloaded"), _("downloaded the export {exporter} with its private keys")),
    "export.opened": (_("Export opened"), _("opened {subject} in the vault")),
    "export.refused": (_("Export refused"), _("typed a wrong password to download the export {exporter}")),
    "incident.closed": (_("Incident closed"), _("closed what was done about the compromised {subject}")),
    "incident.withdrawn": (_("Incident withdrawn"), _("said that the {subject} was not compromised after all")),
    "key.compromised": (_("Key compromised"), _("said that the key of {subject} is compromised")),
    "partner.told": (_("Partner told"), _("told the partner that the key of {subject} is compromised")),
    "revocation.requested": (
        _("Revocation asked for"),
        _("asked for the revocation of {subject} (serial number {serial})"),
    ),
    "key.opened": (_("Key opened"), _("opened the private key of {subject}")),
    "link.created": (_("Partner asked"), _("made an upload link for {subject}")),
    "link.expired": (_("Upload link expired"), _("closed an upload link for {subject} that nobody used in time")),
    "link.limited": (_("Upload link closed"), _("tried the upload link for {subject} too often; it is closed")),
    "link.mailed": (_("Upload link mailed"), _("mailed an upload link for {subject} to {to}")),
    "link.refused": (_("Upload link refused"), _("tried an upload link for {subject} that is not open")),
    "link.used": (_("Partner sent a file"), _("sent {file} for {subject}")),
    "link.withdrawn": (_("Upload link withdrawn"), _("withdrew an upload link for {subject}")),
    "member.added": (_("Member added"), _("gave {person} the role {role}")),
    "member.removed": (_("Member removed"), _("took the role {role} from {person}")),
    "message.retried": (_("Message sent again"), _("had the message “{title}” sent again")),
    "notices.changed": (_("Notices changed"), _("changed when notices of {subject} come")),
    "person.created": (_("Person added"), _("added {subject}")),
    "person.described": (_("Person described"), _("changed name or e-mail of {subject}")),
    "person.let-in": (_("Person let in"), _("let {subject} in again")),
    "person.locked-out": (_("Person locked out"), _("locked {subject} out")),
    "person.password-changed": (_("Password changed"), _("chose a new password")),
    "person.password-refused": (_("Password change refused"), _("typed a wrong current password")),
    "person.password-reset": (_("Password reset"), _("gave {subject} a new one-time password")),
    "person.sign-in-refused": (_("Sign-in refused"), _("could not sign in as {subject}")),
    "person.signed-in": (_("Signed in"), _("signed in")),
    "person.signed-out": (_("Signed out"), _("signed out")),
    "pin.added": (_("Pin added"), _("pinned {target} to {certificate}")),
    "pin.changed": (_("Pin changed"), _("changed the pin of {target} to {certificate}")),
    "pin.removed": (_("Pin removed"), _("removed the pin of {target}")),
    "rollout.begun-early": (_("Rollout begun early"), _("applied the scheduled revision {revision} before its time")),
    "request.answered": (_("Request answered"), _("joined the key that waited for {subject} with its certificate")),
    "request.created": (_("Certificate requested"), _("made a key and a certificate request for {subject}")),
    "request.expired": (
        _("Request expired"),
        _("destroyed the key of the certificate request for {subject}, which nobody answered"),
    ),
    "request.mailed": (_("Request mailed"), _("mailed the certificate request for {subject} to {to}")),
    "request.withdrawn": (
        _("Request withdrawn"),
        _("withdrew the certificate request for {subject} and destroyed its key"),
    ),
    "rollout.cancelled": (_("Rollout cancelled"), _("cancelled the rollout before it began")),
    "rollout.moved": (_("Scheduled time changed"), _("moved revision {revision} from {before} to {due_at}")),
    "rollout.needs-help": (_("Rollout needs help"), _("could not bring back what ran before revision {revision}")),
    "rollout.refused": (_("Rollout refused"), _("ended the rollout before anything was delivered")),
    "rollout.requested": (_("Rollout asked for"), _("asked for a rollout")),
    "rollout.rolled-back": (_("Rolled back"), _("brought back what ran before revision {revision}")),
    "rollout.verified": (_("Rollout verified"), _("verified that revision {revision} runs")),
    "trust.added": (_("Trusted authority added"), _("added the trusted authority {subject}")),
    "trust.removed": (_("Trusted authority removed"), _("removed the trusted authority {subject}")),
}

LABELS: dict[str, Words] = {action: label for action, (label, _sentence) in ACTIONS.items()}

VARIANTS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], dict[Any, Words]]] = {
    "certificate.renewed": (
        lambda d: d.get("sent_by_partner"),
        {True: _("confirmed what the partner sent as renewal of {subject}")},
    ),
    "access.refused": (lambda d: d.get("right"), {"people": _("was not allowed to see or change people")}),
    "person.created": (
        lambda d: d.get("installation_owner"),
        {True: _("added {subject} as an installation owner")},
    ),
    "link.refused": (lambda d: "link" in d, {False: _("tried an upload link that does not exist")}),
    "pin.added": (lambda d: d.get("certificate"), {None: _("pinned {target} to never send a certificate")}),
    "pin.changed": (
        lambda d: d.get("certificate"),
        {None: _("changed the pin of {target} to never send a certificate")},
    ),
    "request.mailed": (
        lambda d: "failure" in d,
        {True: _("could not mail the certificate request for {subject} to {to}")},
    ),
    "rollout.requested": (
        lambda d: "scheduled" if d.get("due_at") else d.get("kind"),
        {
            "scheduled": _("scheduled revision {revision} for {due_at}"),
            "apply": _("asked to apply revision {revision}"),
            "roll-back": _("asked to roll back to revision {revision}"),
            "restart": _("asked for a restart"),
            "stop": _("asked to stop the app"),
            "start": _("asked to start the app"),
        },
    ),
    "rollout.verified": (
        lambda d: d.get("kind"),
        {
            "restart": _("restarted the app"),
            "stop": _("stopped the app"),
            "start": _("started the app"),
        },
    ),
    "rollout.refused": (
        lambda d: d.get("kind"),
        {
            "restart": _("could not restart the app"),
            "stop": _("could not stop the app"),
            "start": _("could not start the app"),
        },
    ),
}


def sentence(event: Event, details: Mapping[str, Any]) -> SafeString:
    """What was done, with the names in it emphasised; everything that an event brings is escaped.

    An action that this release does not know, or whose details are not those it expects, is told by its stored name.
    """
    _label, words = ACTIONS.get(event.action, ("", ""))
    if event.action in VARIANTS:
        choose, variants = VARIANTS[event.action]
        words = variants.get(choose(details), words)
    names = {**details, "subject": event.subject}
    if "role" in names:
        names["role"] = ROLES[names["role"]].title if names["role"] in ROLES else names["role"]
    names["what"] = {str(right): what for right, what in WHAT.items()}.get(str(details.get("right")), _("do this"))
    emphasised = {key: value if key == "what" else format_html("<b>{}</b>", value) for key, value in names.items()}
    try:
        return format_html(str(words) or "{action}: {subject}", **emphasised, action=event.action)
    except (KeyError, TypeError):
        return format_html("{}: <b>{}</b>", event.action, event.subject)


# What the details are called on the page; another key is shown as it is stored.
DETAILS: dict[str, Words] = {
    "address": _("Address"),
    "after": _("After"),
    "before": _("Before"),
    "certificate": _("Certificate"),
    "changed": _("Changed"),
    "changes": _("Changes"),
    "code": _("Reason"),
    "content": _("Digest of the content"),
    "due_at": _("Scheduled for"),
    "despite": _("Why a compromised key all the same"),
    "end": _("The link was"),
    "exporter": _("Export"),
    "failure": _("What went wrong"),
    "file": _("File"),
    "kind": _("Kind"),
    "note": _("Note"),
    "observed": _("Observed"),
    "person": _("Person"),
    "link": _("Link"),
    "place": _("Place"),
    "position": _("Position"),
    "reason": pgettext_lazy("of an action", "Why"),
    "replaces": _("In the place of revision"),
    "renewal": _("Renewal in several places"),
    "revision": _("Revision"),
    "right": _("Right"),
    "role": _("Role"),
    "serial": _("Serial number"),
    "sha256": "SHA-256",
    "slot": _("Slot"),
    "slug": _("Short form"),
    "taken_from": _("Taken along from"),
    "spki_sha256": _("SHA-256 of the public key"),
    "target": _("Target"),
    "ticket": _("Ticket"),
    "to": _("To"),
    "tries": _("Attempts"),
    "until": _("Until"),
    "username": _("Sign-in name"),
    "version": _("Version"),
}


def pairs(details: Mapping[str, Any]) -> list[tuple[Words, str]]:
    """The details for reading, in the order of their names; what is empty is left out."""
    return [
        (DETAILS.get(key, key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in sorted(details.items())
        if value not in (None, "")
    ]
