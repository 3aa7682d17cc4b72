from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import ProhibitNullCharactersValidator
from django.utils.translation import gettext_lazy as _

from certificates.actions.slots import DESCRIPTION
from certificates.diagnosis import Refusal
from certificates.dialects import dialect_of
from certificates.models import ClientCertificate
from certificates.outline import MAX_FILE
from certificates.targets import WORDS
from environments.forms import SharedForm
from environments.models import Environment

NEVER = "never"


class AsTyped(forms.CharField):
    """What was typed, whatever it is: the action says in its own words what is wrong with it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators = [v for v in self.validators if not isinstance(v, ProhibitNullCharactersValidator)]


def password_field() -> AsTyped:
    return AsTyped(
        label=_("Password of the file"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_("Used once to open the file, then forgotten. Leave it empty where the file has none."),
    )


class UploadForm(forms.Form):
    """A file and its password. `name` is there for a new certificate, not for a renewal."""

    file = forms.FileField(
        label=_("File"),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".pfx,.p12,application/x-pkcs12"}),
        help_text=_("The .pfx or .p12 file that holds the certificate with its private key, at most 1 MiB."),
        error_messages={
            "required": _("Choose the .pfx or .p12 file."),
            "invalid": _("No file arrived; choose it again."),
            "missing": _("No file arrived; choose it again."),
        },
    )
    password = password_field()
    name = AsTyped(label=_("Name"), required=False, help_text=_("Guessed from the certificate where it is left empty."))

    def __init__(self, *args: Any, renewal: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if renewal:
            del self.fields["name"]

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        # certificates.uploads keeps the first bytes only; the size is that of what was sent.
        if (file.size or 0) > MAX_FILE:
            raise forms.ValidationError(str(Refusal("too_large", size=file.size or 0, limit=MAX_FILE)))
        return file


class PasswordForm(forms.Form):
    """The password once more, for a file that is kept; what was typed as name comes along."""

    password = password_field()
    name = AsTyped(required=False, widget=forms.HiddenInput)


class ConfirmForm(forms.Form):
    """Confirms a preview: as a new certificate with a name, or as a renewal with a choice when it is used."""

    name = AsTyped(label=_("Name"), error_messages={"required": _("Give it a name.")})
    use = forms.ChoiceField(
        label=_("Use it"),
        choices=[
            ("now", _("With the next apply")),
            ("ready", _("Keep ready, and go on with the version in use")),
        ],
        initial="now",
        widget=forms.RadioSelect(attrs={"class": "choices"}),
        error_messages={"required": _("Choose when it is to be used.")},
    )
    confirmed = forms.BooleanField(label=_("I have read this and want to use it all the same"), required=False)

    def __init__(self, *args: Any, renewal: bool, warned: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["name" if renewal else "use"]
        if not warned:
            del self.fields["confirmed"]


class DescribeForm(SharedForm):
    row_fields = DESCRIPTION

    name = AsTyped(
        label=_("Name"),
        help_text=_("Only on these pages; what runs does not change."),
        error_messages={"required": _("Give it a name.")},
    )
    contact = forms.CharField(
        label=_("Contact at the partner"),
        max_length=200,
        required=False,
        help_text=_("Whom to ask for the next one: a name, an address, a telephone number."),
    )
    how_to_renew = forms.CharField(
        label=_("How to renew"), max_length=5000, required=False, widget=forms.Textarea(attrs={"rows": 5})
    )


class PinForm(forms.Form):
    """A target as it is typed, and what it is sent."""

    target = AsTyped(
        label=_("Service, host or client certificate identifier"),
        help_text=_("Like Module.WebService, api.example.com or MY_S3; a whole address is fine."),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", "class": "mono"}
        ),
        error_messages={"required": _("Type a service, a host or a client certificate identifier.")},
    )
    kind = forms.ChoiceField(label=_("Kind"), required=False)
    certificate = forms.ChoiceField(
        label=_("Is sent"),
        error_messages={
            "required": _("Choose a certificate, or “Never send a certificate”."),
            "invalid_choice": _("Choose a certificate of this environment."),
        },
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False)

    def __init__(self, environment: Environment, *args: Any, interpret: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = dialect_of(environment.runtime).targets
        self.certificates = {str(c.pk): c for c in environment.certificates.filter(removed_at=None)}
        choices: dict[str, list[tuple[str, Any]]] = {
            "kind": [("", _("Recognised by what is typed")), *((kind, WORDS[kind]) for kind in kinds)],
            "certificate": [
                ("", _("Choose…")),
                *((pk, _label(certificate)) for pk, certificate in self.certificates.items()),
                (NEVER, _("Never send a certificate")),
            ],
        }
        for name, options in choices.items():
            self.fields[name].choices = options  # type: ignore[attr-defined]  # both are choice fields
        for name, trigger in (("target", "input changed delay:300ms"), ("kind", "change"), ("certificate", "change")):
            # By POST, although it changes nothing: an address that was pasted may carry a password, and addresses of
            # requests are written to logs.
            self.fields[name].widget.attrs |= {"hx-post": interpret, "hx-trigger": trigger}

    @property
    def chosen(self) -> ClientCertificate | None:
        """The certificate, or None for *never send*."""
        return self.certificates.get(self.cleaned_data["certificate"])


def _label(certificate: ClientCertificate) -> str:
    return certificate.name if certificate.enabled else _("%(name)s (disabled)") % {"name": certificate.name}
