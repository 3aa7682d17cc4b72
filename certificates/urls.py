from django.urls import path

from certificates.views import batches, certificate, network, pins, requests, trusted, uploads

urlpatterns = [
    path("", network.network, name="network"),
    path("certificates.csv", network.certificates_csv, name="certificates-csv"),
    path("certificates/new/", uploads.certificate_new, name="certificate-new"),
    path("certificates/many/", batches.certificates_many, name="certificates-many"),
    path("certificates/many/<uuid:pk>/", batches.batch, name="batch"),
    path("certificates/<uuid:pk>/", certificate.certificate, name="certificate"),
    path("certificates/<uuid:pk>/renew/", uploads.certificate_renew, name="certificate-renew"),
    path("certificates/<uuid:pk>/elsewhere/", certificate.certificate_elsewhere, name="certificate-elsewhere"),
    path("certificates/<uuid:pk>/rename/", certificate.certificate_rename, name="certificate-rename"),
    path("certificates/<uuid:pk>/switch/", certificate.certificate_switch, name="certificate-switch"),
    path("certificates/<uuid:pk>/move/", network.certificate_move, name="certificate-move"),
    path("certificates/<uuid:pk>/remove/", certificate.certificate_remove, name="certificate-remove"),
    path("certificates/<uuid:pk>/versions/<int:number>/use/", certificate.version_use, name="version-use"),
    path("certificates/<uuid:pk>/request/", requests.request_renewal, name="request-renewal"),
    path("requests/new/", requests.request_new, name="request-new"),
    path("requests/<uuid:pk>/", requests.request_page, name="request"),
    path("requests/<uuid:pk>/download/", requests.request_download, name="request-download"),
    path("requests/<uuid:pk>/mail/", requests.request_mail, name="request-mail"),
    path("requests/<uuid:pk>/withdraw/", requests.request_withdraw, name="request-withdraw"),
    path("drafts/<uuid:pk>/", uploads.draft, name="draft"),
    path("pins/new/", pins.pin_new, name="pin-new"),
    path("pins/interpret/", pins.pin_interpret, name="pin-interpret"),
    path("pins/<uuid:pk>/", pins.pin_edit, name="pin-edit"),
    path("pins/<uuid:pk>/remove/", pins.pin_remove, name="pin-remove"),
    path("authorities/new/", trusted.trusted_new, name="trusted-new"),
    path("authorities/<uuid:pk>/", trusted.trusted, name="trusted"),
    path("authorities/<uuid:pk>/remove/", trusted.trusted_remove, name="trusted-remove"),
]
