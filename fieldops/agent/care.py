"""Steps that look after what is there, beside the transaction: room on the disk, figures, settings."""

from __future__ import annotations

import threading

from fieldops.agent.answering import Answering
from fieldops.agent.arming import arm, disarm
from fieldops.agent.device import Device
from fieldops.agent.measuring import bench
from fieldops.agent.pruning import prune
from fieldops.agent.recalibrating import Labelled, no_samples, recalibrate
from fieldops.agent.tuning import set_tiers
from fieldops.errors import DeviceCannot
from fieldops.steps import Arm, Bench, Care, Disarm, Prune, Recalibrate, SetTiers
from fieldops.wire import StepRecord


class Caring:
    """Runs on the transaction's thread. hurry: set when a revert waits."""

    def __init__(self, device: Device, answering: Answering, hurry: threading.Event) -> None:
        self._device = device
        self._answering = answering
        self._hurry = hurry
        self.labelled: Labelled = no_samples

    def take(self, record: StepRecord, step: Care, actor: str) -> None:
        """Raises DeviceCannot."""
        slot = self._answering.slot(step.model)
        match step:
            case Prune():
                prune(self._device, record, step, slot, actor)
            case SetTiers():
                set_tiers(self._device, record, step, slot, actor)
            case Recalibrate():
                recalibrate(self._device, record, step, slot, actor, self.labelled)
            case Arm():
                arm(self._device, record, step, slot, actor)
            case Disarm():
                disarm(self._device, record, step, slot, actor)
            case Bench():
                if slot.answering is None:
                    raise DeviceCannot(
                        f"{slot.model} has no version to measure", reason="nothing_to_measure", next_step="stage one first"
                    )
                installed = self._answering.installed(slot.model, slot.answering)
                bench(self._device, record, step, installed, actor, self._hurry)
