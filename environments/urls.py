"""Applications, members and people. The pages that show how environments stand are the portal's (portal.urls)."""

from __future__ import annotations

from django.urls import path

from environments import views

urlpatterns = [
    path("apps/new/", views.application_new, name="application-new"),
    path("apps/<slug:app>/settings/", views.application_settings, name="application-settings"),
    path("apps/<slug:app>/members/", views.members, name="members"),
    path("apps/<slug:app>/members/<int:pk>/remove/", views.member_remove, name="member-remove"),
    path("people/", views.people, name="people"),
    path("people/new/", views.person_new, name="person-new"),
    path("people/<int:pk>/", views.person_edit, name="person-edit"),
    path("account/", views.account, name="account"),
    path("people/<int:pk>/reset/", views.person_reset, name="person-reset"),
    path("people/<int:pk>/active/", views.person_active, name="person-active"),
]
