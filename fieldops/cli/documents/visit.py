"""Before a visit. What one leaves is operations.visit.VisitReport."""

from __future__ import annotations

from fieldops.cli.documents import Document
from fieldops.operations.readiness import Finding


class VisitReadiness(Document, frozen=True, kw_only=True, tag="fieldops.visit-readiness/v1"):
    """until: Unix seconds up to which everything was asked to hold."""

    ready: bool
    until: float
    findings: list[Finding]


class SampleKey(Document, frozen=True, kw_only=True, tag="fieldops.sample-key/v1"):
    """public_key: what goes into `sample_recipients` of the policy."""

    file: str
    public_key: str


class SamplesOpened(Document, frozen=True, kw_only=True, tag="fieldops.samples-opened/v1"):
    """unreadable: sealed for other keys, or damaged."""

    file: str
    samples: int
    unreadable: int
