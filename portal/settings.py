"""All settings, top to bottom. Without any variable set, everything runs on one machine out of one data folder."""

import sys
from pathlib import Path

from django.utils.translation import gettext_lazy as _

from portal import doors, engines, env, file_queue, logs, places

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where things are kept --------------------------------------------------------------------------------------------

DATA_DIR = Path(env.text("COUNTERSIGN_DATA", str(BASE_DIR / "data"))).resolve()
LOGS_DIR = DATA_DIR / "logs"
APPS_DIR = DATA_DIR / "apps"

# --- The edge ---------------------------------------------------------------------------------------------------------

DEBUG = False
SECRET_KEY = env.text("COUNTERSIGN_SECRET_KEY") or env.secret_kept_in(DATA_DIR / "secret-key")
SECRET_KEY_FALLBACKS = env.words("COUNTERSIGN_SECRET_KEY_FALLBACKS")
PORT = env.number("COUNTERSIGN_PORT", 8000)
ALLOWED_HOSTS = env.words("COUNTERSIGN_HOSTS", "localhost,127.0.0.1,[::1]")
# As others reach it, https://countersign.example.com; for links in mails, and for receivers of webhooks.
ADDRESS = env.text("COUNTERSIGN_ADDRESS").rstrip("/")
CSRF_TRUSTED_ORIGINS = env.words("COUNTERSIGN_ORIGINS")

# True behind a TLS proxy: cookies are sent over TLS only and browsers remember to use it.
TLS = env.flag("COUNTERSIGN_TLS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS
SESSION_COOKIE_NAME = "__Host-countersign" if TLS else "countersign"
CSRF_COOKIE_NAME = "__Host-countersign-csrf" if TLS else "countersign-csrf"
SECURE_SSL_REDIRECT = TLS
SECURE_HSTS_SECONDS = 31_536_000 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = TLS
# True (or left out, with TLS): every request comes through one proxy of ours, which sets X-Forwarded-Proto and appends
# the client's address to X-Forwarded-For. Its last element stands in the audit log, and a pause after wrong passwords
# holds for it. Without a proxy it must be false: clients could then write both headers themselves.
BEHIND_PROXY = env.flag("COUNTERSIGN_PROXY", TLS)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "portal.views.csrf_failure"
# Signed out after eight hours, however busy.
SESSION_COOKIE_AGE = 8 * 60 * 60
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Read by portal.middleware.content_security_policy; the name and shape are those of Django 6.
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}

# --- The parts --------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "portal",
    "notices",
    "rollouts",
    "certificates",
    "environments",
    "audit",
    "vault",
    "django_htmx",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "portal.middleware.request_ids",
    "portal.health.end_points.end_points",
    "portal.middleware.client_address",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "portal.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.one_time_passwords",
    "portal.middleware.refusals",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
APPEND_SLASH = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["portal.templatetags.page"],
        },
    },
]

# --- Databases --------------------------------------------------------------------------------------------------------

# Limits and engine options: portal/engines.py. SQLite in the data folder, or PostgreSQL.
DATABASES = {"default": engines.database(env.text("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'countersign.sqlite3'}")}
# The connections to PostgreSQL that the threads of one web process share, at most; 0 for one of its own a request.
DATABASE_POOL = engines.pool(env.number("COUNTERSIGN_DATABASE_POOL", 8))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The vault --------------------------------------------------------------------------------------------------------

VAULT_KEYRING = {"name": "local", "path": env.text("COUNTERSIGN_VAULT_KEY", str(DATA_DIR / "vault-key.json"))}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is kept outside the vault
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    "vault": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DATA_DIR / "vault",
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
}
if _bucket := env.text("COUNTERSIGN_VAULT_BUCKET"):
    STORAGES["vault"] = engines.bucket(
        _bucket,
        endpoint=env.text("COUNTERSIGN_VAULT_ENDPOINT"),
        region=env.text("COUNTERSIGN_VAULT_REGION"),
        access_key=env.text("COUNTERSIGN_VAULT_ACCESS_KEY"),
        secret_key=env.text("COUNTERSIGN_VAULT_SECRET_KEY"),
        addressing=env.text("COUNTERSIGN_VAULT_ADDRESSING", "auto"),
        ca=env.text("COUNTERSIGN_VAULT_CA"),
    )

# An uploaded key never touches the disk in clear: what does not fit in memory is refused (certificates.forms, 1 MiB).
FILE_UPLOAD_HANDLERS = ["certificates.uploads.BoundedMemoryUploadHandler"]
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
# Held in memory, 4 MiB of them together; a batch has at most sixty (certificates.actions.batches).
DATA_UPLOAD_MAX_NUMBER_FILES = 100

# --- The queue --------------------------------------------------------------------------------------------------------

# A nudge carries one id. The rows in the database are the truth; a sweep sends again what got lost.
_broker = engines.broker(
    env.text("COUNTERSIGN_BROKER_URL") or file_queue.address(DATA_DIR / "queue"), ca=env.text("COUNTERSIGN_BROKER_CA")
)
CELERY_BROKER_URL = _broker["BROKER_URL"]
CELERY_BROKER_TRANSPORT_OPTIONS = _broker["BROKER_TRANSPORT_OPTIONS"]
CELERY_BROKER_CONNECTION_TIMEOUT = 2
if "BROKER_USE_SSL" in _broker:
    CELERY_BROKER_USE_SSL = _broker["BROKER_USE_SSL"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_TIME_LIMIT = 120
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A worker and a clock wait for their broker, however long it is away.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}

# --- Apps that the local-process connector may run --------------------------------------------------------------------

# name -> how it is started and observed. Commands stand here and are never typed on a page.
SANDBOX = env.flag("COUNTERSIGN_SANDBOX", False)
SANDBOX_DIR = DATA_DIR / "sandbox"
SANDBOX_PORT = env.number("COUNTERSIGN_SANDBOX_PORT", 9080)
SANDBOX_TLS_PORT = SANDBOX_PORT + 363
LOCAL_PROCESSES: dict[str, dict[str, object]] = {}
if SANDBOX:
    for _number in (1, 2):
        _http = SANDBOX_PORT + _number
        LOCAL_PROCESSES[f"sandbox-app-{_number}"] = {
            "title": f"Sandbox app {_number}",
            "address": f"http://127.0.0.1:{_http}/",
            "folder": str(APPS_DIR / f"sandbox-app-{_number}"),
            "cwd": str(BASE_DIR),
            "trust": str(SANDBOX_DIR / "partner-server-ca.pem"),
            "status_url": f"http://127.0.0.1:{_http}/status",
            "argv": [
                sys.executable, "-m", "sandbox.app",
                "--name", f"Sandbox app {_number}",
                "--configuration", "{configuration}",
                "--port", str(_http),
                "--partner-port", str(SANDBOX_TLS_PORT),
                "--trust", str(SANDBOX_DIR / "partner-server-ca.pem"),
            ],
        }  # fmt: skip
# The places of this server's own apps, out of a JSON file (its shape: portal/places.py).
if _places := env.text("COUNTERSIGN_PLACES"):
    LOCAL_PROCESSES |= places.read(_places, APPS_DIR)

# --- What the portal connects to --------------------------------------------------------------------------------------

# Each purpose: `public`, `private`, networks like 10.20.0.0/16, or `nothing`. Addresses of this machine and of
# a cloud's metadata are never reached; only the sandbox's partner is on loopback.
DOORS = {
    "tests": doors.door(
        "COUNTERSIGN_TESTS_MAY_REACH",
        env.words("COUNTERSIGN_TESTS_MAY_REACH", "public"),
        places=doors.sandbox_places(SANDBOX_TLS_PORT) if SANDBOX else {},
        proxy=doors.proxy(env.text("COUNTERSIGN_EGRESS_PROXY")),
    ),
    # The page of an app that has to answer after a restart.
    "health": doors.door(
        "COUNTERSIGN_HEALTH_MAY_REACH",
        env.words("COUNTERSIGN_HEALTH_MAY_REACH", "public,private"),
        places=doors.own_places(LOCAL_PROCESSES, "address"),
        proxy=None,
    ),
    # Platforms. Of this machine's own addresses only those that stand in COUNTERSIGN_PLACES.
    "connectors": doors.door(
        "COUNTERSIGN_CONNECTORS_MAY_REACH",
        env.words("COUNTERSIGN_CONNECTORS_MAY_REACH", "public,private"),
        places=doors.own_places(LOCAL_PROCESSES, "admin"),
        proxy=doors.proxy(env.text("COUNTERSIGN_EGRESS_PROXY")),
    ),
    # Services that take notices for people (Slack, Teams, webhooks, …), and whoever watches the watcher.
    "notices": doors.door(
        "COUNTERSIGN_NOTICES_MAY_REACH",
        env.words("COUNTERSIGN_NOTICES_MAY_REACH", "public"),
        places={},
        proxy=doors.proxy(env.text("COUNTERSIGN_EGRESS_PROXY")),
    ),
}

# --- Messages ---------------------------------------------------------------------------------------------------------

# Where mails are handed over. Left out, the portal sends none and offers none.
MAILS = bool(_mail := env.text("COUNTERSIGN_MAIL_URL"))
if MAILS:
    _smtp = engines.mail(_mail)
    EMAIL_HOST, EMAIL_PORT = _smtp["HOST"], _smtp["PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _smtp["HOST_USER"], _smtp["HOST_PASSWORD"]
    EMAIL_USE_SSL, EMAIL_USE_TLS, EMAIL_TIMEOUT = _smtp["USE_SSL"], _smtp["USE_TLS"], _smtp["TIMEOUT"]
# Asked for after each look at what expires, by whoever should notice that no look was made (Healthchecks, say).
HEARTBEAT_URL = env.text("COUNTERSIGN_HEARTBEAT_URL")
# Who may read /metrics: whoever sends this as a bearer token. Left out, there is no such page.
METRICS_TOKEN = env.text("COUNTERSIGN_METRICS_TOKEN")
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("COUNTERSIGN_MAIL_FROM", "countersign@localhost")

# --- Accounts ---------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "environments.Person"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Words and times --------------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = USE_TZ = True
TIME_ZONE = env.text("COUNTERSIGN_TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- Logs -------------------------------------------------------------------------------------------------------------

# Words for people, or a JSON object a line for programs that collect logs. What stands in a line: portal/logs.py.
LOGGING = logs.configuration(env.text("COUNTERSIGN_LOG_FORMAT", "line"), env.text("COUNTERSIGN_LOG_LEVEL", "INFO"))
