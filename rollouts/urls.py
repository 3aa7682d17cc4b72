"""The pages of an environment: `apps/<application>/<environment>/…` (portal.urls)."""

from __future__ import annotations

from django.urls import path

from rollouts.views import (
    changing,
    connections,
    exports,
    handing,
    incidents,
    lookup,
    overview,
    platforms,
    rolling,
    settings,
)

urlpatterns = [
    path("", overview.environment, name="environment"),
    path("chips/", overview.chips, name="chips"),
    path("changes/", changing.changes, name="changes"),
    path("apply/", changing.apply, name="apply"),
    path("undo/", changing.undo, name="undo"),
    path("ask/<str:kind>/", changing.ask, name="ask"),
    path("network/pins/<uuid:pk>/test/", connections.connection, name="connection"),
    path("network/certificates/<uuid:pk>/compromised/", incidents.compromised, name="key-compromised"),
    path("network/lookup/", lookup.lookup, name="lookup"),
    path("rollouts/", rolling.rollouts, name="rollouts"),
    path("rollouts/<uuid:pk>/", rolling.rollout, name="rollout"),
    path("rollouts/<uuid:pk>/live/", rolling.live, name="rollout-live"),
    path("rollouts/<uuid:pk>/report.json", rolling.report, name="rollout-report"),
    path("rollouts/<uuid:pk>/schedule/", rolling.schedule, name="rollout-schedule"),
    path("rollouts/<uuid:pk>/hand-over/", handing.hand_over, name="hand-over"),
    path("rollouts/<uuid:pk>/cancel/", rolling.cancel, name="rollout-cancel"),
    path("revisions/<int:number>/", rolling.revision, name="revision"),
    path("revisions/<int:number>/roll-back/", rolling.roll_back, name="roll-back"),
    path("export/", exports.export, name="export"),
    path("settings/", settings.environment_settings, name="environment-settings"),
    path("settings/platform/", platforms.platforms, name="platforms"),
    path("settings/platform/<slug:kind>/", platforms.platform, name="platform"),
    path("settings/check/", platforms.check, name="platform-check"),
    path("settings/archive/", settings.archive, name="environment-archive"),
    path("settings/bring-back/", settings.bring_back, name="environment-bring-back"),
]
