"""Fetching is authorising: what a page is about, with its environment, or 404, or who may."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render

from certificates.models import CertificateRequest, ClientCertificate, Pin
from environments.access import Right, get_environment


def get_certificate(person: Any, app: str, env: str, pk: UUID, *, to: Right = Right.CERTIFICATES) -> ClientCertificate:
    """The certificate, if this person may; a removed one can be seen and not changed."""
    environment = get_environment(person, app, env, to=to)
    certificates = ClientCertificate.objects.filter(environment=environment).select_related("in_use", "responsible")
    if to != Right.VIEW:
        certificates = certificates.filter(removed_at=None)
    certificate: ClientCertificate = get_object_or_404(certificates, pk=pk)
    certificate.environment = environment
    return certificate


def get_request(person: Any, app: str, env: str, pk: UUID, *, to: Right = Right.CERTIFICATES) -> CertificateRequest:
    """The request, if this person may; one that has ended can be seen."""
    environment = get_environment(person, app, env, to=to)
    requests = CertificateRequest.objects.filter(environment=environment).select_related(
        "certificate", "sealed", "version__certificate"
    )
    request: CertificateRequest = get_object_or_404(requests, pk=pk)
    request.environment = environment
    if request.certificate is not None:
        request.certificate.environment = environment
    return request


def get_pin(person: Any, app: str, env: str, pk: UUID) -> Pin:
    """The pin, if this person may change it."""
    environment = get_environment(person, app, env, to=Right.CERTIFICATES)
    pin: Pin = get_object_or_404(Pin.objects.filter(environment=environment).select_related("certificate"), pk=pk)
    pin.environment = environment
    return pin


def page(request: HttpRequest, name: str, *, status: int = 200, **context: Any) -> HttpResponse:
    """A page of the Network tab; the frame needs its environment."""
    return render(request, f"certificates/{name}.html", {"section": "applications", **context}, status=status)


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to: what was posted, or nothing where the page is only looked at."""
    return request.POST if request.method == "POST" else None
