"""Every address of the portal. Routes follow the words: `/apps/<application>/<environment>/…`."""

from __future__ import annotations

from django.urls import include, path

from portal import audit_log, auth, views
from portal.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("sign-in/", auth.sign_in, name="sign-in"),
    path("sign-out/", auth.sign_out, name="sign-out"),
    path("change-password/", auth.change_password, name="change-password"),
    path("audit/", audit_log.audit_log, name="audit-log"),
    path("", views.home, name="home"),
    path("", include("environments.urls")),
    path("apps/<slug:app>/", views.application, name="application"),
    path("apps/<slug:app>/new/", views.environment_new, name="environment-new"),
    path("apps/<slug:app>/<slug:env>/", include("rollouts.urls")),
    path("apps/<slug:app>/<slug:env>/network/", include("certificates.urls")),
]
