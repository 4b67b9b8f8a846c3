"""The main job without a screen: every step goes through the operations that console and CLI use, and checks what it claims.

A step that fails is told and the others still run, but for those that need what it would have left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fieldops.deadline import CancelToken
from fieldops.demo import tour_changes, tour_looks, tour_record
from fieldops.demo.documents import StepResult
from fieldops.demo.fleet import Fleet
from fieldops.demo.report import Report
from fieldops.demo.scene import NotSo, Scene
from fieldops.errors import Cancelled, CheckFailed, FieldopsError

FAILED = CheckFailed.exit_code

Step = Callable[[Scene], str]

STEPS: dict[str, Step] = {
    "discover": tour_looks.discover,
    "connect-ssh": tour_looks.connect_ssh,
    "connect-lan": tour_looks.connect_lan,
    "resources": tour_looks.resources,
    "drift": tour_looks.drift,
    "benchmark": tour_changes.benchmark,
    "stick-verify": tour_changes.stick_verify,
    "stick-tampered-refused": tour_changes.stick_tampered,
    "sideload": tour_changes.sideload,
    "degraded-reverts": tour_changes.degraded,
    "laptop-dies-reverts": tour_changes.laptop_dies,
    "runbook-rollback": tour_changes.runbook_rollback,
    "visit-close": tour_record.visit_close,
    "sync": tour_record.sync,
    "audit-verify": tour_record.audit_verify,
}
NEEDS = {"runbook-rollback": "sideload"}


def walk(fleet: Fleet, report: Report, token: CancelToken) -> tuple[StepResult, ...]:
    """All steps in order. Raises Cancelled."""
    scene = Scene(fleet, token)
    results: dict[str, StepResult] = {}
    for name, step in STEPS.items():
        report.begin(name)
        results[name] = _take(name, step, scene, results)
        report.end(results[name])
    return tuple(results.values())


def _take(name: str, step: Step, scene: Scene, before: dict[str, StepResult]) -> StepResult:
    needed = NEEDS.get(name)
    if needed is not None and not before[needed].ok:
        return StepResult(id=name, ok=False, seconds=0.0, detail=f"not run: {needed} failed")
    began = time.monotonic()
    try:
        detail, ok = step(scene), True
    except Cancelled:
        raise
    except FieldopsError as error:
        detail, ok = f"{error.reason}: {error}. Next: {error.next_step}", False
    except (NotSo, OSError) as error:
        detail, ok = str(error), False
    return StepResult(id=name, ok=ok, seconds=round(time.monotonic() - began, 2), detail=detail)
