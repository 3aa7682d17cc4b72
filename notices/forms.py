from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from environments.models import Application
from notices.models import Channel


class _ChannelForm(forms.Form):
    title = forms.CharField(label=_("Name"), max_length=100, error_messages={"required": _("Give it a name.")})
    weekly = forms.BooleanField(label=_("Also a digest each week, on Monday at 07:00"), required=False, initial=True)
    rollouts = forms.BooleanField(
        label=_("Also reminders and results of scheduled applies"), required=False, initial=True
    )


class MailForm(_ChannelForm):
    to_people = forms.BooleanField(
        label=_("The people here: whoever is responsible first, then all who may renew"), required=False, initial=True
    )
    addresses = forms.CharField(
        label=_("Further addresses"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("One a line: a list of your team, say. They are told of everything in this application."),
    )
    field_order = ["title", "to_people", "addresses", "weekly", "rollouts"]

    def __init__(self, data: Any = None, *, channel: Channel | None = None) -> None:
        initial: dict[str, Any] = {"title": _("Mail")}
        if channel is not None:
            initial = {
                "title": channel.title, "to_people": channel.to_people, "addresses": "\n".join(channel.addresses),
                "weekly": channel.weekly, "rollouts": channel.rollouts,
            }  # fmt: skip
        super().__init__(data, initial=initial)


class ServiceForm(_ChannelForm):
    address = forms.CharField(
        label=_("Address of the service"),
        max_length=2000,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "mono"}),
        help_text=_(
            "As Apprise spells it: slack://…, msteams://…, jsons://host/path for a webhook, and a hundred others. It is"
            " sealed and never shown again."
        ),
        error_messages={"required": _("Type or paste the address of the service.")},
    )
    field_order = ["title", "address", "weekly", "rollouts"]

    def __init__(self, data: Any = None, *, channel: Channel | None = None) -> None:
        initial = None
        if channel is not None:
            initial = {"title": channel.title, "weekly": channel.weekly, "rollouts": channel.rollouts}
        super().__init__(data, initial=initial)
        if channel is not None:
            del self.fields["address"]


class LeadForm(forms.Form):
    first = forms.IntegerField(
        label=_("First notice, days before the end"),
        min_value=1,
        max_value=3650,
        help_text=_("Or a third of its lifetime, where that is less. The second comes at two thirds of that."),
    )
    week = forms.IntegerField(label=_("Then, days before"), min_value=1, max_value=3650)
    day = forms.IntegerField(label=_("And, days before"), min_value=1, max_value=3650)


class SnoozeForm(forms.Form):
    until = forms.DateField(
        label=_("Until"),
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("Until this day begins, nobody is told that it expires."),
        error_messages={"required": _("Choose a day."), "invalid": _("This is no day; write it as 2026-12-31.")},
    )
    reason = forms.CharField(
        label=_("Why"),
        max_length=300,
        help_text=_("Everybody here reads it, on this page and in the weekly digest."),
        error_messages={"required": _("Say why, so that the others know.")},
    )

    def clean_until(self) -> datetime:
        day = self.cleaned_data["until"]
        return timezone.make_aware(datetime.combine(day, time()))


class FeedForm(forms.Form):
    scope = forms.ChoiceField(label=_("What it shows"))

    def __init__(self, applications: Sequence[Application], data: Any = None) -> None:
        super().__init__(data)
        self.applications = {application.slug: application for application in applications}
        field = self.fields["scope"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            ("mine", _("What I am responsible for")),
            ("all", _("Everything that I may see")),
            *((application.slug, application.name) for application in applications),
        ]
