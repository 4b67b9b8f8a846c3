"""Signed procedures and their runs."""

from __future__ import annotations

from fieldops.cli.documents import Document, Part


class RunbookItem(Part, frozen=True, kw_only=True):
    id: str
    title: str
    params: list[str]
    sha256: str


class Runbooks(Document, frozen=True, kw_only=True, tag="fieldops.runbooks/v1"):
    runbooks: list[RunbookItem]


class RunbookCheck(Document, frozen=True, kw_only=True, tag="fieldops.runbook-check/v1"):
    """runbook: an id, or the path of a draft."""

    runbook: str
    ok: bool
    faults: list[str]


class RunbookLine(Part, frozen=True, kw_only=True):
    """ok null: begun, outcome unknown; in a plan: not begun."""

    id: str
    what: str
    ok: bool | None


class RunbookPlan(Document, frozen=True, kw_only=True, tag="fieldops.runbook-plan/v1"):
    runbook: str
    params: dict[str, str]
    requires: list[str]
    steps: list[str]


class RunbookRun(Document, frozen=True, kw_only=True, tag="fieldops.runbook-run/v1"):
    """outcome null: the run is not over."""

    run: str
    runbook: str
    params: dict[str, str]
    outcome: str | None
    steps: list[RunbookLine]
    at: str
    reason: str
    message: str


class RunbookRuns(Document, frozen=True, kw_only=True, tag="fieldops.runbook-runs/v1"):
    runs: list[str]
