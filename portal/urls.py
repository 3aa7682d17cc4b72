"""Every address of the portal but /healthz and /readyz (portal/health/end_points.py). Routes follow the words:
`/apps/<application>/<environment>/…`."""

from __future__ import annotations

from django.urls import include, path

from certificates.views import authorities, everywhere, partner, promotion
from notices.views import channels, feeds, metrics, snoozing
from portal import audit_log, auth, views
from portal.health import page as health
from rollouts.views import hooks, importing, incidents, reach, renewals, searching, series

urlpatterns = [
    path("sign-in/", auth.sign_in, name="sign-in"),
    path("sign-out/", auth.sign_out, name="sign-out"),
    path("change-password/", auth.change_password, name="change-password"),
    path("health/", health.health, name="health"),
    path("health/parts/", health.health_parts, name="health-parts"),
    path("health/operations/", health.operations, name="operations"),
    path("audit/", audit_log.audit_log, name="audit-log"),
    path("certificates/", everywhere.all_certificates, name="all-certificates"),
    path("certificates.csv", everywhere.all_certificates_csv, name="all-certificates-csv"),
    path("authorities/", authorities.authorities, name="authorities"),
    path("authorities/new/", authorities.authority_new, name="authority-new"),
    path("authorities/<int:pk>/", authorities.authority_edit, name="authority-edit"),
    path("authorities/<int:pk>/remove/", authorities.authority_remove, name="authority-remove"),
    path("apply/", series.several, name="several"),
    path("apply/<uuid:pk>/", series.series, name="series"),
    path("apply/<uuid:pk>/live/", series.live, name="series-live"),
    path("renewals/<uuid:pk>/", renewals.renewal, name="renewal"),
    path("renewals/<uuid:pk>/live/", renewals.live, name="renewal-live"),
    path("reach/certificates/<str:sha256>/", reach.certificate, name="reach-certificate"),
    path("reach/certificates/<str:sha256>.csv", reach.certificate, name="reach-certificate-csv"),
    path("reach/keys/<str:spki>/", reach.key, name="reach-key"),
    path("reach/keys/<str:spki>.csv", reach.key, name="reach-key-csv"),
    path("reach/issuers/", reach.issuer, name="reach-issuer"),
    path("reach/issuers.csv", reach.issuer, name="reach-issuer-csv"),
    path("people/<int:pk>/reach/", reach.person, name="reach-person"),
    path("people/<int:pk>/reach.csv", reach.person, name="reach-person-csv"),
    path("incidents/<uuid:pk>/", incidents.incident, name="incident"),
    path("incidents/<uuid:pk>/places/", incidents.places, name="incident-places"),
    path("incidents/<uuid:pk>/take-out/", incidents.take_out, name="incident-take-out"),
    path("incidents/<uuid:pk>/announce/", incidents.announce, name="incident-announce"),
    path("incidents/<uuid:pk>/close/", incidents.close, name="incident-close"),
    path("hooks/exports/<str:token>/", hooks.fetch, name="hook-export"),
    path("hooks/reports/<uuid:pk>/", hooks.report, name="hook-report"),
    path("metrics", metrics.metrics, name="metrics"),
    path("calendars/", feeds.calendars, name="calendars"),
    path("calendars/<str:mark>/close/", feeds.calendar_close, name="calendar-close"),
    path("calendars/<str:token>.ics", feeds.feed, name="calendar-feed"),
    path("partner/<str:token>/", partner.upload, name="partner"),
    path("partner/<str:token>/<slug:language>/", partner.upload, name="partner"),
    path("search/", searching.search_page, name="search"),
    path("import/", importing.import_new, name="import-new"),
    path("import/<uuid:group>/", importing.import_look, name="import"),
    path("needs/", views.needs_you, name="needs"),
    path("", views.home, name="home"),
    path("", include("environments.urls")),
    path("apps/<slug:app>/", views.application, name="application"),
    path("apps/<slug:app>/new/", views.environment_new, name="environment-new"),
    path("apps/<slug:app>/settings/notices/", channels.notices, name="notices"),
    path("apps/<slug:app>/settings/notices/add/<str:kind>/", channels.channel_new, name="channel-new"),
    path("apps/<slug:app>/settings/notices/<uuid:pk>/", channels.channel_edit, name="channel-edit"),
    path("apps/<slug:app>/settings/notices/<uuid:pk>/test/", channels.channel_test, name="channel-test"),
    path("apps/<slug:app>/settings/notices/<uuid:pk>/remove/", channels.channel_remove, name="channel-remove"),
    path("apps/<slug:app>/settings/notices/messages/<uuid:pk>/", channels.message, name="message"),
    path("apps/<slug:app>/settings/notices/messages/<uuid:pk>/again/", channels.message_again, name="message-again"),
    path("apps/<slug:app>/settings/notices/<slug:env>/lead/", channels.lead, name="lead"),
    path("apps/<slug:app>/<slug:env>/network/certificates/<uuid:pk>/snooze/", snoozing.snooze, name="snooze"),
    path("apps/<slug:app>/<slug:env>/network/certificates/<uuid:pk>/wake/", snoozing.wake, name="wake"),
    path("apps/<slug:app>/compare/", promotion.compare, name="compare"),
    path("apps/<slug:app>/<slug:env>/", include("rollouts.urls")),
    path("apps/<slug:app>/<slug:env>/network/", include("certificates.urls")),
]
