"""The portal's settings with a data folder of its own for each test process, forgotten at the end.

COUNTERSIGN_TEST_ENGINES=others pytest tests/rollouts        on PostgreSQL and an S3 server, instead of SQLite and files
"""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

_engines = os.environ.pop("COUNTERSIGN_TEST_ENGINES", "embedded")
if _engines not in ("embedded", "others"):
    raise SystemExit(f"COUNTERSIGN_TEST_ENGINES is “{_engines}”; write embedded or others.")
_folder = tempfile.mkdtemp(prefix="countersign-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("COUNTERSIGN_") or name == "DATABASE_URL"]:
    # What the person at this machine has set for the portal must not decide what a test finds.
    del os.environ[_name]
os.environ |= {
    "COUNTERSIGN_DATA": _folder,
    "COUNTERSIGN_TEST_ENGINES": _engines,
    # Nobody out there is called; a test that wants a partner names one on loopback.
    "COUNTERSIGN_TESTS_MAY_REACH": "nothing",
    "COUNTERSIGN_NOTICES_MAY_REACH": "nothing",
}
if _engines == "others":
    from tests import services

    # The first test process starts the servers; those that it starts (xdist) inherit them, and make room of their own.
    if "TEST_SERVERS" not in os.environ:
        _database = services.Postgresql().__enter__()
        _storage = services.S3().__enter__()
        atexit.register(_database.__exit__)
        atexit.register(_storage.__exit__)
        os.environ["TEST_SERVERS"] = json.dumps(
            [_database.database("countersign"), _storage.variables, str(_storage.content)]
        )
    _url, _variables, _buckets = json.loads(os.environ["TEST_SERVERS"])
    _bucket = Path(tempfile.mkdtemp(prefix="vault-", dir=_buckets))
    os.environ |= {"DATABASE_URL": _url} | _variables | {"COUNTERSIGN_VAULT_BUCKET": _bucket.name}

from portal.settings import *  # noqa: E402, F403

# A page under test needs no collected files; the real storage is tested where it is served.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
STATIC_ROOT.mkdir()  # noqa: F405  # whitenoise would warn for every client otherwise
# Rounds of hashing protect real passwords; they only slow these down.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A file, because workers and moves use connections of their own, which do not share a database in memory.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(_folder, "test.sqlite3")}  # noqa: F405, PTH118
if _engines == "others":
    # They are read by now; programs that a test starts get theirs from the test.
    for _name in ("DATABASE_URL", *_variables):
        del os.environ[_name]
