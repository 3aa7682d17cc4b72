from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.db import models
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from environments.access import ROLES
from environments.meanwhile import ChangedMeanwhile, digest_of
from environments.models import Environment, Person
from environments.refusals import Refused

EVERYWHERE = "all"


def refused(form: forms.Form, error: Refused) -> None:
    """Puts an action's sentence beside the field that it names, or above the form where the form has no such field."""
    if isinstance(error, ChangedMeanwhile) and isinstance(form, SharedForm):
        form.show_what_is_there_now(error)
    else:
        form.add_error(error.field if error.field in form.fields else None, str(error))


class SharedForm(forms.Form):
    """Edits the fields of a row that others may edit meanwhile. `shown` goes to the action with the values."""

    shown = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)
    row_fields: tuple[str, ...] = ("name",)

    def __init__(self, row: models.Model, data: Mapping[str, Any] | None = None) -> None:
        initial = {field: getattr(row, field) for field in self.row_fields}
        super().__init__(data, initial={**initial, "shown": digest_of(row, self.row_fields)})

    def show_what_is_there_now(self, error: ChangedMeanwhile) -> None:
        """What was typed stays, and whoever saves once more replaces what they have now seen."""
        for name, value in error.now.items():
            field = self.fields.get(name)
            if field is not None and field.has_changed(value, self.cleaned_data[name]):
                said = {True: _now("yes"), False: _now("no"), "": _now("empty")}.get(value, value)
                self.add_error(
                    name,
                    _now("Somebody else saved “%(value)s” here meanwhile; save again to replace it by yours.")
                    % {"value": said},
                )
        if not self.errors:
            self.add_error(None, _now("Somebody else saved other values meanwhile; look at them and save again."))
        self.data = {**dict(self.data.items()), "shown": error.digest}


class NameForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=200, error_messages={"required": _("Give the application a name.")}
    )


class RenameForm(NameForm, SharedForm):
    pass


class ApplicationForm(NameForm):
    slug = forms.CharField(
        label=_("Short form"),
        max_length=50,
        required=False,
        help_text=_(
            "Stands in addresses and commands, like “invoicing”. Never changes; left empty, it follows from above."
        ),
    )


class EnvironmentForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=200,
        help_text=_("Test, Acceptance, Production, or any other."),
        error_messages={"required": _("Give the environment a name.")},
    )
    production = forms.BooleanField(
        label=_("This is production"), required=False, help_text=_("Wears a badge on every page.")
    )
    runtime_version = forms.CharField(
        label=_("Runtime version"),
        max_length=40,
        required=False,
        help_text=_("Of the Mendix runtime, like 10.12.3. It decides which kinds of pins are known there."),
    )


class MemberForm(forms.Form):
    """Validates to what `actions.add_member` takes."""

    person = forms.CharField(
        label=_("Person"),
        max_length=150,
        help_text=_("The name that the person signs in with."),
        widget=forms.TextInput(attrs={"list": "people", "autocomplete": "off", "autocapitalize": "none"}),
        error_messages={"required": _("Type the name that the person signs in with.")},
    )
    environment = forms.ChoiceField(label=_("Where"))
    role = forms.ChoiceField(
        label=_("Role"),
        widget=forms.RadioSelect,
        choices=[(role.kind, role.title) for role in ROLES.values()],
        error_messages={"required": _("Choose one of the roles.")},
    )

    def __init__(self, environments: list[Environment], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = {str(environment.pk): environment for environment in environments}
        self.fields["environment"].choices = [  # type: ignore[attr-defined]
            (EVERYWHERE, pgettext_lazy("a role in", "All environments")),
            *((key, environment.name) for key, environment in self.places.items()),
        ]

    def clean_person(self) -> Person:
        person = Person.objects.filter(username__iexact=self.cleaned_data["person"], is_active=True).first()
        if person is None:
            raise forms.ValidationError(
                _now("Nobody signs in with this name; an installation owner can add them under People.")
            )
        return person

    def clean_environment(self) -> Environment | None:
        return self.places.get(self.cleaned_data["environment"])


class PersonForm(forms.Form):
    username = forms.CharField(
        label=_("Sign-in name"),
        max_length=150,
        help_text=_("Letters, digits and @ . + - _; small and capital letters count as the same."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
        error_messages={"required": _("Give the person a name to sign in with.")},
    )
    full_name = forms.CharField(
        label=_("Full name"), max_length=150, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    email = forms.EmailField(label=_("E-mail"), required=False, widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    owner = forms.BooleanField(
        label=_("Installation owner"),
        required=False,
        help_text=_("May do everything in every application, and adds people."),
    )


class AboutForm(SharedForm):
    """Name and address of somebody who is here already."""

    row_fields = ("first_name", "email")

    first_name = forms.CharField(
        label=_("Full name"), max_length=150, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    email = forms.EmailField(
        label=_("E-mail"),
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text=_("Where notices go: of certificates that expire, and of scheduled applies."),
    )
