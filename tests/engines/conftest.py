"""The browser of the journeys, whose chapters are told here again."""

from tests.journeys.conftest import chromium, context, downloads, page  # noqa: F401
