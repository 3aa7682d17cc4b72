"""An uploaded key stays in memory: Django's own handlers write what is larger than a limit to a temporary file."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from django.core.files.uploadedfile import InMemoryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler

# One byte more than the 1 MiB that is read, so that the form sees that a file is too large; and of all files together
# more than any form takes.
KEPT = 1024 * 1024 + 1
KEPT_IN_ALL = 4 * 1024 * 1024


class BoundedMemoryUploadHandler(FileUploadHandler):
    """Keeps the first KEPT bytes of each file and counts the rest; `size` is the true size of what was sent.

    One handler gets all files of a request, and keeps KEPT_IN_ALL bytes of them.
    """

    kept_in_all = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.kept = BytesIO()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        room = min(KEPT - self.kept.tell(), KEPT_IN_ALL - self.kept_in_all)
        if room > 0:
            self.kept_in_all += self.kept.write(raw_data[:room])

    def file_complete(self, file_size: int) -> InMemoryUploadedFile:
        self.kept.seek(0)
        return InMemoryUploadedFile(
            file=self.kept,
            field_name=self.field_name,
            name=self.file_name,
            content_type=self.content_type or "",
            size=file_size,
            charset=self.charset,
            content_type_extra=self.content_type_extra,
        )
