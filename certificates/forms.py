from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import ProhibitNullCharactersValidator
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from certificates import actions, pkcs10
from certificates.actions.batches import MAX_IN_A_BATCH
from certificates.actions.slots import DESCRIPTION
from certificates.dialects import dialect_of
from certificates.intake import MAX_FILES, MAX_PASSWORDS, Upload
from certificates.languages import LANGUAGES
from certificates.models import IDENTIFIED_BY, ClientCertificate, Draft, PublicAuthority, TrustedAuthority, Version
from certificates.outline import MAX_FILE, too_large
from certificates.renewals import Place
from certificates.targets import WORDS
from environments.access import people_of
from environments.forms import SharedForm
from environments.models import Environment, Person

NEVER = "never"
MAX_BATCH = 2 * MAX_FILE
ACCEPTED = ".pfx,.p12,.pem,.crt,.cer,.key,.der,.p7b,.p7c,.txt,application/x-pkcs12"
PEM = "-----BEGIN CERTIFICATE-----"


class AsTyped(forms.CharField):
    """What was typed, whatever it is: the action says in its own words what is wrong with it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators = [v for v in self.validators if not isinstance(v, ProhibitNullCharactersValidator)]


def password_field(label: Any = None, help_text: Any = None) -> AsTyped:
    return AsTyped(
        label=label or _("Password of the file"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=help_text or _("Used once to open the file, then forgotten. Leave it empty where the file has none."),
    )


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or several files, chosen or dropped; cleans to a list, which may be empty."""

    def __init__(self, **kwargs: Any) -> None:
        nothing = _("No file arrived; choose it again.")
        super().__init__(
            allow_empty_file=True,
            widget=FilesInput(attrs={"accept": ACCEPTED, "data-drop": ""}),
            error_messages={"invalid": nothing, "missing": nothing},
            **kwargs,
        )

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data if isinstance(data, (list, tuple)) else [data] if data else []
        return [file for one in files if (file := super(FilesField, self).clean(one, initial)) is not None]


class UploadForm(forms.Form):
    """The files of one certificate, or text, and their password. `name` is there for a new one, not for a renewal."""

    file = FilesField(
        label=_("File"),
        help_text=_(
            "The .pfx or .p12 with certificate and private key; or certificate, key and chain as PEM, DER or .p7b,"
            " together. At most 1 MiB."
        ),
    )
    text = AsTyped(
        label=_("Text"),
        required=False,
        widget=forms.Textarea(
            attrs={"rows": 4, "class": "mono", "autocomplete": "off", "spellcheck": "false", "placeholder": PEM}
        ),
        help_text=_("PEM or base64, as it stands in a mail."),
    )
    password = password_field()
    nothing = _("Choose the .pfx or .p12 file.")
    name = AsTyped(label=_("Name"), required=False, help_text=_("Guessed from the certificate where it is left empty."))

    def __init__(self, *args: Any, renewal: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if renewal:
            del self.fields["name"]

    def clean_file(self) -> list[Upload]:
        files: list[UploadedFile] = self.cleaned_data["file"]
        # certificates.uploads keeps the first bytes only; the size is that of what was sent.
        if (size := sum(file.size or 0 for file in files)) > MAX_FILE:
            raise forms.ValidationError(str(too_large(size)))
        if len(files) > MAX_FILES:
            raise forms.ValidationError(
                _now("These are %(n)d files; one certificate has at most %(limit)d. Add several certificates at once.")
                % {"n": len(files), "limit": MAX_FILES}
            )
        return [Upload(file.name or "", file.read()) for file in files]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "file" in values and not values["file"]:
            if not values.get("text"):
                self.add_error("file", str(self.nothing))
            else:
                values["file"] = [Upload(_now("pasted text"), values["text"].encode("utf-8", "replace"))]
        return values


class AnswerForm(UploadForm):
    """The certificate that was issued for a request: files, or text, and no password."""

    file = FilesField(
        label=_("Certificate"),
        help_text=_("The .cer, .crt, .pem, .der or .p7b that the partner sent back, with the issuers above it if any."),
    )
    password = None  # type: ignore[assignment]
    nothing = _("Choose the certificate that was sent back, or paste it.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, renewal=True, **kwargs)


class RequestForm(forms.Form):
    """What a certificate is asked for with. `name` is there for a new one, not for a renewal."""

    name = AsTyped(
        label=_("Name"),
        help_text=_("What the new certificate is called on these pages."),
        error_messages={"required": _("Give it a name.")},
    )
    subject = AsTyped(
        label=_("Subject"),
        help_text=_("One part a line, the common name first: CN=client.example.com, then OU=, O=, L=, ST=, C=."),
        widget=forms.Textarea(
            attrs={
                "rows": 5,
                "class": "mono",
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "CN=client.example.com\nO=Example GmbH\nC=DE",
            }
        ),
        error_messages={"required": _("Type at least one part, like CN=client.example.com.")},
    )
    names = AsTyped(
        label=_("Alternative names"),
        required=False,
        help_text=_("One a line, where the partner wants them: a host, an IP address, a mail address or a URI."),
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    key = forms.ChoiceField(
        label=_("New key"),
        choices=[(kind, title) for kind, (title, _hash) in pkcs10.KEYS.items()],
        initial="rsa-3072",
        widget=forms.RadioSelect(attrs={"class": "choices"}),
        error_messages=dict.fromkeys(("required", "invalid_choice"), _("Choose one of the kinds of keys.")),
    )

    def __init__(self, certificate: ClientCertificate | None, data: Any = None) -> None:
        version = certificate.in_use if certificate else None
        # Of the names of the version in use, those that cannot be asked for.
        self.left_out: list[str] = []
        initial: dict[str, Any] = {}
        if version is not None:
            names, self.left_out = pkcs10.split_names(version.names)
            initial["subject"] = pkcs10.lines_of(actions.subject_of(version))
            initial["names"] = "\n".join(names)
            initial["key"] = pkcs10.kind_like(version.key_kind)
        super().__init__(data, initial=initial)
        if certificate is not None:
            del self.fields["name"]


class MailForm(forms.Form):
    """A request on its way to the partner."""

    to = forms.EmailField(
        label=_("To"),
        error_messages={
            "required": _("Type the partner's mail address."),
            "invalid": _("This is no mail address; type one, like certificates@example.com."),
        },
    )
    message = forms.CharField(
        label=_("Message"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 12}),
        help_text=_("The request is attached. Nothing in it is secret."),
        error_messages={"required": _("Write a few words.")},
    )


class TrustForm(forms.Form):
    """Certificates of authorities, as a file or as text. Read first, and shown; then added by a button of its own."""

    file = FilesField(
        label=_("File"),
        required=False,
        help_text=_("The authority's certificate, in PEM or DER; a PEM file may hold several. At most 1 MiB."),
    )
    text = AsTyped(
        label=_("Text"),
        required=False,
        widget=forms.Textarea(
            attrs={"rows": 6, "class": "mono", "autocomplete": "off", "spellcheck": "false", "placeholder": PEM}
        ),
    )
    confirmed = forms.BooleanField(label=_("I have read this and want to trust it all the same"), required=False)

    def clean_file(self) -> list[Upload]:
        files: list[UploadedFile] = self.cleaned_data["file"]
        if (size := sum(file.size or 0 for file in files)) > MAX_FILE:
            raise forms.ValidationError(str(too_large(size)))
        return [Upload(file.name or "", file.read()) for file in files]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "file" in values and not values["file"]:
            if not values.get("text", "").strip():
                self.add_error("file", _now("Choose the authority's certificate, or paste it."))
            else:
                values["file"] = [Upload(_now("pasted text"), values["text"].encode("utf-8", "replace"))]
        return values

    def adds(self, found: list[TrustedAuthority]) -> bool:
        """Whether it was asked to add them, and everything that has to be confirmed was."""
        if "add" not in self.data:
            return False
        if any(one.warnings for one in found) and not self.cleaned_data["confirmed"]:
            self.add_error("confirmed", _now("Read the warnings and confirm them; nothing was added."))
            return False
        return True

    def again(self, text: str) -> TrustForm:
        """The form with what was read as text, and with what was wrong."""
        form = TrustForm({**{name: self.data.get(name, "") for name in ("confirmed",)}, "text": text})
        form.full_clean()
        form._errors = self.errors  # type: ignore[attr-defined]
        return form


class BatchForm(forms.Form):
    """The files of many certificates, each in a file of its own."""

    file = FilesField(
        label=_("Files"),
        help_text=_(
            "One .pfx or .p12 for each certificate, at most %(files)d files and %(size)s together. A chain (.p7b, .pem)"
            " beside them completes those that lack it."
        )
        % {"files": MAX_IN_A_BATCH, "size": "2\u00a0MiB"},
    )

    def clean_file(self) -> list[Upload]:
        files: list[UploadedFile] = self.cleaned_data["file"]
        if not files:
            raise forms.ValidationError(_now("Choose the .pfx or .p12 files."))
        if len(files) > MAX_IN_A_BATCH:
            raise forms.ValidationError(
                _now("These are %(n)d files; at most %(limit)d go at once. Upload the rest afterwards.")
                % {"n": len(files), "limit": MAX_IN_A_BATCH}
            )
        if sum(file.size or 0 for file in files) > MAX_BATCH:
            raise forms.ValidationError(
                _now(
                    "These files have more than 2\u00a0MiB together; upload them in parts, and see that each is a .pfx."
                )
            )
        return [Upload(file.name or "", file.read()) for file in files]


class PasswordsForm(forms.Form):
    """A handful of passwords, one a line; each is tried on each file. `after` is the place of the last file that was
    tried with them."""

    passwords = AsTyped(
        label=_("Passwords"),
        required=False,
        strip=False,
        widget=forms.Textarea(
            attrs={
                "rows": 3,
                "class": "mono masked",
                "autocomplete": "off",
                "spellcheck": "false",
                "autocapitalize": "off",
            }
        ),
        help_text=_("One a line, at most ten; each is tried on each file, then forgotten."),
    )
    after = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def clean_passwords(self) -> list[str]:
        lines = self.cleaned_data["passwords"].split("\n")
        typed = list(dict.fromkeys(stripped for line in lines if (stripped := line.removesuffix("\r"))))
        if len(typed) > MAX_PASSWORDS:
            raise forms.ValidationError(
                _now("These are %(n)d passwords; at most %(limit)d are tried at once.")
                % {"n": len(typed), "limit": MAX_PASSWORDS}
            )
        return typed or [""]

    def clean_after(self) -> int:
        after = self.cleaned_data["after"]
        return -1 if after is None else int(after)


class AuthorityForm(forms.Form):
    """A public authority on the list."""

    name = AsTyped(label=_("Name"), error_messages={"required": _("Give it a name.")})
    organisation = forms.CharField(
        label=_("Organisation"),
        max_length=200,
        help_text=_("As issuers of its certificates spell it after O=; a part of it is enough."),
        error_messages={"required": _("Type the organisation, as after O= in the name of an issuer.")},
    )
    stops_on = forms.DateField(
        label=_("Stops on"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={
            "required": _("Type the day, like 2027-03-01."),
            "invalid": _("Type the day like 2027-03-01."),
        },
    )
    source = forms.URLField(
        label=_("Source"),
        max_length=500,
        assume_scheme="https",
        help_text=_("The address where the authority says so."),
        error_messages={
            "required": _("Name the page where the authority says so."),
            "invalid": _("Type a whole address, like https://example.com/notice."),
        },
    )

    def __init__(self, authority: PublicAuthority | None, data: Any = None) -> None:
        super().__init__(
            data, initial={name: getattr(authority, name) for name in self.base_fields} if authority else {}
        )


class PasswordForm(forms.Form):
    """The password once more, for files that are kept; what was typed as name comes along. `two`: the key may have a
    password of its own."""

    password = password_field()
    entry_password = password_field(
        label=_("Password of the key"),
        help_text=_("Some Java programs give the key inside a password of its own."),
    )
    name = AsTyped(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, two: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not two:
            del self.fields["entry_password"]

    @property
    def passwords(self) -> list[str]:
        """Those that were typed; an empty one is a password too, where it is the only one."""
        typed = [self.cleaned_data["password"], self.cleaned_data.get("entry_password", "")]
        return list(dict.fromkeys(typed if typed[1] else typed[:1]))


class ChooseForm(forms.Form):
    """One of several certificates in the files, by its fingerprint."""

    sha256 = forms.ChoiceField(
        label=_("Certificate"),
        widget=forms.RadioSelect(attrs={"class": "choices"}),
        error_messages={"required": _("Choose one of the certificates.")},
    )
    name = AsTyped(required=False, widget=forms.HiddenInput)

    def __init__(self, versions: list[Version], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sha256"].choices = [  # type: ignore[attr-defined]
            (version.sha256, version.sha256) for version in versions
        ]


class PlacesForm(forms.Form):
    """What becomes of each place that uses what is being replaced: nothing, where nobody chooses."""

    WHEN = (
        ("leave", _("Leave as it is")),
        ("next", _("With the next apply")),
        ("ready", _("Keep ready")),
    )
    confirmed = forms.BooleanField(label=_("I have read this and want to use it all the same"), required=False)

    def __init__(self, places: Sequence[Place], data: Any = None, **kwargs: Any) -> None:
        self.places = places
        if data is not None and (everywhere := data.get("everywhere")) in dict(self.WHEN):
            data = data.copy()
            for place in places:
                data[_of_place(place)] = everywhere
        super().__init__(data, **kwargs)
        for place in places:
            label = f"{place.environment} · {place.certificate}"
            self.fields[_of_place(place)] = forms.ChoiceField(
                label=label,
                choices=self.WHEN,
                initial="leave",
                required=False,
                widget=forms.Select(attrs={"aria-label": label}),
            )

    @property
    def is_only_set(self) -> bool:
        """A button has set every choice, and nothing is to be done yet."""
        return self.is_bound and "everywhere" in self.data

    @property
    def rows(self) -> list[tuple[Place, forms.BoundField]]:
        return [(place, self[_of_place(place)]) for place in self.places]

    @property
    def warned_places(self) -> bool:
        return any(place.warnings for place in self.places)

    @property
    def chosen(self) -> dict[Place, bool]:
        """The places to replace, True where it goes with the next apply."""
        choices = {place: self.cleaned_data.get(_of_place(place)) for place in self.places}
        return {place: choice == "next" for place, choice in choices.items() if choice in ("next", "ready")}


def _of_place(place: Place) -> str:
    return f"place-{place.certificate.pk}"


class ConfirmForm(PlacesForm):
    """Confirms a preview: as a new certificate with a name, or as a renewal with a choice when it is used. Where there
    is more than one way to end its chain, the number of links that are kept is chosen too."""

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
    links = forms.TypedChoiceField(
        label=_("Chain"),
        coerce=int,
        required=False,
        empty_value=None,
        widget=forms.RadioSelect(attrs={"class": "choices"}),
    )

    def __init__(
        self, draft: Draft, data: Any = None, *, warned: bool, places: Sequence[Place] = (), **kwargs: Any
    ) -> None:
        super().__init__(places, data, **kwargs)
        renewal = draft.certificate_id is not None
        del self.fields["name" if renewal else "use"]
        if draft.tracked and renewal:
            del self.fields["use"]
        choices = ways_to_end(draft.facts["chain"])
        if len(choices) > 1 and not draft.tracked:
            self.fields["links"].choices = choices  # type: ignore[attr-defined]
            self.fields["links"].initial = choices[0][0]
        else:
            del self.fields["links"]
        if not warned and not self.warned_places:
            del self.fields["confirmed"]


def ways_to_end(chain: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """How many links of a chain can be kept, and each in words: all; without the root; those that the file had."""
    ways = {len(chain): _now("Whole, as it is shown")}
    if chain and chain[-1]["self_signed"]:
        ways.setdefault(len(chain) - 1, _now("Without the root; who trusts it has it"))
    if added := sum(1 for link in chain if link.get("completed")):
        ways.setdefault(len(chain) - added, _now("Only what was in the file"))
    return list(ways.items())


class AskForm(forms.Form):
    """What a partner reads of us, and in which language. `mail` is there where the link can be sent."""

    asked_by = AsTyped(
        label=_("Who asks"),
        help_text=_("The partner reads this name: your company, or the team they know."),
        error_messages={"required": _("Say who asks, in a name that the partner knows.")},
    )
    about = AsTyped(
        label=_("For what"),
        help_text=_("In words that the partner knows. Of this portal they see nothing but these two names."),
        error_messages={"required": _("Say for what, in words that the partner knows.")},
    )
    language = forms.ChoiceField(
        label=_("Language"),
        choices=list(LANGUAGES.items()),
        initial="en",
        help_text=_("Of the page, where it can be changed, and of the mail."),
        error_messages={"required": _("Choose a language."), "invalid_choice": _("Choose one of the languages.")},
    )
    mail = forms.BooleanField(required=False, help_text=_("You see the link in any case."))

    def __init__(self, certificate: ClientCertificate, data: Any = None, *, asked_by: str, may_mail: bool) -> None:
        super().__init__(data, initial={"asked_by": asked_by, "about": certificate.name, "mail": True})
        if may_mail and certificate.contact_mail:
            self.fields["mail"].label = _now("Mail the link to %(address)s") % {"address": certificate.contact_mail}
        else:
            del self.fields["mail"]


class DiscardForm(forms.Form):
    reason = AsTyped(
        label=_("Why"),
        error_messages={"required": _("Say why; it stands in the audit log.")},
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("Stands in the audit log; the partner does not see it."),
    )


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
    contact_mail = forms.EmailField(
        label=_("Their e-mail"), required=False, help_text=_("Where requests and links for the next one are sent.")
    )
    how_to_renew = forms.CharField(
        label=_("How to renew"), max_length=5000, required=False, widget=forms.Textarea(attrs={"rows": 5})
    )
    ticket_queue = forms.CharField(
        label=_("Ticket queue"),
        max_length=200,
        required=False,
        help_text=_("Where a renewal is asked for, theirs or yours: the name of a queue, or its address."),
    )
    identified_by = forms.MultipleChoiceField(
        label=_("The partner recognises us by"),
        choices=list(IDENTIFIED_BY.items()),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("A renewal that differs in this says so before it is used."),
    )
    responsible = forms.ModelChoiceField(
        label=_("Responsible here"),
        queryset=Person.objects.none(),
        required=False,
        empty_label=_("nobody in particular"),
        help_text=_("Is told first that it expires; the operators after that."),
    )
    notes = forms.CharField(label=_("Notes"), max_length=5000, required=False, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, row: ClientCertificate, data: Any = None) -> None:
        super().__init__(row, data)
        field = cast(forms.ModelChoiceField, self.fields["responsible"])
        field.queryset = people_of(row.environment)
        self.initial["responsible"] = row.responsible_id


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
    test_address = AsTyped(
        label=_("Address to test"),
        required=False,
        help_text=_(
            "Where a connection is tried, if not at the host itself: api.example.com:8443/health, or smtp://, imap://"
            " or ldap:// and a host. Not exported."
        ),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", "class": "mono"}
        ),
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False)
    # The SHA-256 of the certificate of which it was confirmed that its key, used elsewhere, is wanted in production.
    confirmed = forms.CharField(required=False)

    def __init__(self, environment: Environment, *args: Any, interpret: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = dialect_of(environment.runtime).targets
        listed = environment.certificates.filter(removed_at=None).exclude(in_use__isnull=False, in_use__sealed=None)
        self.certificates = {str(c.pk): c for c in listed}
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
