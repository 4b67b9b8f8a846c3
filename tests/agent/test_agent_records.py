"""How a fault on the device reads on the laptop."""

from __future__ import annotations

import pytest

from fieldops.agent.records import ended
from fieldops.agent.replies import status_of
from fieldops.errors import (
    CheckFailed,
    DeviceCannot,
    FieldopsError,
    NeedsPerson,
    NotAuthorised,
    PolicyRefused,
    StorageFault,
    TrustRefused,
    UsageFault,
)
from fieldops.wire import StepRecord

RUNNING = StepRecord(step_id="x", kind="Stage", state="running")
NEXT = "do it"


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (DeviceCannot("", reason="ram", next_step=NEXT), "failed", 6),
        (StorageFault("", reason="disk_full", next_step=NEXT), "failed", 6),
        (TrustRefused("", reason="expired", next_step=NEXT), "refused", 3),
        (PolicyRefused("", reason="policy", next_step=NEXT), "refused", 4),
        (NeedsPerson("", reason="last_good_failed", next_step=NEXT), "needs_human", 10),
        (UsageFault("", next_step=NEXT), "failed", 2),
    ],
)
def test_the_device_s_own_disk_is_the_device_s_fault_and_every_reason_keeps_its_code(
    error: FieldopsError, state: str, code: int
) -> None:
    record = ended(RUNNING, error, 1.0)
    assert (record.state, record.exit, record.next, record.finished) == (state, code, NEXT, 1.0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAuthorised("", reason="not_enrolled", next_step=NEXT), 401),
        (UsageFault("", reason="bad_signature", next_step=NEXT), 401),
        (UsageFault("", reason="malformed", next_step=NEXT), 400),
        (UsageFault("", reason="oversized", next_step=NEXT), 413),
        (UsageFault("", reason="unknown_step", next_step=NEXT), 404),
        (PolicyRefused("", reason="policy", next_step=NEXT), 403),
        (TrustRefused("", reason="hash_mismatch", next_step=NEXT), 403),
        (CheckFailed("", reason="fork", next_step=NEXT), 409),
        (DeviceCannot("", reason="busy", next_step=NEXT), 409),
        (DeviceCannot("", reason="disk_full", next_step=NEXT), 507),
    ],
)
def test_every_reason_has_its_http_status(error: FieldopsError, status: int) -> None:
    assert status_of(error) == status
