"""The portal's settings with a data folder of its own for each test process, forgotten at the end."""

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="countersign-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("COUNTERSIGN_") or name == "DATABASE_URL"]:
    # What the person at this machine has set for the portal must not decide what a test finds.
    del os.environ[_name]
os.environ["COUNTERSIGN_DATA"] = _folder

from portal.settings import *  # noqa: E402, F403

# A page under test needs no collected files; the real storage is tested where it is served.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
STATIC_ROOT.mkdir()  # noqa: F405  # whitenoise would warn for every client otherwise
# Rounds of hashing protect real passwords; they only slow these down.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A file, because workers and moves use connections of their own, which do not share a database in memory.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(_folder, "test.sqlite3")}  # noqa: F405, PTH118
