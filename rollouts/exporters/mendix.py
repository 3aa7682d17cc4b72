"""What the Mendix runtime's settings say, whichever file carries them.

Follows mendix/docs, refguide/runtime/custom-settings/_index.md and
deployment/mendix-cloud-deploy/certificates/use-a-client-certificate.md, and for older runtimes mendix/m2ee-tools,
examples/full-documented-m2ee.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from certificates.content import Bundle, Content, File, WrittenPfx
from certificates.dialects import numbers
from certificates.pem import armoured as pem
from certificates.targets import IDENTIFIER, SERVICE
from rollouts.exporters import count
from rollouts.exporters.folders import Folder, authority_name, pfx_name, pfx_paths

# From here on ClientCertificateUsages, before it WebServiceClientCertificates (cf-mendix-buildpack, security.py).
USAGES_SINCE = (7, 20)
USAGES, OLD_USAGES = "ClientCertificateUsages", "WebServiceClientCertificates"


@dataclass(frozen=True)
class Settings:
    """Lists in the order of the slots, as absolute paths; `usages` has "" for *never*, under the name `usages_name`."""

    authorities: tuple[str, ...]
    certificates: tuple[str, ...]
    usages: Mapping[str, str]
    never: tuple[str, ...]
    usages_name: str

    def named(self, passwords: list[str]) -> dict[str, object]:
        """By the runtime's names, in the order of its documents: lists as lists, usages as a map, and
        NoClientCertificateUsages as one text, which m2ee does not join."""
        return {
            "CACertificates": list(self.authorities),
            "ClientCertificates": list(self.certificates),
            "ClientCertificatePasswords": passwords,
            self.usages_name: dict(self.usages),
            # Unknown to the runtimes that have the older name; they cannot be told never (certificates.dialects).
            **({"NoClientCertificateUsages": ",".join(self.never)} if self.usages_name == USAGES else {}),
        }


def settings(content: Content, folder: Folder) -> Settings:
    """The settings of this content, for files in this folder.

    *Never send* is said twice, because the documents leave open which runtime obeys which: an empty path in
    ClientCertificateUsages ("use no client certificate even when the server accepts one") needs no newer setting, and
    NoClientCertificateUsages, in the documents of 9, is the one made for it. They cannot contradict one another.
    The latter is documented for hosts and services, so an identifier has the empty path alone.
    """
    pins = sorted(content.pins, key=lambda pin: pin.key)
    paths = pfx_paths(content, folder)
    return Settings(
        authorities=tuple(folder.join(authority_name(one)) for one in content.authorities),
        certificates=tuple(paths.values()),
        usages={pin.key: "" if pin.slug is None else paths[pin.slug] for pin in pins},
        never=never(content),
        usages_name=usages_name(content),
    )


def never(content: Content) -> tuple[str, ...]:
    """The hosts and services that are never sent a certificate, sorted."""
    return tuple(sorted(pin.key for pin in content.pins if pin.slug is None and pin.kind != IDENTIFIER))


def usages_name(content: Content) -> str:
    """Which setting holds the pins. An old runtime knows web services only, and an unknown version counts as new."""
    version = numbers(content.runtime_version)
    old = version and version < USAGES_SINCE and all(pin.kind == SERVICE for pin in content.pins)
    return OLD_USAGES if old else USAGES


def bundle(
    content: Content,
    pfx: Mapping[str, WrittenPfx],
    authorities: Mapping[str, bytes],
    *,
    written: Mapping[str, str],
    shown: Mapping[str, str],
    readme: str,
) -> Bundle:
    """The PFX files and the authorities' certificates, beside the settings: `written` by path, `shown` the same with
    their passwords masked."""
    public = {authority_name(one): pem(authorities[one]) for one in content.authorities} | {"README.txt": readme}
    files = [File(pfx_name(slot.slug), pfx[slot.slug].pfx) for slot in content.slots]
    files += [File(path, text.encode()) for path, text in written.items()]
    files += [File(path, text.encode(), secret=False) for path, text in public.items()]
    sizes = {pfx_name(slot.slug): f"PKCS #12, {count(len(pfx[slot.slug].pfx), 'byte')}" for slot in content.slots}
    return Bundle(tuple(files), {**sizes, **shown, **public})
