"""Setting up applications, environments, people and who may do what. One verb, one transaction, one event."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from environments.access import ROLES
from environments.attempts import TooManyAttempts, paused
from environments.meanwhile import insist_on
from environments.models import Application, Environment, Membership, Person
from environments.names import checked_name, checked_slug
from environments.refusals import Refused
from environments.tickets import checked_pattern

# What one form of an environment edits.
SETTINGS = (
    "name",
    "production",
    "runtime",
    "runtime_version",
    "profile",
    "base_folder",
    "connection_tests",
    "ticket_pattern",
)
# What an apply does with tests of connections.
CONNECTION_TESTS = ("block", "warn", "skip")


def take_turns(environment: Environment) -> None:
    """First in each transaction that changes, or freezes, what an environment is to have: others wait for its end, so
    that two changes at once come out as one after the other. Pages are not kept waiting. (SQLite lets one write at a
    time anyway.)"""
    Environment.objects.select_for_update(no_key=True).values_list("pk").get(pk=environment.pk)


def take_turns_in(environments: Iterable[Environment]) -> None:
    """The same for several at once, in one order for everybody, so that nobody waits in a circle."""
    keys = {environment.pk for environment in environments}
    list(Environment.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk").values_list("pk"))


@contextmanager
def refusing_twins(field: str) -> Iterator[None]:
    """Around the one save that a name may be taken at: of two people at once, the database lets one."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        raise Refused(
            _("Somebody has just taken this name, or one that is written alike; choose another."), field=field
        ) from None


@transaction.atomic
def create_application(*, name: str, slug: str = "", by: Any) -> Application:
    """Creates an application whose creator is its first owner."""
    name = checked_name(name)
    if Application.objects.filter(name__iexact=name, archived_at=None).exists():
        raise Refused(_("There is already an application with this name; choose another."), field="name")
    slug = checked_slug(slug, name=name, taken=set(Application.objects.values_list("slug", flat=True)))
    with refusing_twins("name"):
        application = Application.objects.create(name=name, slug=slug, created_by=str(by))
    if isinstance(by, Person):
        Membership.objects.create(person=by, application=application, role="owner", created_by=str(by))
    trail.record("application.created", by=by, subject=application, slug=slug)
    return application


@transaction.atomic
def rename_application(*, application: Application, name: str, shown: str = "", by: Any) -> None:
    name = checked_name(name)
    Application.objects.select_for_update(no_key=True).values_list("pk").get(pk=application.pk)
    insist_on(application, ["name"], shown)
    if Application.objects.filter(name__iexact=name, archived_at=None).exclude(pk=application.pk).exists():
        raise Refused(_("There is already an application with this name; choose another."), field="name")
    before, application.name = application.name, name
    with refusing_twins("name"):
        application.save(update_fields=["name"])
    trail.record("application.renamed", by=by, subject=application, before=before, after=name)


@transaction.atomic
def create_environment(
    *, application: Application, name: str, slug: str = "", production: bool = False, runtime_version: str = "", by: Any
) -> Environment:
    name = checked_name(name)
    # The next position is free for one at a time.
    Application.objects.select_for_update(no_key=True).values_list("pk").get(pk=application.pk)
    _environment_name_is_free(application, name)
    siblings = Environment.objects.filter(application=application)
    environment = Environment.objects.create(
        application=application,
        name=name,
        slug=checked_slug(slug, name=name, taken=set(siblings.values_list("slug", flat=True))),
        position=siblings.count(),
        production=production,
        runtime_version=checked_name(runtime_version, field="runtime_version") if runtime_version.strip() else "",
        created_by=str(by),
    )
    trail.record("environment.created", by=by, subject=environment, slug=environment.slug, production=production)
    return environment


@transaction.atomic
def change_environment(
    *,
    environment: Environment,
    name: str,
    production: bool,
    runtime_version: str,
    runtime: str | None = None,
    profile: str | None = None,
    base_folder: str | None = None,
    connection_tests: str | None = None,
    ticket_pattern: str | None = None,
    shown: str = "",
    by: Any,
) -> None:
    """Changes name, production mark, runtime version and, where given, the kind of runtime, how files are encrypted for
    it, the folder that exported paths start with, what a refused connection test does to an apply, and how tickets are
    written."""
    take_turns(environment)
    insist_on(environment, SETTINGS, shown)
    name = checked_name(name)
    if name.lower() != environment.name.lower():
        _environment_name_is_free(environment.application, name)
    values: dict[str, Any] = {"name": name, "production": production, "runtime_version": runtime_version.strip()}
    if runtime is not None:
        values["runtime"] = runtime
    if profile is not None:
        values["profile"] = profile
    if base_folder is not None:
        values["base_folder"] = base_folder.strip()
    if connection_tests is not None:
        if connection_tests not in CONNECTION_TESTS:
            raise Refused(_("Choose what a refused connection test does."), field="connection_tests")
        values["connection_tests"] = connection_tests
    if ticket_pattern is not None:
        values["ticket_pattern"] = checked_pattern(ticket_pattern)
    changed = {
        field: [getattr(environment, field), new] for field, new in values.items() if getattr(environment, field) != new
    }
    if not changed:
        return
    for field, new in values.items():
        setattr(environment, field, new)
    with refusing_twins("name"):
        environment.save(update_fields=list(changed))
    trail.record("environment.changed", by=by, subject=environment, changed=changed)


@transaction.atomic
def archive_environment(*, environment: Environment, by: Any) -> None:
    """Takes an environment off the lists. Nothing is deleted; what runs there goes on running."""
    environment.archived_at, environment.archived_by = timezone.now(), str(by)
    environment.save(update_fields=["archived_at", "archived_by"])
    trail.record("environment.archived", by=by, subject=environment)


@transaction.atomic
def bring_back_environment(*, environment: Environment, by: Any) -> None:
    _environment_name_is_free(environment.application, environment.name)
    environment.archived_at, environment.archived_by = None, ""
    with refusing_twins("name"):
        environment.save(update_fields=["archived_at", "archived_by"])
    trail.record("environment.brought-back", by=by, subject=environment)


def _environment_name_is_free(application: Application, name: str) -> None:
    if Environment.objects.filter(application=application, name__iexact=name, archived_at=None).exists():
        raise Refused(
            _("%(application)s already has an environment with this name; choose another.")
            % {"application": application},
            field="name",
        )


@transaction.atomic
def add_member(
    *, application: Application, person: Person, role: str, environment: Environment | None = None, by: Any
) -> Membership:
    """Gives a person one more role, in the whole application or in one environment of it."""
    if role not in ROLES:
        raise Refused(_("Choose one of the roles."), field="role")
    if environment is not None and environment.application_id != application.pk:
        raise Refused(_("Choose an environment of this application."), field="environment")
    membership, created = Membership.objects.get_or_create(
        person=person, application=application, environment=environment, role=role, defaults={"created_by": str(by)}
    )
    if not created:
        raise Refused(
            _("%(person)s already has the role %(role)s there.") % {"person": person, "role": ROLES[role].title},
            field="person",
        )
    trail.record(
        "member.added",
        by=by,
        subject=environment or application,
        person=person.username,
        person_id=str(person.pk),
        role=role,
    )
    return membership


@transaction.atomic
def remove_member(*, membership: Membership, by: Any) -> None:
    """Takes one role away. The last owner of an application stays, so that somebody can still manage it."""
    # Of two owners who remove one another at once, the second counts after the first.
    Application.objects.select_for_update().get(pk=membership.application_id)
    if membership.role == "owner" and membership.environment_id is None:
        others = Membership.objects.filter(application=membership.application, environment=None, role="owner")
        if not others.exclude(pk=membership.pk).filter(person__is_active=True).exists():
            raise Refused(_("This is the last owner; give somebody else this role first."))
    place = membership.environment or membership.application
    person, role = membership.person, membership.role
    membership.delete()
    trail.record("member.removed", by=by, subject=place, person=person.username, person_id=str(person.pk), role=role)


def one_time_password() -> str:
    """Twelve characters in three groups, without letters that look alike: about 59 bits."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _n in range(4)) for _group in range(3))


@transaction.atomic
def create_person(
    *, username: str, full_name: str = "", email: str = "", owner: bool = False, by: Any
) -> tuple[Person, str]:
    """Creates a person; returns them with the one-time password, which is shown once and kept nowhere."""
    username = checked_name(username, field="username")
    if Person.objects.filter(username__iexact=username).exists():
        raise Refused(_("Somebody already signs in with this name; choose another."), field="username")
    person = Person(
        username=username,
        first_name=full_name.strip()[:150],
        email=email.strip(),
        is_superuser=owner,
        is_staff=owner,
        must_change_password=True,
    )
    try:
        person.full_clean(exclude=["password"])
    except ValidationError as error:
        field, sentences = next(iter(error.message_dict.items()))
        raise Refused(sentences[0], field={"first_name": "full_name"}.get(field, field)) from None
    password = one_time_password()
    person.set_password(password)
    with refusing_twins("username"):
        person.save()
    trail.record("person.created", by=by, subject=person, username=username, installation_owner=owner)
    return person, password


@transaction.atomic
def describe_person(*, person: Person, first_name: str, email: str, shown: str = "", by: Any) -> None:
    """Full name and address, by themselves or by an installation owner."""
    insist_on(person, ("first_name", "email"), shown)
    first_name, email = " ".join(first_name.split())[:150], email.strip()
    if (person.first_name, person.email) == (first_name, email):
        return
    person.first_name, person.email = first_name, email
    person.save(update_fields=["first_name", "email"])
    trail.record("person.described", by=by, subject=person)


@transaction.atomic
def reset_password(*, person: Person, by: Any) -> str:
    """A new one-time password; every session of this person ends, because sessions are bound to the password."""
    password = one_time_password()
    person.set_password(password)
    person.must_change_password = True
    person.save(update_fields=["password", "must_change_password"])
    trail.record("person.password-reset", by=by, subject=person)
    return password


def change_password(*, person: Person, current: str, new: str, by: Any) -> None:
    """A new password in the place of the current one. Raises TooManyAttempts after ten wrong ones in five minutes."""
    if paused("person.password-refused", by):
        raise TooManyAttempts(field="current")
    if not person.check_password(current):
        trail.refused("person.password-refused", by=by, subject=person)
        raise Refused(_("This is not your current password."), field="current")
    try:
        validate_password(new, person)
    except ValidationError as error:
        raise Refused(error.messages[0], field="new") from None
    if person.check_password(new):
        raise Refused(_("The new password is the current one; choose another."), field="new")
    with transaction.atomic():
        person.set_password(new)
        person.must_change_password = False
        person.save(update_fields=["password", "must_change_password"])
        trail.record("person.password-changed", by=by, subject=person)


@transaction.atomic
def set_active(*, person: Person, active: bool, by: Any) -> None:
    """Lets a person sign in, or not any more: the next request of an inactive person is that of a stranger."""
    if person == by and not active:
        raise Refused(_("You cannot lock yourself out; ask another installation owner."))
    if not active:
        # Of two owners who lock one another out at once, the second finds that nobody else is left.
        owners = Person.objects.select_for_update().filter(is_superuser=True, is_active=True).order_by("pk")
        if [owner.pk for owner in owners] == [person.pk]:
            raise Refused(_("This is the last installation owner who can sign in; let another one in first."))
    person.is_active = active
    person.save(update_fields=["is_active"])
    trail.record("person.let-in" if active else "person.locked-out", by=by, subject=person)
