"""How the reader of each export understands its bytes, as its published documents say. Knows nothing of how they were
written, and nothing of how the portal answers which certificate is sent."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certificates import opening, outline
from certificates.content import Bundle
from tests.contracts import in_java


@dataclass(frozen=True)
class Runtime:
    """What a runtime knows after it has read a bundle: its certificates in order, a path or "" for each key, and the
    authorities that it trusts. `any_other` says whether it offers everything to whom no key names."""

    certificates: tuple[tuple[str, bytes, str], ...]
    usages: dict[str, str]
    never: frozenset[str]
    authorities: tuple[bytes, ...] = ()
    any_other: bool = True

    def presents(self, key: str) -> bytes | str:
        """The certificate for a key, or `never`, `any`, `none`: mendix/docs, use-a-client-certificate.md."""
        if key in self.never or self.usages.get(key) == "":
            return "never"
        by_path = {path: file for path, file, _ in self.certificates}
        if key in self.usages:
            return by_path[self.usages[key]]
        return "any" if by_path and self.any_other else "none"


def files_of(bundle: Bundle) -> dict[str, bytes]:
    return {file.path: file.content for file in bundle.files}


def below(folder: str, path: str) -> str:
    """The path within the bundle of what a setting names."""
    windows = "\\" in folder or folder[1:2] == ":"
    paths = PureWindowsPath if windows else PurePosixPath
    return paths(path).relative_to(paths(folder)).as_posix()


@cache
def pem_to_der(text: bytes) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(text)) if text else ()


def from_settings(settings: dict[str, Any], read: Callable[[str], bytes]) -> Runtime:
    """mendix/docs, refguide/runtime/custom-settings: comma lists in the same order; usages in braces. Before 7.20 the
    usages have another name (cf-mendix-buildpack, security.py)."""
    paths = settings["ClientCertificates"].split(",") if settings["ClientCertificates"] else []
    passwords = settings["ClientCertificatePasswords"].split(",") if settings["ClientCertificatePasswords"] else []
    (usages,) = (settings[n] for n in ("ClientCertificateUsages", "WebServiceClientCertificates") if n in settings)
    usages = json.loads(usages) if isinstance(usages, str) else usages
    assert {path for path in usages.values() if path} <= set(paths), "every path must be in ClientCertificates"
    never = settings.get("NoClientCertificateUsages", "")
    authorities = settings.get("CACertificates", "")
    certificates = tuple((path, read(path), password) for path, password in zip(paths, passwords, strict=True))
    trusted = [pem_to_der(read(path)) for path in (authorities.split(",") if authorities else ())]
    assert all(len(one) == 1 for one in trusted), "of a file with several, the runtime ignores all but one"
    return Runtime(certificates, usages, frozenset(never.split(",") if never else ()), tuple(one for (one,) in trusted))


def mendix_settings(bundle: Bundle, folder: str) -> Runtime:
    """As pasted from custom-settings.json in Studio Pro's Custom tab, with the files in the base folder."""
    files = files_of(bundle)
    settings = json.loads(files["custom-settings.json"])
    assert all(isinstance(value, str) for value in settings.values())
    return from_settings(settings, lambda path: files[below(folder, path)])


def m2ee_yaml(bundle: Bundle, folder: str) -> Runtime:
    """mendix/m2ee-tools, src/m2ee/core.py: three settings may be lists, joined by commas; others are passed on."""
    files = files_of(bundle)
    settings = dict(yaml.safe_load(files["client-certificates.yaml"])["mxruntime"])
    for name in ("CACertificates", "ClientCertificates", "ClientCertificatePasswords"):
        assert isinstance(settings[name], list)
        settings[name] = ",".join(settings[name])
    assert all(isinstance(value, str) for value in settings.values() if not isinstance(value, dict))
    return from_settings(settings, lambda path: files[below(folder, path)])


def pad_hocon(bundle: Bundle, folder: str) -> Runtime:
    """lightbend/config itself, after a file of the distribution that named other usages."""
    files = files_of(bundle)
    earlier = 'runtime.params { ClientCertificateUsages = { "old.example" : "/old.p12" }, Other = "stays" }\n'
    settings = in_java.hocon(earlier + files["certs.conf"].decode())["runtime"]["params"]
    assert settings.pop("Other") == "stays"
    if "WebServiceClientCertificates" in settings:
        settings.pop("ClientCertificateUsages")
    return from_settings(settings, lambda path: files[below(folder, path)])


def buildpack_env(bundle: Bundle, folder: str) -> Runtime:
    """mendix/cf-mendix-buildpack v5.0.31: README "Client Certificates", buildpack/core/security.py and runtime.py.

    Each PFX becomes .local/client_certificate.<n>.crt; of two equal pins the last one wins; MXRUNTIME_ replaces a key;
    authorities are base64 of PEM, which is split at each BEGIN.
    """
    files = {path: content.decode("ascii") for path, content in files_of(bundle).items()}
    variables = {}
    for line in files["environment.env"].splitlines():
        name, _, value = line.partition("=")
        assert value[0] == value[-1] == "'"
        assert "'" not in value[1:-1]
        variables[name] = value[1:-1]
    assert json.loads(files["CLIENT_CERTIFICATES.json"]) == json.loads(variables["CLIENT_CERTIFICATES"])
    assert json.loads(files["variables.json"]) == variables
    written: dict[str, bytes] = {}
    passwords, usages = [], {}
    for number, entry in enumerate(json.loads(variables["CLIENT_CERTIFICATES"])):
        path = f"/home/vcap/app/.local/client_certificate.{number}.crt"
        written[path] = base64.b64decode(entry["pfx"], validate=True)
        passwords.append(entry["password"])
        assert isinstance(entry["pin_to"], list)
        usages.update(dict.fromkeys(entry["pin_to"], path))
    paths = list(written)
    authorities = base64.b64decode(variables.get("CERTIFICATE_AUTHORITIES", ""), validate=True)
    for number, one in enumerate(re.split(rb"(?=-----BEGIN CERTIFICATE-----)", authorities)[1:]):
        written[f"/home/vcap/app/.local/certificate_authorities.{number}.crt"] = one
    settings = {
        "CACertificates": ",".join(path for path in written if path not in paths),
        "ClientCertificates": ",".join(paths),
        "ClientCertificatePasswords": ",".join(passwords),
        "ClientCertificateUsages": usages,
        "NoClientCertificateUsages": variables.get("MXRUNTIME_NoClientCertificateUsages", ""),
    }
    return from_settings(settings, written.__getitem__)


def mendix_operator(bundle: Bundle, folder: str) -> Runtime:
    """mendix/docs, private-cloud-operator.md: base64 of file and password, never an empty one; pinTo is optional."""
    runtime = yaml.load(files_of(bundle)["mendixapp-patch.yaml"], Loader=yaml.CSafeLoader)["spec"]["runtime"]
    assert set(runtime) <= {"clientCertificates", "customConfiguration"}
    certificates, usages = [], {}
    for number, entry in enumerate(runtime["clientCertificates"]):
        password = base64.b64decode(entry["password"], validate=True).decode()
        assert password, "the operator refuses an empty password"
        certificates.append((str(number), base64.b64decode(entry["key"], validate=True), password))
        usages.update(dict.fromkeys(entry["pinTo"], str(number)))
    custom = json.loads(runtime.get("customConfiguration", "{}"))
    never = custom.pop("NoClientCertificateUsages", "")
    assert not custom
    return Runtime(tuple(certificates), usages, frozenset(never.split(",") if never else ()))


def kubernetes_secret(bundle: Bundle, folder: str) -> Runtime:
    """The Secret, mounted as a folder; and the TLS Secrets hold the same keys and certificates."""
    files = files_of(bundle)
    (secret,) = yaml.load_all(files["client-certificates.yaml"], Loader=yaml.CSafeLoader)
    assert (secret["kind"], secret["type"], secret["metadata"]["name"]) == ("Secret", "Opaque", "client-certificates")
    data = {key: base64.b64decode(value, validate=True) for key, value in secret["data"].items()}
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) for key in data)
    names = [key.removesuffix(".pfx") for key in data if key.endswith(".pfx")]
    each = list(yaml.load_all(files.get("client-certificates-tls.yaml", b""), Loader=yaml.CSafeLoader))
    assert len({one["metadata"]["name"] for one in each}) == len(each) == len(names)
    for one, name in zip(each, names, strict=True):
        assert one["type"] == "kubernetes.io/tls"
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        assert len(one["metadata"]["name"]) <= 253
        parts = {key: base64.b64decode(value, validate=True) for key, value in one["data"].items()}
        opened = opening.open_pfx(outline.outline(data[f"{name}.pfx"]), data[f"{name}.password"].decode())
        assert pem_to_der(parts["tls.crt"])[0] in [bag.certificate for bag in opened.certificates]
        assert_same_key(parts["tls.key"], parts["tls.crt"])
    targets = json.loads(data["targets.json"])
    return Runtime(
        tuple((name, data[f"{name}.pfx"], data[f"{name}.password"].decode()) for name in names),
        {key: target["certificate"] or "" for key, target in targets.items()},
        frozenset(),
        pem_to_der(data.get("ca.crt", b"")),
    )


def pem_bundle(bundle: Bundle, folder: str) -> Runtime:
    """nginx's map, whose regular expressions are PCRE's; targets.json, and the lines for curl, say the same."""
    files = files_of(bundle)
    text = files["nginx-client-certificates.conf"].decode()
    maps = dict(re.findall(r"^map \$proxy_host \$(\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    entries = {name: re.findall(r'^    "~(\S+)" "([^"]*)";$', body, re.MULTILINE) for name, body in maps.items()}
    assert all('    default "";' in body for body in maps.values())
    targets = json.loads(files["targets.json"])
    usages = {}
    for key, target in targets.items():
        for variable, part in (("client_certificate", "certificate"), ("client_certificate_key", "key")):
            found = {path for pattern, path in entries[variable] if re.search(pattern, key)}
            assert found == {target[part] if target else ""}
            assert found == {path for pattern, path in entries[variable] if re.search(pattern, f"{key}:8443")}
        usages[key] = target["certificate"] if target else ""
        for other in (f"www.{key}", f"{key}.example", key.replace(".", "-"), f"{key}:8443.example"):
            assert other in targets or not [
                one for one, _path in entries["client_certificate"] if re.search(one, other)
            ]
        (line,) = (one for one in files["curl.txt"].decode().splitlines() if one.endswith(f" https://{key}/"))
        words = shlex.split(line)
        sent = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
        assert (sent.get("--cert"), sent.get("--key")) == (
            (target["certificate"], target["key"]) if target else (None, None)
        )
    certificates = []
    for path, content in files.items():
        if path.endswith("/fullchain.pem"):
            beside = path.removesuffix("fullchain.pem")
            assert content == files[beside + "certificate.pem"] + files[beside + "chain.pem"]
            assert_same_key(files[beside + "key.pem"], content)
            certificates.append((f"{folder.rstrip('/')}/{path}", content, ""))
    authorities = pem_to_der(files.get("authorities.pem", b""))
    return Runtime(tuple(certificates), usages, frozenset(), authorities, any_other=False)


def java_keystore(bundle: Bundle, folder: str) -> Runtime:
    """The properties and both stores as Java reads them."""
    files = files_of(bundle)
    named = in_java.properties(files["keystore.properties"].decode("ascii"))
    usages = in_java.properties(files["targets.properties"].decode("ascii"))
    certificates: tuple[tuple[str, bytes, str], ...] = ()
    if "keystore.p12" in files:
        assert files[below(folder, named["javax.net.ssl.keyStore"])] == files["keystore.p12"]
        password = named["javax.net.ssl.keyStorePassword"]
        entries = in_java.keystore(files["keystore.p12"], password)
        assert all(entry.key for entry in entries)
        certificates = tuple((entry.alias, entry.certificate, password) for entry in entries)
        # Java spells aliases in lower case, and finds them in any.
        usages = {key: alias.lower() for key, alias in usages.items()}
    authorities: tuple[bytes, ...] = ()
    if "truststore.p12" in files:
        assert files[below(folder, named["javax.net.ssl.trustStore"])] == files["truststore.p12"]
        trusted = in_java.keystore(files["truststore.p12"], named["javax.net.ssl.trustStorePassword"])
        assert not any(entry.key for entry in trusted)
        authorities = tuple(entry.certificate for entry in trusted)
    return Runtime(certificates, usages, frozenset(), authorities)


@cache
def assert_same_key(key: bytes, certificates: bytes) -> None:
    read = load_pem_private_key(key, None)
    assert read.public_key() == x509.load_pem_x509_certificate(certificates).public_key()
    assert read.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


READERS: dict[str, Callable[[Bundle, str], Runtime]] = {
    "mendix-settings": mendix_settings,
    "m2ee-yaml": m2ee_yaml,
    "pad-hocon": pad_hocon,
    "buildpack-env": buildpack_env,
    "mendix-operator": mendix_operator,
    "kubernetes-secret": kubernetes_secret,
    "pem-bundle": pem_bundle,
    "java-keystore": java_keystore,
}
