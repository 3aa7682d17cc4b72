"""Many files at once, each of them one certificate: uploaded together, opened with a handful of passwords, and added
together or not at all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from certificates.actions import drafts
from certificates.diagnosis import Refusal
from certificates.intake import MAX_FILES, Upload
from certificates.models import ClientCertificate, Draft
from environments.models import Environment
from environments.refusals import Refused

MAX_IN_A_BATCH: Final = 60
# For those that need no password, before their page is shown.
OPEN_SECONDS: Final = 5.0
# Another password, or another moment, may open what was refused with one of these.
OPEN_TO_MORE: Final = frozenset(
    {"wrong_password", "wrong_password_or_damaged", "entry_password_differs", "busy", "too_slow", "reader_stopped"}
)


@sensitive_variables("files")
def keep_batch(*, environment: Environment, files: Sequence[Upload], session_key: str, by: Any) -> uuid.UUID:
    """Seals each file as a draft of its own, and opens those that need no password; what no password could open is kept
    as a refusal, without the file.

    Raises Refused, and keeps none, where there are too many; VaultUnusable where nothing can be sealed.
    """
    drafts.refuse_too_many(by, len(files))
    batch = uuid.uuid4()
    kept, closed = [], set()
    for place, file in enumerate(files):
        draft = drafts.new_draft(environment, [file], session_key, by, batch=batch, place=place)
        try:
            if drafts.screen(draft, [file]):
                closed.add(place)
        except Refusal as refusal:
            drafts.record_refusal(refusal, draft, by)
            draft.refusal = _told(refusal)
            draft.save()
        else:
            drafts.save_draft(draft, [file])
            kept.append(draft)
    read_batch(batch=kept, passwords=[""], without=closed, seconds=OPEN_SECONDS, by=by)
    return batch


def batch_of(*, batch: Any, environment: Environment, session_key: str, by: Any) -> list[Draft]:
    """Its drafts in their order, for the person, session and environment that they are bound to. Raises Refused where
    none is left."""
    found = list(
        Draft.objects.select_related("sealed")
        .filter(batch=batch, person=by, session=drafts.session_mark(session_key), environment=environment)
        .filter(used_at=None, expires_at__gt=timezone.now())
        .order_by("place")
    )
    if not found:
        raise Refused(_("These uploads have expired or were already added; choose the files again."), field="file")
    for draft in found:
        draft.environment = environment
    return found


def is_open_to_more(draft: Draft) -> bool:
    """Whether a password may still open it."""
    if draft.is_read or draft.choices or draft.sealed is None:
        return False
    return draft.refusal is None or draft.refusal["code"] in OPEN_TO_MORE


@sensitive_variables("passwords", "chains")
def read_batch(
    *,
    batch: Sequence[Draft],
    passwords: Sequence[str],
    after: int = -1,
    without: Container[int] = (),
    seconds: float,
    by: Any,
) -> int | None:
    """Opens those whose place comes after `after` and is not in `without` with these passwords, each tried on each, for
    about so long.

    Files that hold only certificates complete the chains of the others. Returns the place of the last one that was
    tried where others wait (for a machine that is busy, too), None where all were tried. Raises VaultUnusable.
    """
    deadline = time.monotonic() + seconds
    waiting = [d for d in batch if d.place > after and d.place not in without and is_open_to_more(d)]
    if not waiting:
        return None
    chains = [file for one in batch if one.tracked and one.sealed for file in drafts.certificates_of(one)]
    for draft in waiting:
        beside = [] if draft.tracked else chains[: MAX_FILES - 1]
        try:
            drafts.read_draft(draft=draft, passwords=passwords, beside=beside, by=by)
        except Refusal as refusal:
            if refusal.code == "busy":
                return after
            draft.refusal = _told(refusal)
            draft.save(update_fields=["refusal"])
        after = draft.place
        if time.monotonic() > deadline and draft is not waiting[-1]:
            return after
    return None


def refusal_of(draft: Draft) -> Refusal | None:
    return Refusal(draft.refusal["code"], **draft.refusal["details"]) if draft.refusal else None


def _told(refusal: Refusal) -> dict[str, Any]:
    return {"code": refusal.code, "details": refusal.details}


def add_batch(*, chosen: Mapping[Draft, str], confirmed: bool, by: Any) -> list[ClientCertificate]:
    """Confirms these drafts as new certificates with these names: all of them, or none where one is refused.

    The Refused says in its `field` which: the draft's primary key, or `confirmed`.
    """
    for draft in chosen:
        drafts.check_confirmed(draft, confirmed, by)
    all_taken = [drafts.take(draft) for draft in chosen]
    added = []
    with drafts.using_up(all_taken):
        for taken in all_taken:
            try:
                added.append(drafts.add_taken(taken, name=chosen[taken.draft], by=by))
            except Refused as error:
                raise Refused(str(error), field=str(taken.draft.pk)) from None
    return added
