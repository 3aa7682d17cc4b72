"""What the portal answers (certificates.selection) beside what a runtime finds in exported bytes alone, for a thousand
made-up environments. The oracle is tests.contracts.readers: the published documents, line by line."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certificates.content import Content, PinnedTarget, Slot
from certificates.dialects import dialect_of, inexpressible
from certificates.selection import Selector
from certificates.targets import TargetError, interpret
from rollouts.exporters import EXPORTERS, export, exporter
from tests.contracts import readers
from tests.contracts.written import seen_as, trusted, written

pytestmark = pytest.mark.contract

# What the runtime itself reads is tried a thousand times; the others say the same in another notation, and more slowly.
ENVIRONMENTS = {
    "mendix-settings": 1000,
    "buildpack-env": 1000,
    "pad-hocon": 1000,
    "kubernetes-secret": 60,
    "java-keystore": 100,
}
OTHERS = (
    "other.example",
    "Other.Service",
    "OTHER",
    "api.example.co",
    "",
    "API.EXAMPLE.COM",
    "a",
    "xn--bcher-kva.example",
)

texts = st.one_of(
    st.sampled_from(["api.example.com", "www.api.example.com", "bücher.example", "192.0.2.1", "api", "localhost"]),
    st.sampled_from(
        ["Billing.PaymentService", "Billing.Payment_Service", "MY_S3", "my_s3", "a b", "x: {y}", "#", "'\""]
    ),
    st.text(min_size=1, max_size=12),
)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    slugs = draw(st.lists(st.sampled_from([f"s-{n}" for n in range(6)]), unique=True, max_size=5))
    pins: dict[str, PinnedTarget] = {}
    for text in draw(st.lists(texts, max_size=8)):
        kind = draw(st.sampled_from(["host", "service", "identifier"]))
        try:
            target = interpret(text, kind)
        except TargetError:
            continue
        slug = draw(st.sampled_from([None, *slugs]))
        pins.setdefault(target.key, PinnedTarget(kind, target.key, slug))
    folder = draw(st.sampled_from(["/srv/app", "/srv/my app"]))
    authorities = tuple(draw(st.lists(st.sampled_from(sorted(trusted())), unique=True)))
    return Content(
        runtime="mendix",
        runtime_version=draw(st.sampled_from(["", "10.12.3", "9.0"])),
        profile="modern",
        base_folder=folder,
        slots=tuple(Slot(slug, "0" * 64) for slug in slugs),
        pins=tuple(pins.values()),
        authorities=authorities,
    )


def assert_agreed(kind: str, content: Content) -> None:
    there = dialect_of(exporter(kind).dialect)
    refused = {pin.key for pin, _why in (*inexpressible(content, there.kind), *inexpressible(content, "mendix"))}
    content = dataclasses.replace(
        content,
        pins=tuple(pin for pin in content.pins if pin.key not in refused),
        authorities=content.authorities if there.authorities else (),
    )
    files = written(content, kind)
    bundle = export(kind, content, files, trusted())
    runtime = readers.READERS[kind](bundle, content.base_folder)
    selector = Selector(dataclasses.replace(content, runtime=there.kind))
    for key in (*(pin.key for pin in content.pins), *OTHERS, *refused):
        answer, found = selector.select(key), runtime.presents(key)
        if answer.rule == "any":
            # The server decides among what is on offer: exactly those that the answer names.
            assert found == "any"
            offered = [(file, password) for _path, file, password in runtime.certificates]
            named = [seen_as(kind, files[slug]) for slug in answer.candidates]
            assert offered == named if there.order_matters else sorted(offered) == sorted(named)
        else:
            assert found == (answer.rule if answer.slug is None else seen_as(kind, files[answer.slug])[0]), key
    assert sorted(runtime.authorities) == sorted(trusted()[one] for one in content.authorities)


@pytest.mark.parametrize("kind", EXPORTERS)
def test_the_answer_is_what_a_runtime_finds_in_the_files(kind: str) -> None:
    @settings(max_examples=ENVIRONMENTS.get(kind, 300), deadline=None)
    @given(contents())
    @example(Content("mendix", "10.12.3", "modern", "/srv/app"))
    def agreed(content: Content) -> None:
        assert_agreed(kind, content)

    agreed()


@settings(max_examples=200, deadline=None)
@given(contents(), st.sampled_from(["mendix-settings", "m2ee-yaml", "pad-hocon", "buildpack-env"]))
def test_an_old_runtime_is_told_of_services_under_the_old_name(content: Content, kind: str) -> None:
    """cf-mendix-buildpack, security.py: WebServiceClientCertificates before 7.20."""
    pins = tuple(pin for pin in content.pins if pin.kind == "service" and pin.slug is not None)
    content = dataclasses.replace(content, runtime_version="7.16", pins=pins)
    assert_agreed(kind, content)
    files = export(kind, content, written(content, kind), trusted()).files
    if kind != "buildpack-env":
        setting = next(file for file in files if file.path.endswith((".json", ".yaml", ".conf")))
        assert b"WebServiceClientCertificates" in setting.content
        assert b"NoClientCertificateUsages" not in setting.content


def test_the_oracle_does_not_know_the_answers() -> None:
    tree = ast.parse(Path(readers.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "selection" not in imported
    assert not [module for module in modules if "selection" in module or module.startswith("rollouts.exporters")]
