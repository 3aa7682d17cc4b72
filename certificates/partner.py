"""What a partner reads who has an upload link, and types: the only texts in several languages (locale/).

The sentences say what those of certificates.diagnosis say, to the person who can make the file anew.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from certificates.actions.sealing import VaultUnusable
from certificates.actions.slots import AlreadyHere
from certificates.diagnosis import Refusal
from certificates.forms import FilesField, password_field
from certificates.intake import MAX_FILES, Upload
from certificates.outline import MAX_FILE

ALREADY_HERE: Final = _("This certificate has been sent before. Choose the new one.")
TRY_LATER: Final = _("It cannot be kept at this moment. Nothing was lost; try again later.")
NOT_KEPT: Final = _("The file is not kept any longer. Choose it again.")

# By the codes of certificates.diagnosis; in the language of whoever renders them.
SENTENCES: Final[dict[str, Any]] = {
    "password_not_expressible": _("This cannot be the password of such a file. Check what was pasted."),
    "not_pkcs12": _(
        "This file is not one that can be read here. Export the certificate together with its private key as a .pfx or"
        " .p12 file, and choose that file."
    ),
    "truncated": _("This file is incomplete. Copy or export it again."),
    "wrong_password": _("The password does not open this file. Check capitals and spaces, and type it again."),
    "damaged": _("This file is damaged. Export it again."),
    "wrong_password_or_damaged": _(
        "The password does not open this file, or the file is damaged. Check the password; if it is right, export the"
        " file again."
    ),
    "entry_password_differs": _(
        "This password opens the file, but the private key inside has another one. Type both passwords."
    ),
    "limit_exceeded": _(
        "This file is larger or more complex than is allowed. Export only the certificate that is asked for, with"
        " ordinary settings."
    ),
    "unsupported_algorithm": _(
        "This file uses a method that cannot be read here. Export it with AES-256 and SHA-256, and with an RSA or EC"
        " key."
    ),
    "no_private_key": _("This file holds no private key. Export the certificate together with its private key."),
    "no_certificate": _("This file holds a private key without its certificate. Export both together."),
    "key_certificate_mismatch": _(
        "No certificate in this file belongs to its private key. Export the certificate together with its own key."
    ),
    "several_keys": _("This file holds several private keys. Export only the certificate that is asked for."),
    "unreadable_certificate": _("A certificate in this file does not follow the X.509 standard. Have it issued again."),
    "too_slow": _("Reading this file took too long. Export it again with ordinary settings."),
    "busy": _("Other files are being read at this moment. Nothing was lost; try again in a minute."),
    "reader_stopped": _("This file could not be read. Export it again with AES-256 and SHA-256."),
}


def sentence(error: Exception) -> Any:
    """For the partner; a code without a sentence here is told in English."""
    if isinstance(error, AlreadyHere):
        return ALREADY_HERE
    if isinstance(error, VaultUnusable):
        return TRY_LATER
    return SENTENCES.get(error.code, str(error)) if isinstance(error, Refusal) else str(error)


class SendForm(forms.Form):
    """File and password; or the password alone, for a file that is kept (`draft`). `two`: the key has its own."""

    file = FilesField(
        label=_("File with certificate and private key"),
        help_text=_(
            "A .pfx or .p12 file of at most 1 MiB. If certificate and key are in several files, choose them together."
        ),
    )
    password = password_field(
        label=_("Password of the file"),
        help_text=_("Used once to open the file, then forgotten. Leave it empty if the file has none."),
    )
    entry_password = password_field(
        label=_("Password of the private key"), help_text=_("If the key inside the file has a password of its own.")
    )
    draft = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, two: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nothing = _("No file has arrived. Choose it again.")
        self.fields["file"].error_messages |= {"invalid": nothing, "missing": nothing}
        if not two:
            del self.fields["entry_password"]

    def clean_file(self) -> list[Upload]:
        files: list[UploadedFile] = self.cleaned_data["file"]
        if len(files) > MAX_FILES or sum(file.size or 0 for file in files) > MAX_FILE:
            raise forms.ValidationError(SENTENCES["limit_exceeded"])
        return [Upload(file.name or "", file.read()) for file in files]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "file" in values and not values["file"] and not values.get("draft"):
            self.add_error("file", _("Choose the file."))
        return values

    @property
    def passwords(self) -> list[str]:
        typed = [self.cleaned_data["password"], self.cleaned_data.get("entry_password", "")]
        return list(dict.fromkeys(typed if typed[1] else typed[:1]))
