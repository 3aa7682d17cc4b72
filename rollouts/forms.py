from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from certificates.dialects import DIALECTS, dialect_of
from certificates.forms import AsTyped, FilesField
from certificates.intake import Upload
from certificates.models import Version
from certificates.outline import MAX_FILE, too_large
from certificates.uploads import KEPT_IN_ALL
from environments.actions import SETTINGS
from environments.forms import EnvironmentForm, SharedForm
from environments.models import Environment
from environments.refusals import Refused
from rollouts import due, exporters
from rollouts.connectors import LISTED, Setting, connector_class
from rollouts.models import Destination
from rollouts.standing import Standing

WHY = _("Say why, in a few words; it stands beside the revision.")


class ReasonForm(forms.Form):
    """Why, and where to read more; both stand in the audit log and beside the revision."""

    reason = forms.CharField(label=_("Why"), max_length=500, error_messages={"required": WHY})
    ticket = forms.CharField(label=_("Ticket"), max_length=100, required=False)

    def ask_for_ticket(self, environment: Environment) -> None:
        """Says how this environment's tickets are written, where it wants one."""
        if pattern := environment.ticket_pattern:
            self.fields["ticket"].required = True
            self.fields["ticket"].help_text = _now("Written like %(pattern)s.") % {"pattern": pattern}
            self.fields["ticket"].error_messages["required"] = _now("Name the ticket, written like %(pattern)s.") % {
                "pattern": pattern
            }


class TimeInput(forms.DateTimeInput):
    """Its form knows whether it is needed, by the button that was pressed."""

    input_type = "datetime-local"

    def use_required_attribute(self, initial: Any) -> bool:
        return False


class TimeField(forms.CharField):
    """A day and a time in the time zone of this server, as the moment that it is; None where it is empty."""

    def __init__(self) -> None:
        super().__init__(
            label=_("Day and time"),
            max_length=40,
            widget=TimeInput,
            error_messages={"required": _("Say when: day and time.")},
        )
        self.help_text = _now("In the time zone of this server: %(zone)s.") % {"zone": due.zone_in_words()}

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return due.read(text) if text else None
        except Refused as error:
            raise forms.ValidationError(str(error)) from None


class LaterForm(ReasonForm):
    """What is applied now, or, by another button, at a time (`when` is later)."""

    # By the name of the button that was pressed; Enter in a field presses the first, which is for now.
    when = forms.CharField(required=False, max_length=10, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["at"] = TimeField()
        self.later = self.data.get("when") == "later"
        self.fields["at"].required = self.later or not self.is_bound

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        values.pop("when", None)
        due_at = values.pop("at", None)
        if due_at is not None and not self.later:
            self.add_error("at", _("A time is given: press “Schedule”, or empty it to apply now. Nothing was applied."))
        return values | {"due_at": due_at}


class ApplyForm(LaterForm):
    """`shown` is the digest of the content that the person saw; the other choices exist where they mean something."""

    shown = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)
    start = forms.ChoiceField(
        label=_("The app is stopped"),
        choices=[("yes", _("Start the app with it")), ("no", _("Deliver only; the app stays stopped"))],
        widget=forms.RadioSelect,
        initial="yes",
    )
    insist = forms.BooleanField(label=_("Try it again all the same"), required=False)
    despite_tests = forms.BooleanField(label=_("Go on even if a connection is refused"), required=False)
    replace = forms.BooleanField(label=_("In the place of what is scheduled"), required=False)

    def __init__(self, stand: Standing, *args: Any, refusals: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ask_for_ticket(stand.environment)
        if not refusals:
            del self.fields["despite_tests"]
        if stand.scheduled is None:
            del self.fields["replace"]
        elif stand.scheduled.revision is not None:
            self.fields["replace"].label = _now("In the place of revision %(n)d, which is cancelled then") % {
                "n": stand.scheduled.revision.number
            }
        if not stand.stopped:
            del self.fields["start"]
        if not stand.blocked:
            del self.fields["insist"]

    @property
    def choices(self) -> dict[str, Any]:
        """The validated values as the action takes them."""
        values = dict(self.cleaned_data)
        if "start" in values:
            values["start"] = values["start"] == "yes"
        return values


class SeveralForm(LaterForm):
    """Which environments, each with the digest of what was shown for it."""

    environments = forms.MultipleChoiceField(
        label=_("Environments"),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "choices"}),
        error_messages={"required": _("Choose at least two environments; apply a single one on its own page.")},
    )
    stop_at_failure = forms.BooleanField(
        label=_("One after the other, and none after the first that fails"), required=False, initial=True
    )

    def __init__(self, choices: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["environments"].choices = choices  # type: ignore[attr-defined]
        self.order_fields(["environments", "reason", "ticket", "stop_at_failure"])


class ScheduleForm(forms.Form):
    """Another time for what is scheduled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["at"] = TimeField()


class RollBackForm(ReasonForm):
    """`compromised` says whether the revision has a key that others may have."""

    despite_key = forms.BooleanField(label=_("Go back to it although its key is compromised"), required=False)

    def __init__(self, *args: Any, compromised: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not compromised:
            del self.fields["despite_key"]


class UndoForm(forms.Form):
    """`despite` is asked for once the action wants it."""

    shown = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)
    despite = forms.CharField(label=_("Why a compromised key comes back"), max_length=500, required=False)


class CompromisedForm(forms.Form):
    """Which key, by a version that has it, and what happened."""

    version = forms.ChoiceField(
        label=_("Key"),
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose the version whose key is compromised.")},
    )
    reason = forms.CharField(
        label=_("What happened"),
        max_length=500,
        error_messages={"required": _("Say what happened, in a few words; it stands in the audit log.")},
        help_text=_("Like: the laptop with the .pfx was stolen. Others who hold this key do not see it."),
    )

    def __init__(self, versions: list[Version], in_use: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        words = _now("Version %(n)d, %(name)s, until %(day)s")
        named = {
            str(one.number): words
            % {"n": one.number, "name": one.common_name or one.subject, "day": f"{one.not_after:%Y-%m-%d}"}
            for one in versions
        }
        self.fields["version"].choices = list(named.items())  # type: ignore[attr-defined]
        chosen = next((str(one.number) for one in versions if one.pk == in_use), next(iter(named), ""))
        self.fields["version"].initial = chosen


class CloseForm(forms.Form):
    note = forms.CharField(label=_("Note"), max_length=500, required=False)


class AskForm(forms.Form):
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)


class ExportForm(forms.Form):
    """Which export, and for which folder; lives in the address of the page."""

    exporter = forms.ChoiceField(label=_("Export for"), widget=forms.RadioSelect)
    folder = forms.CharField(
        label=_("Base folder"),
        max_length=400,
        required=False,
        help_text=_("Where the app finds its files, like /srv/app/certificates or D:\\App\\Certificates."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = [exporters.exporter(kind) for kind in exporters.EXPORTERS]
        self.fields["exporter"].choices = [(e.kind, e.title) for e in known]  # type: ignore[attr-defined]


class PasswordForm(forms.Form):
    """Key material leaves only after the person's own password; the reason stands beside the rollout."""

    password = forms.CharField(
        label=_("Your password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        error_messages={"required": _("Type the password that you sign in with; nothing was exported.")},
    )


class DownloadForm(PasswordForm):
    """For a reason too, where no rollout gives one."""

    reason = forms.CharField(
        label=pgettext_lazy("of a download", "Why"),
        max_length=500,
        error_messages={"required": _("Say why, in a few words; it stands in the audit log.")},
    )
    field_order = ("reason", "password")


class EnvironmentSettingsForm(EnvironmentForm, SharedForm):
    row_fields = SETTINGS
    runtime = forms.ChoiceField(
        label=_("Runtime"),
        required=False,
        widget=forms.RadioSelect(attrs={"class": "choices"}),
        help_text=_("Decides which pins are possible, and which export is the usual one."),
    )
    accepted = forms.BooleanField(label=_("Change it all the same; I will change these pins"), required=False)
    base_folder = forms.CharField(
        label=_("Base folder"),
        max_length=400,
        required=False,
        help_text=_(
            "Where the app finds its files, for exports by hand: /srv/app/certificates or D:\\App\\Certificates."
        ),
    )

    connection_tests = forms.ChoiceField(
        label=_("Before each apply, connections are tested"),
        required=False,
        widget=forms.RadioSelect(attrs={"class": "choices"}),
        choices=[
            ("block", _("A partner that refuses a certificate stops the apply before the restart.")),
            ("warn", _("A refusal is shown, and the apply goes on.")),
            ("skip", _("Not tested: this server cannot reach the partners.")),
        ],
    )
    ticket_pattern = forms.CharField(
        label=_("Ticket of each apply"),
        max_length=40,
        required=False,
        help_text=_("Like CHG-#####: # stands for a digit, * for anything. Left empty, a ticket is optional."),
    )
    profile = forms.ChoiceField(
        label=_("Exported files are encrypted with"),
        required=False,
        widget=forms.RadioSelect(attrs={"class": "choices"}),
    )

    def __init__(self, environment: Environment, data: Mapping[str, Any] | None = None, *, placed: bool) -> None:
        super().__init__(environment, data)
        profiles = dialect_of(environment.runtime).profiles
        self.fields["profile"].choices = [  # type: ignore[attr-defined]
            ("" if profile.kind == "modern" else profile.kind, f"{profile.title}. {profile.reason}")
            for profile in profiles
        ]
        self.fields["runtime"].choices = [  # type: ignore[attr-defined]
            (dialect.kind, dialect.title) for dialect in DIALECTS.values()
        ]
        if placed:
            del self.fields["base_folder"], self.fields["runtime"]

    def clean_connection_tests(self) -> str:
        return self.cleaned_data["connection_tests"] or str(self.initial["connection_tests"])

    def clean_runtime(self) -> str:
        return self.cleaned_data["runtime"] or str(self.initial["runtime"])

    @property
    def values(self) -> dict[str, Any]:
        """As the action takes them."""
        return {name: value for name, value in self.cleaned_data.items() if name != "accepted"}


class HealthForm(forms.Form):
    """What has to answer after each restart."""

    url = forms.CharField(
        label=_("Address"),
        max_length=400,
        required=False,
        help_text=_("Like https://billing.example.com/health. Left empty, nothing is asked."),
    )
    status = forms.IntegerField(label=_("Status that it answers"), min_value=100, max_value=599, initial=200)
    text = forms.CharField(label=_("Text in the answer"), max_length=200, required=False)
    seconds = forms.IntegerField(
        label=_("Seconds that it may take"),
        min_value=5,
        max_value=600,
        initial=60,
        help_text=_("After that, what ran before returns by itself."),
    )


class PlaceForm(forms.Form):
    place = forms.ChoiceField(
        label=_("Place"),
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose one of the places."), "invalid_choice": _("Choose one of the places.")},
    )

    def __init__(self, places: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["place"].choices = places  # type: ignore[attr-defined]


class PlatformForm(forms.Form):
    """What a connector asks for; a secret that was entered before stays when its field is left empty."""

    def __init__(self, connector: str, destination: Destination | None, *args: Any, **kwargs: Any) -> None:
        self.there = connector_class(connector)
        super().__init__(*args, **kwargs)
        listed = connector in LISTED
        placed = destination is not None and destination.connector == connector
        entered = placed and destination is not None and destination.secrets_id is not None
        for setting in self.there.asks:
            if listed and not setting.is_secret:
                continue
            self.fields[setting.name] = self._field(setting, bool(entered))
            if placed and destination is not None and not setting.is_secret:
                self.initial.setdefault(setting.name, destination.options.get(setting.name, ""))
        kinds = [] if listed else list(self.there.exporters or exporters.EXPORTERS)
        if len(kinds) > 1:
            self.fields["exporter"] = forms.ChoiceField(
                label=_("What is delivered"), choices=[(kind, exporters.exporter(kind).title) for kind in kinds]
            )
            if placed and destination is not None:
                self.initial["exporter"] = destination.exporter
        if any(exporters.exporter(kind).needs_folder for kind in kinds):
            self.fields["base_folder"] = forms.CharField(
                label=_("Base folder"),
                max_length=400,
                required=False,
                help_text=_("Where the app finds its files, like /srv/app/certificates or D:\\App\\Certificates."),
            )
            if placed and destination is not None:
                self.initial["base_folder"] = destination.environment.base_folder
        self.kinds = kinds

    def _field(self, setting: Setting, entered: bool) -> forms.Field:
        label, about = _now(setting.label), _now(setting.help) if setting.help else ""
        if setting.is_secret and entered:
            about = (about + " " if about else "") + _now("Entered and sealed; leave it empty to keep it.")
        required = setting.required and not (setting.is_secret and entered)
        field = self._input(setting)
        field.label, field.help_text, field.required = label, about, required
        field.error_messages["required"] = _now("Fill in “%(label)s”.") % {"label": label}
        return field

    def _input(self, setting: Setting) -> forms.Field:
        off = {"autocomplete": "off", "spellcheck": "false"}
        match setting.kind:
            case "choice":
                choices = [(value, _now(text)) for value, text in setting.choices]
                radios = forms.RadioSelect(attrs={"class": "choices"})
                return forms.ChoiceField(choices=choices, initial=choices[0][0], widget=radios)
            case "secret":
                return forms.CharField(max_length=4096, strip=False, widget=forms.PasswordInput(attrs=off))
            case "long" | "secret-text":
                wide = forms.Textarea(attrs={"rows": 5, "class": "mono", **off})
                return forms.CharField(max_length=64_000, widget=wide)
            case _:
                return forms.CharField(max_length=400, widget=forms.TextInput(attrs=off))

    @property
    def options(self) -> dict[str, str]:
        return {s.name: self.cleaned_data[s.name] for s in self.there.asks if not s.is_secret and s.name in self.fields}

    @property
    def secrets(self) -> dict[str, str]:
        return {s.name: self.cleaned_data[s.name] for s in self.there.asks if s.is_secret}

    @property
    def exporter(self) -> str:
        return str(self.cleaned_data.get("exporter") or (self.kinds[0] if self.kinds else ""))


class ImportForm(forms.Form):
    """What runs today: its configuration as files or text, with the files that it names, and where it runs."""

    environment = forms.ChoiceField(
        label=_("Environment"),
        required=False,
        help_text=_("Where this runs. A list (CSV) names its environments itself."),
    )
    file = FilesField(
        label=_("Files"),
        required=False,
        help_text=_("The configuration and the .pfx files, or a zip of all; at most 1 MiB each and 4 MiB together."),
    )
    text = AsTyped(
        label=_("Configuration"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono masked", "autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, places: list[Environment], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = {f"{one.application.slug}/{one.slug}": one for one in places}
        self.fields["environment"].choices = [  # type: ignore[attr-defined]
            ("", _("as the list says")),
            *((path, str(one)) for path, one in self.places.items()),
        ]
        self.fields["file"].widget.attrs["accept"] = ""

    def clean_environment(self) -> Environment | None:
        return self.places.get(self.cleaned_data["environment"])

    def clean_file(self) -> list[Upload]:
        files: list[UploadedFile] = self.cleaned_data["file"]
        for file in files:
            if (file.size or 0) > MAX_FILE:
                raise forms.ValidationError(str(too_large(file.size or 0)))
        if sum(file.size or 0 for file in files) > KEPT_IN_ALL:
            raise forms.ValidationError(_now("These files have more than 4 MiB together; send a zip, or fewer."))
        return [Upload(file.name or "", file.read()) for file in files]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "file" in values and not values["file"] and not values.get("text", "").strip():
            self.add_error("file", _now("Choose the configuration and its files, or paste the configuration."))
        return values
