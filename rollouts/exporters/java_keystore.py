"""`java-keystore`: one PKCS #12 keystore with an alias for each certificate, and which target wants which alias.

Follows the JSSE Reference Guide (javax.net.ssl.keyStore and its companions) and java.util.Properties.load. Run with
OpenJDK 17. The profile of the environment decides which Java versions can read the keystore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from certificates import pkcs12
from certificates.content import Bundle, Content, File, PinnedTarget, WrittenPfx
from rollouts.exporters import MASKED_PASSWORD, ExportError, count
from rollouts.exporters.folders import Folder, base_folder, safe_name

KEYSTORE, TRUSTSTORE = "keystore.p12", "truststore.p12"
README = """\
Client certificates as a Java keystore

Put this folder's contents in {folder}, readable by the app's account only.

keystore.properties   the system properties that name the keystore and its password; for a JVM without pins:
                      JAVA_TOOL_OPTIONS="-Djavax.net.ssl.keyStore=…" and so on. Java then chooses among all
                      certificates by what a server accepts.
targets.properties    which service, host or identifier is sent which alias; an empty value means never.
                      Java itself does not read it: an app that pins has to.{trust}

Restart the app; a keystore is read at its start.
"""
TRUST = """
truststore.p12        the authorities to trust. It replaces Java's own list where it is named."""


class JavaKeystore:
    """A PKCS #12 keystore with properties."""

    kind = "java-keystore"
    title = "Java keystore"
    description = "One PKCS #12 keystore with an alias for each certificate, and properties that name them."
    dialect = "java"
    needs_folder = True
    one_password = True

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        return as_properties({pin.key: safe_name(pin.slug) if pin.slug else ""}).strip()

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `keystore.p12` (where there are certificates), `truststore.p12` (where there are authorities),
        `keystore.properties`, `targets.properties` and `README.txt`.

        Raises ExportError for a base folder that is none, and where the PFX files have several passwords.
        """
        folder = base_folder(content.base_folder)
        passwords = {one.password for one in pfx.values()}
        if len(passwords) > 1:
            raise ExportError("The files of a keystore need one password; export again.")
        password = passwords.pop() if passwords else ""
        profile = content.profile or "modern"
        files, preview = [], {}
        if content.slots:
            files.append(File(KEYSTORE, keystore([pfx[slot.slug] for slot in content.slots], password, profile)))
            preview[KEYSTORE] = f"PKCS #12, {count(len(content.slots), 'key')}"
        if content.authorities:
            trusted = [x509.load_der_x509_certificate(authorities[one]) for one in content.authorities]
            named = [
                library.PKCS12Certificate(one, f"ca-{sha256[:16]}".encode())
                for one, sha256 in zip(trusted, content.authorities, strict=True)
            ]
            # Certificates are no secret; Java wants a password all the same, and its own default says so.
            truststore = library.serialize_java_truststore(named, pkcs12.encryption(profile, "changeit"))
            files.append(File(TRUSTSTORE, truststore, secret=False))
            preview[TRUSTSTORE] = f"PKCS #12, {count(len(content.authorities), 'certificate')}"
        targets = as_properties(
            {pin.key: safe_name(pin.slug) if pin.slug else "" for pin in sorted(content.pins, key=lambda pin: pin.key)}
        )
        readme = README.format(folder=folder.path, trust=TRUST if content.authorities else "")
        files += [
            File("keystore.properties", as_properties(system_properties(content, folder, password)).encode()),
            File("targets.properties", targets.encode(), secret=False),
            File("README.txt", readme.encode(), secret=False),
        ]
        shown = as_properties(system_properties(content, folder, "MASKED"))
        shown = shown.replace("keyStorePassword=MASKED", f"keyStorePassword={MASKED_PASSWORD}")
        preview |= {
            "keystore.properties": shown,
            "targets.properties": targets,
            "README.txt": readme,
        }
        return Bundle(tuple(files), preview)


def keystore(written: Sequence[WrittenPfx], password: str, profile: str) -> bytes:
    """All keys in one file. A preview, which has opened none, gets a byte in its place."""
    if any(one.identity is None for one in written):
        return b"\0"
    return pkcs12.joined([one.pfx for one in written], password, profile)


def system_properties(content: Content, folder: Folder, password: str) -> dict[str, str]:
    """JSSE's own names."""
    found: dict[str, str] = {}
    if content.slots:
        found |= {
            "javax.net.ssl.keyStore": folder.join(KEYSTORE),
            "javax.net.ssl.keyStorePassword": password,
            "javax.net.ssl.keyStoreType": "PKCS12",
        }
    if content.authorities:
        found |= {
            "javax.net.ssl.trustStore": folder.join(TRUSTSTORE),
            "javax.net.ssl.trustStorePassword": "changeit",
            "javax.net.ssl.trustStoreType": "PKCS12",
        }
    return found


def as_properties(values: Mapping[str, str]) -> str:
    """java.util.Properties: ASCII, `key=value`, with what means something escaped."""
    return "".join(f"{escaped(key, key=True)}={escaped(value)}\n" for key, value in values.items())


def escaped(text: str, *, key: bool = False) -> str:
    """Backslashes doubled; what separates or begins a comment has one before it; the rest as UTF-16 in \\uXXXX."""
    found = []
    for number, letter in enumerate(text):
        if letter == "\\" or (letter in "=:#!" and (key or number == 0)) or (letter == " " and (key or number == 0)):
            found.append("\\" + letter)
        elif " " <= letter <= "~":
            found.append(letter)
        else:
            units = letter.encode("utf-16-be", "surrogatepass")
            found += [f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2)]
    return "".join(found)
