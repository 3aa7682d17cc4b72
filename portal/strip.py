"""The twelve months to come: how many certificates expire in each week, drawn as stacks that lead to their lists.

One grouped query on the index of what is enabled, by its end. Every stack is counted as the list of all certificates
filters, so that whoever follows it finds as many rows: certificates that are enabled, tracked ones too, by whole weeks
from Monday on in the installation's time zone; the first begins now.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.db.models.expressions import Combinable
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.filters import Filters, begin_of
from certificates.models import EXPIRES_SOON, ClientCertificate
from environments.models import Environment

WEEKS = 52
A_WEEK = timedelta(days=7)
# In units of the drawing: from column to column, the width of a bar, the line it stands on, the highest and least bar.
STEP, BAR, FLOOR, HIGHEST, LEAST = 23, 16, 82, 62, 4
# What expired already stands apart at the left.
LEFT, GAP = 8, 30
WIDTH, HEIGHT = LEFT + (WEEKS + 1) * STEP + GAP, 104


@dataclass(frozen=True)
class Stack:
    """The certificates of one week, those of production at the bottom; `tone` is that of a bar of life."""

    title: str
    filters: Filters
    tone: str
    production: int
    other: int
    x: int
    scale: int  # the number that is drawn at full height

    @property
    def count(self) -> int:
        return self.production + self.other

    @property
    def address(self) -> str:
        return self.filters.address

    @property
    def words(self) -> str:
        """“Week of 30 Nov 2026: 3 certificates, 1 in production”."""
        words = ngettext("%(n)d certificate", "%(n)d certificates", self.count) % {"n": self.count}
        return _("%(week)s: %(certificates)s, %(n)d in production") % {
            "week": self.title,
            "certificates": words,
            "n": self.production,
        }

    @property
    def label(self) -> str:
        return str(self.count) if self.count < 1000 else f"{self.count / 1000:.0f}k"

    @property
    def middle(self) -> float:
        return self.x + BAR / 2

    @property
    def height(self) -> int:
        return min(HIGHEST, max(LEAST, round(HIGHEST * self.count / self.scale)))

    @property
    def top(self) -> int:
        return FLOOR - self.height

    @property
    def above(self) -> int:
        """Where the number stands."""
        return self.top - 4

    @property
    def lower(self) -> int:
        """The height of production's part: something of both is seen where there are both."""
        if not (self.production and self.other):
            return self.height if self.production else 0
        return min(self.height - 2, max(2, round(self.height * self.production / self.count)))

    @property
    def upper(self) -> int:
        return self.height - self.lower

    @property
    def lower_top(self) -> int:
        return FLOOR - self.lower


@dataclass(frozen=True)
class Strip:
    """`stacks` are those that hold something, what expired already first; `months` where each begins, and its name."""

    stacks: list[Stack]
    months: list[tuple[int, str]]
    width = WIDTH
    height = HEIGHT
    floor = FLOOR
    middle_of_expired = LEFT + BAR / 2

    @property
    def count(self) -> int:
        """Those that are yet to expire."""
        return sum(stack.count for stack in self.stacks if stack.filters.expiry != "expired")

    @property
    def expired(self) -> int:
        return sum(stack.count for stack in self.stacks) - self.count


def strip(environments: Collection[Environment], now: datetime | None = None) -> Strip:
    """Of these environments: one query."""
    now = now or timezone.now()
    monday = _monday(now)
    days = [monday + number * A_WEEK for number in range(WEEKS + 1)]
    counted = _counted(environments, [now, *(begin_of(day) for day in days[1:])])
    highest = max((sum(n) for place, n in counted.items() if place), default=1)
    stacks = []
    for place, (production, other) in sorted(counted.items()):
        if place == 0:
            title, tone, x = _("Expired already"), "bad", LEFT
            filters = Filters(expiry="expired", state="enabled")
        else:
            day = days[place - 1]
            title = _("Week of %(day)s") % {"day": date_format(day, "j M Y")}
            tone = "warn" if begin_of(day) < now + EXPIRES_SOON else "good"
            x = _x_of(place - 1)
            until = day + A_WEEK - timedelta(days=1)
            # This week has passed in part.
            since, expiry = (None, "valid") if place == 1 else (day, "")
            filters = Filters(expiry=expiry, since=since, until=until, state="enabled")
        stacks.append(Stack(title, filters, tone, production, other, x, highest))
    return Strip(stacks, _months(days))


def _counted(environments: Collection[Environment], bounds: Sequence[datetime]) -> dict[int, tuple[int, int]]:
    """(in production, elsewhere) by place: 0 for what ended by the first bound, n for what ends between the n-th and
    the next."""
    # Sorted into halves and their halves again, so that no row is compared with all of the bounds.
    ended = Case(
        When(expires_at__lte=bounds[0], then=Value(0)),
        default=_halved(bounds[1:], 1),
        output_field=IntegerField(),
    )
    in_production = Q(environment__in=[place.pk for place in environments if place.production])
    rows = (
        ClientCertificate.objects.filter(
            environment__in=[place.pk for place in environments],
            removed_at=None,
            enabled=True,
            expires_at__lt=bounds[-1],
        )
        .order_by()
        .values(ended=ended)
        .annotate(n=Count("pk"), production=Count("pk", filter=in_production))
    )
    return {row["ended"]: (row["production"], row["n"] - row["production"]) for row in rows}


def _halved(bounds: Sequence[datetime], first: int) -> Combinable:
    """`first` for what ends before the first of these bounds, one more for each that it does not."""
    if len(bounds) == 1:
        return Value(first)
    half = len(bounds) // 2
    return Case(
        When(expires_at__lt=bounds[half - 1], then=_halved(bounds[:half], first)),
        default=_halved(bounds[half:], first + half),
        output_field=IntegerField(),
    )


def _monday(now: datetime) -> date:
    today = timezone.localtime(now).date()
    return today - timedelta(days=today.weekday())


def _x_of(week: int) -> int:
    return LEFT + STEP + GAP + week * STEP


def _months(days: Sequence[date]) -> list[tuple[int, str]]:
    """A month begins in the week that has its first day; January says its year."""
    named = []
    for week, day in enumerate(days[:-1]):
        end = day + timedelta(days=6)
        if (week == 0 and end.day > 14) or end.day <= 7:
            named.append((_x_of(week), date_format(end, "M Y" if end.month == 1 else "M")))
    # Where this month is over at once, there is no room for its name.
    return named[1:] if named[1][0] - named[0][0] < 2 * STEP else named
