from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from environments.forms import EnvironmentForm
from environments.models import Application
from portal.sentences import LABELS

EXPORT_ONLY = "export-only"


class SignInForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}),
        error_messages={"required": _("Type the name that you sign in with.")},
    )
    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        error_messages={"required": _("Type your password.")},
    )


class ChangePasswordForm(forms.Form):
    current = forms.CharField(
        label=_("Current password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
        error_messages={"required": _("Type the password that you signed in with.")},
    )
    new = forms.CharField(
        label=_("New password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters; four words that do not belong together are good."),
        error_messages={"required": _("Type a new password.")},
    )
    again = forms.CharField(
        label=_("New password again"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        error_messages={"required": _("Type the new password once more.")},
    )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "new" in values and "again" in values and values["new"] != values["again"]:
            self.add_error("again", _now("The two new passwords differ; type both anew."))
        return values


class NewEnvironmentForm(EnvironmentForm):
    """With where it runs: one of the free places of the server's settings, or nowhere (“Export only”)."""

    place = forms.ChoiceField(
        label=_("Runs on"),
        widget=forms.RadioSelect,
        error_messages={
            "required": _("Choose a place, or “Export only”."),
            "invalid_choice": _("This place is not free any more; choose another, or “Export only”."),
        },
    )

    def __init__(self, places: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["place"]
        field.choices = [*places, (EXPORT_ONLY, _("Export only"))]  # type: ignore[attr-defined]
        # Where there is a choice, a person makes it: a place taken by mistake would be applied to.
        field.initial = None if places else EXPORT_ONLY


class AuditFilter(forms.Form):
    """What the audit log is narrowed to; lives in the address of the page."""

    q = forms.CharField(
        label=_("Text"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"type": "search", "data-search": "", "autocomplete": "off"}),
    )
    who = forms.CharField(
        label=_("Person"), max_length=200, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    action = forms.ChoiceField(label=_("Action"), required=False)
    application = forms.ChoiceField(label=_("Application"), required=False)
    refused = forms.BooleanField(label=_("Refused only"), required=False)

    def __init__(self, applications: list[Application], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        actions = sorted(((action, str(label)) for action, label in LABELS.items()), key=lambda choice: choice[1])
        self.fields["action"].choices = [("", _("Any")), *actions]  # type: ignore[attr-defined]
        self.fields["application"].choices = [  # type: ignore[attr-defined]
            ("", _("Any")),
            *((str(application.pk), application.name) for application in applications),
        ]
