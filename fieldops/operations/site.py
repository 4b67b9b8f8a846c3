"""The site server: whatever it has that is newer is taken before a stick is judged, and nobody waits where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fieldops.audit.entry import Result, Subject
from fieldops.deadline import Deadline
from fieldops.errors import FieldopsError, LinkFault, TrustRefused
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Media, Source, Trust

PROBE_S = 3.0
REFRESH_S = 15.0
_AWAY = frozenset({"io_error", "missing"})


@dataclass(frozen=True, slots=True)
class Heard:
    """source: the server, when its metadata is ours now, or no newer. error: why it was left out; work goes on without it."""

    source: Source | None = None
    error: FieldopsError | None = None


def hear(gate: Callable[[], Gate], trust: Trust, media: Media, deadline: Deadline, words: Words = Words()) -> Heard:
    """Bounded by PROBE_S where nothing answers. What a server offers and nobody signed is refused and noted in the log.

    Raises DeadlinePassed and Cancelled for the caller's own deadline, and StorageFault.
    """
    try:
        source = media.site(deadline.within(PROBE_S))
        if source is not None:
            trust.refresh(source, deadline.within(REFRESH_S))
    except TrustRefused as error:
        if error.reason not in _AWAY:
            refused = Result(status="refused", code=error.exit_code, reason=error.reason, detail=error.message)
            gate().note("site.refresh", subject=Subject(kind="trust", name="site server"), result=refused, words=words)
        return Heard(error=error)
    except LinkFault as error:
        deadline.check("the site server")
        return Heard(error=error)
    return Heard(source=source)
