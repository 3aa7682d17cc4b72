"""Reads settings from the environment, and fails with a sentence where a value cannot be meant."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """The variable, or the content of the file named by `<name>_FILE` (container secrets), or the default."""
    if file := os.environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {file}, which cannot be read: {error.strerror}.") from error
    return os.environ.get(name, default)


def flag(name: str, default: bool) -> bool:
    """Accepts only “true” and “false”, so that a typing error is not a decision."""
    value = text(name, "true" if default else "false").lower()
    if value not in ("true", "false"):
        raise ImproperlyConfigured(f"{name} is “{value}”; write true or false.")
    return value == "true"


def number(name: str, default: int) -> int:
    value = text(name, str(default))
    if not value.isascii() or not value.isdigit():
        raise ImproperlyConfigured(f"{name} is “{value}”; write a whole number.")
    return int(value)


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def secret_kept_in(path: Path) -> str:
    """A random secret that is made on first use and kept in a file that only its owner reads."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        # Another of our programs started at the same moment and made it.
        return path.read_text().strip()
    value = secrets.token_urlsafe(50)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return value
