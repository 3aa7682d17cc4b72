"""What the address of a database, a broker or a bucket means in settings: all bounded in time, TLS always checked.

An address may hold a password, so no refusal quotes one.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

# Seconds. A lock is waited for as long as on SQLite; no page takes half as long as a statement may.
CONNECT_LIMIT, LOCK_LIMIT, STATEMENT_LIMIT, IDLE_LIMIT = 5, 20, 30, 60


def database(url: str) -> dict[str, Any]:
    """DATABASES["default"] for SQLite and PostgreSQL; ImproperlyConfigured for anything else. What the address itself
    says behind its question mark wins over what is said here."""
    scheme = url.partition(":")[0]
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ImproperlyConfigured(
            "DATABASE_URL is not understood; write postgresql://user:password@host:5432/name, "
            "or leave it out for SQLite."
        )
    try:
        # A connection ends with its request or task; the web server's threads share a pool (portal/wsgi.py).
        config: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=0, conn_health_checks=True))
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL is no address; characters like / and @ in a password are written %2F, %40."
        ) from None
    if scheme == "sqlite":
        ours: dict[str, Any] = {
            # A transaction that will write takes the write lock at once, so that it waits instead of failing midway.
            "transaction_mode": "IMMEDIATE",
            "timeout": LOCK_LIMIT,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    else:
        limits = {
            "lock_timeout": LOCK_LIMIT,
            "statement_timeout": STATEMENT_LIMIT,
            # Whoever stands still in the middle of a transaction must not keep others from theirs.
            "idle_in_transaction_session_timeout": IDLE_LIMIT,
        }
        ours = {
            "connect_timeout": CONNECT_LIMIT,
            "options": " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items()),
            "application_name": "countersign",
            # A server whose machine is gone is noticed by the kernel, in seconds and milliseconds.
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }
    return {**config, "OPTIONS": ours | config.get("OPTIONS", {})}


def pool(size: int) -> dict[str, Any] | None:
    """OPTIONS["pool"] for threads that share connections: at most `size`, given back when unused. None for 0."""
    if not size:
        return None
    return {"min_size": 1, "max_size": size, "timeout": CONNECT_LIMIT, "max_idle": 60, "max_lifetime": 1800}


def broker(url: str, ca: str) -> dict[str, Any]:
    """Celery's settings for a broker, by their names without CELERY_. `ca`: a file of certificates to trust, or empty
    for those of the machine. ImproperlyConfigured for a broker that nobody tried."""
    scheme, _, rest = url.partition("://")
    # Valkey speaks the protocol of Redis, and some write its name.
    scheme = {"valkey": "redis", "valkeys": "rediss", "pyamqp": "amqp"}.get(scheme, scheme)
    if scheme not in ("files", "redis", "rediss", "amqp", "amqps"):
        raise ImproperlyConfigured(
            "COUNTERSIGN_BROKER_URL is not understood; write redis://… (rediss:// over TLS) for Redis or Valkey, "
            "amqp://… (amqps://) for RabbitMQ, or leave it out for a queue of files."
        )
    url = f"{scheme}://{rest}"
    ours: dict[str, Any] = {"BROKER_URL": url, "BROKER_TRANSPORT_OPTIONS": {}}
    if scheme == "files":
        return ours
    # A publisher gives up at once: the sweep says again what it could not say. A worker's own tries are counted apart.
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    if scheme.startswith("redis"):
        options |= {
            "socket_connect_timeout": 1,
            "socket_timeout": 2,
            "socket_keepalive": True,
        }
    else:
        options |= {"read_timeout": 2, "write_timeout": 2}
    if scheme in ("rediss", "amqps"):
        prefix = "ssl_" if scheme == "rediss" else ""
        tls: dict[str, Any] = {f"{prefix}cert_reqs": ssl.CERT_REQUIRED}
        if ca:
            tls[f"{prefix}ca_certs"] = _existing(ca, "COUNTERSIGN_BROKER_CA")
        if scheme == "amqps":
            tls["server_hostname"] = urlsplit(url).hostname
        else:
            tls["ssl_check_hostname"] = True
        ours["BROKER_USE_SSL"] = tls
    return ours | {"BROKER_TRANSPORT_OPTIONS": options}


def bucket(
    name: str, *, endpoint: str, region: str, access_key: str, secret_key: str, addressing: str, ca: str
) -> dict[str, Any]:
    """STORAGES["vault"] for a bucket of S3 or of a server that speaks as S3 does. Without keys, those that the machine
    itself has been given (a role). ImproperlyConfigured for a key without its other half."""
    from botocore.config import Config

    if bool(access_key) != bool(secret_key):
        raise ImproperlyConfigured(
            "Set both COUNTERSIGN_VAULT_ACCESS_KEY and COUNTERSIGN_VAULT_SECRET_KEY, "
            "or neither of them to use the machine's own role."
        )
    if addressing not in ("auto", "path", "virtual"):
        raise ImproperlyConfigured(f"COUNTERSIGN_VAULT_ADDRESSING is “{addressing}”; write auto, path or virtual.")
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": name,
            "endpoint_url": endpoint or None,
            "region_name": region or None,
            "access_key": access_key or None,
            "secret_key": secret_key or None,
            "verify": _existing(ca, "COUNTERSIGN_VAULT_CA") if ca else None,
            "default_acl": None,
            "file_overwrite": False,
            "client_config": Config(
                connect_timeout=3,
                read_timeout=5,
                # Two tries in all: with the limits above a page ends, whatever happens there.
                retries={"mode": "standard", "total_max_attempts": 2},
                signature_version="s3v4",
                s3={"addressing_style": addressing},
                # Sealed objects prove themselves; not every server knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        },
    }


def mail(url: str) -> dict[str, Any]:
    """Django's EMAIL_ settings, by their names without EMAIL_. STARTTLS is demanded for smtp://, and TLS from the first
    byte for smtps://; `?tls=none` is for a server on this machine. ImproperlyConfigured for anything else."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    plain = parts.query == "tls=none"
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or port == 0 or parts.query not in ("", "tls=none"):
        raise ImproperlyConfigured(
            "COUNTERSIGN_MAIL_URL is not understood; write smtp://user:password@host:587 (STARTTLS), "
            "smtps://user:password@host:465, or smtp://127.0.0.1:25?tls=none for a server on this machine; "
            "characters like / and @ in a password are written %2F, %40."
        )
    return {
        "HOST": parts.hostname,
        "PORT": port or (465 if parts.scheme == "smtps" else 587),
        "HOST_USER": unquote(parts.username or ""),
        "HOST_PASSWORD": unquote(parts.password or ""),
        "USE_SSL": parts.scheme == "smtps",
        "USE_TLS": parts.scheme == "smtp" and not plain,
        "TIMEOUT": 10,
    }


def _existing(file: str, variable: str) -> str:
    if not Path(file).is_file():
        raise ImproperlyConfigured(f"{variable} names {file}, which is no file.")
    return file
