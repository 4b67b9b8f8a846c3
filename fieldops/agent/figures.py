"""How one model answered: counts since the agent started, latencies of the last minute."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from fieldops.fleet import Serving

SPAN_S = 60.0
LEAST = 10  # answers below which a percentile says nothing
RESTED = frozenset({"thermal", "battery", "power", "load", "setting", "no_time"})
MOST = 6000  # kept answers; at a higher rate the minute is cut short


WORTH = 64  # answers from which on a version is compared with the one before it
SLOWER = 3.0  # times as long for the same programs, and
UNSURE = 0.5  # times as sure, is worse than any release means to be


def _figure(value: float | None, digits: int = 1) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Lately:
    """How a version answered the programs of this device. None: too few answers."""

    p95_ms: float | None = None
    confidence: float | None = None


def percentile(rising: list[float], share: float) -> float:
    """Nearest rank: the smallest value that `share` (0..1) of the sorted values do not exceed."""
    return rising[max(0, min(len(rising) - 1, int(-(-share * len(rising) // 1)) - 1))]


def latency_bin(ms: float) -> str:
    """The k of (1.1^(k-1), 1.1^k] ms."""
    return str(math.ceil(math.log(max(ms, 1e-6)) / math.log(1.1)))


class Figures:
    """now is the loop's monotonic time in seconds."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.routes: Counter[str] = Counter()
        self.latency: Counter[str] = Counter()
        self.rested: Counter[str] = Counter()  # why the large model was not asked though the core was unsure
        self._answers: deque[tuple[float, float]] = deque(maxlen=MOST)
        self._since: float | None = None
        self.version_requests = 0
        self.version_failed = 0
        self._sure: deque[float] = deque(maxlen=4 * WORTH)
        self.before = Lately()  # of the version that answered until this one did

    def restart(self) -> None:
        """Another version answers: its latencies are told apart; the counts go on."""
        self.before = self.lately()
        self._answers.clear()
        self._sure.clear()
        self._since = None
        self.version_requests = self.version_failed = 0

    @property
    def failed_share(self) -> float:
        """0..1 of the requests that the version in service was asked."""
        return self.version_failed / self.version_requests if self.version_requests else 0.0

    def lately(self) -> Lately:
        rising = sorted(ms for _, ms in self._answers)
        return Lately(
            p95_ms=percentile(rising, 0.95) if len(rising) >= WORTH else None,
            confidence=sum(self._sure) / len(self._sure) if len(self._sure) >= WORTH else None,
        )

    def worse(self, ceiling_ms: float, baseline_p50_ms: float | None) -> str:
        """`latency` or `confidence` when the version in service fails its programs, against the one before it; else "".

        Slow is only what is above the signed ceiling as well. Without a version before it, its own baseline stands for it.
        """
        now, before = self.lately(), self.before
        usual = before.p95_ms if before.p95_ms is not None else baseline_p50_ms
        if now.p95_ms is not None and usual is not None and now.p95_ms > max(ceiling_ms, SLOWER * usual):
            return "latency"
        if now.confidence is not None and before.confidence is not None and now.confidence < UNSURE * before.confidence:
            return "confidence"
        return ""

    def compared(self, sign: str, ceiling_ms: float) -> str:
        """In words, for the journal."""
        now, before = self.lately(), self.before
        if sign == "confidence":
            return f"mean confidence {_figure(now.confidence, 2)}; {_figure(before.confidence, 2)} of the version before"
        return f"p95 {_figure(now.p95_ms)} ms; {_figure(before.p95_ms)} ms of the version before; {ceiling_ms:.1f} ms are signed"

    def answer(self, now: float, ms: float, route: str, why: str = "", confidence: float | None = None) -> None:
        self.requests += 1
        self.version_requests += 1
        self.routes[route] += 1
        if why in RESTED:
            self.rested[why] += 1
        self._since = now if self._since is None else self._since
        self._answers.append((now, ms))
        if confidence is not None and math.isfinite(confidence):
            self._sure.append(confidence)
        self.latency[latency_bin(ms)] += 1

    def failure(self, now: float) -> None:
        self.requests += 1
        self.failed += 1
        self.version_requests += 1
        self.version_failed += 1
        self._since = now if self._since is None else self._since

    def serving(self, model: str, version: str, now: float, baseline_p50_ms: float | None) -> Serving:
        while self._answers and self._answers[0][0] < now - SPAN_S:
            self._answers.popleft()
        rising = sorted(ms for _, ms in self._answers)
        span = min(SPAN_S, max(1.0, now - (self._since if self._since is not None else now)))
        enough = len(rising) >= LEAST
        return Serving(
            model=model,
            version=version,
            requests=self.requests,
            failed=self.failed,
            rate_per_s=len(rising) / span,
            p50_ms=percentile(rising, 0.50) if enough else None,
            p95_ms=percentile(rising, 0.95) if enough else None,
            baseline_p50_ms=baseline_p50_ms,
            routes=dict(self.routes),
            rested=dict(self.rested),
        )
