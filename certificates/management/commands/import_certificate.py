"""Add a client certificate from a file, or its renewal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.views.decorators.debug import sensitive_variables

from audit.actors import Actor
from certificates import actions, one_shot, shared_keys
from certificates.command_line import MISUSE, EnvironmentCommand, read_at_most, read_secret
from certificates.comparison import disagreements
from certificates.identities import only
from certificates.intake import Upload
from certificates.known_issuers import complete
from certificates.models import ClientCertificate
from certificates.outline import MAX_FILE
from certificates.question import Question
from environments.models import Environment
from environments.refusals import Refused


class Command(EnvironmentCommand):
    """Exit 0: added. Exit 1: refused, nothing was stored. Exit 2: misuse."""

    help = "Add a client certificate from its files (.pfx, or PEM, …), or its renewal. It runs with the next apply."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="a .pfx, or key, certificate and chain")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--name", help="its name, for a new certificate")
        which.add_argument("--renew", metavar="NAME", help="the certificate of which this is the renewal; pins stay")
        parser.add_argument(
            "--password-file",
            metavar="F",
            help="a file with the password in its first line; - reads the standard input",
        )
        parser.add_argument("--key-password-file", metavar="F", help="the same for the key, if it has one of its own")
        parser.add_argument("--choose", metavar="NAME", help="of several keys, the one of this name or fingerprint")
        parser.add_argument("--keep-ready", action="store_true", help="with --renew: go on with the version in use")
        parser.add_argument(
            "--tracked-only", action="store_true", help="a certificate without its key: watch its expiry"
        )
        parser.add_argument("--confirm-warnings", action="store_true", help="use it although there are warnings")

    @sensitive_variables()
    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        tracked = options["tracked_only"]
        if not options["password_file"] and not tracked:
            self.end("Name the file with the password in its first line: --password-file F.", MISUSE, options)
        renewed = find_certificate(environment, options["renew"]) if options["renew"] else None
        try:
            files = tuple(Upload(path.name, read_at_most(path, MAX_FILE + 1)) for path in options["files"])
            sources = [options[name] for name in ("password_file", "key_password_file") if options[name]]
            passwords = tuple(read_secret(source) for source in sources)
        except UnicodeError:
            self.end("The password file is not UTF-8 text; write the password into it anew.", MISUSE, options)
        except OSError as error:
            self.end(f"{error.filename} cannot be read: {error.strerror}.", MISUSE, options)
        reading = one_shot.read(Question(files, passwords or ("",), track=tracked))
        identity = only((one for one, _remarks in reading.identities), choose=options["choose"])
        if tracked and identity.key:
            raise Refused("This file holds a private key; leave out --tracked-only to add it with its key.")
        links = len(identity.chain)
        identity = complete(identity, Environment.objects.all())
        completed = len(identity.chain) - links
        becomes = actions.unsaved_version(identity)
        warnings = [w["sentence"] for w in actions.warnings_of(becomes)]
        if identity.key:
            warnings += shared_keys.also_in_tests(environment, [becomes], by).values()
        if renewed is not None and identity.key:
            warnings += [one.sentence for one in disagreements(renewed.identified_by, renewed.in_use, becomes)]
        if warnings and not options["confirm_warnings"]:
            raise Refused(" ".join([*warnings, "Nothing was stored; add --confirm-warnings to use it all the same."]))
        if renewed is not None:
            version = actions.renew(
                certificate=renewed,
                identity=identity,
                in_use=not options["keep_ready"],
                completed=completed,
                file_name=files[0].name,
                by=by,
            )
        else:
            added = actions.add(
                environment=environment,
                name=options["name"],
                identity=identity,
                completed=completed,
                file_name=files[0].name,
                by=by,
            )
            assert added.in_use is not None
            version = added.in_use
        return {
            "environment": options["environment"],
            "certificate": version.certificate.name,
            "version": version.number,
            "in_use": version.certificate.in_use_id == version.pk,
            "tracked_only": version.is_tracked_only,
            "sha256": version.sha256,
            "not_after": version.not_after.isoformat(),
            "added_to_its_chain": [link["subject"] for link in version.chain if link["completed"]],
            "warnings": warnings,
        }

    def sentence(self, done: dict[str, Any]) -> str:
        goes = "goes with the next apply" if done["in_use"] else "is kept ready"
        if done["tracked_only"]:
            goes = "is tracked only"
        said = f"{done['certificate']}, version {done['version']}, {goes}; it expires on {done['not_after'][:10]}."
        if added := " and ".join(done["added_to_its_chain"]):
            said += f" Its file did not contain {added}, which is added from what is already here."
        return said


def find_certificate(environment: Environment, name: str) -> ClientCertificate:
    """The certificate of this name, in any case. Raises Refused."""
    found = environment.certificates.filter(name__iexact=name.strip(), removed_at=None).first()
    if found is None:
        raise Refused(f"There is no certificate “{name}” here; look at its name on the Network page.")
    return found
