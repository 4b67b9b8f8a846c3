"""The plant that the demo plays: meter-reading cameras, how each is reached, and what is the matter with it.

The first eight show one condition each; a larger plant gets more healthy devices, half on either kind of link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldops.errors import UsageFault

Reach = Literal["ssh", "lan", "bare", "off"]
Condition = Literal["healthy", "shifted-inputs", "throttled", "quota-full", "foreign-model", "no-agent", "switched-off"]

SMALLEST = 1
DEFAULT = 8
LARGEST = 24
DEVICE_CLASS = "meter-camera"


@dataclass(frozen=True, slots=True)
class Camera:
    """One device. reach "lan": enrolled over SSH, then reached on the LAN port; "bare": SSH without an agent."""

    name: str
    site: str
    reach: Reach
    condition: Condition

    @property
    def has_agent(self) -> bool:
        return self.reach in {"ssh", "lan"}

    @property
    def has_ssh(self) -> bool:
        return self.reach != "off"

    @property
    def enrolled_at_start(self) -> bool:
        """A foreign model stands on a device that nobody has enrolled yet."""
        return self.has_agent and self.condition != "foreign-model"


_FIRST = (
    Camera("meter-01", "boilers", "ssh", "healthy"),
    Camera("meter-02", "boilers", "lan", "healthy"),
    Camera("meter-03", "pump hall", "ssh", "shifted-inputs"),
    Camera("meter-04", "pump hall", "lan", "throttled"),
    Camera("meter-05", "pump hall", "ssh", "quota-full"),
    Camera("meter-06", "gate", "ssh", "foreign-model"),
    Camera("meter-07", "gate", "bare", "no-agent"),
    Camera("meter-08", "gate", "off", "switched-off"),
)


def cameras(count: int) -> tuple[Camera, ...]:
    """The plant of that size. Raises UsageFault outside 1..24."""
    if not SMALLEST <= count <= LARGEST:
        raise UsageFault(
            f"a sample fleet of {count} devices",
            reason="devices",
            next_step=f"choose --devices from {SMALLEST} to {LARGEST}",
        )
    more = (
        Camera(f"meter-{number:02}", "filter hall", "lan" if number % 2 == 0 else "ssh", "healthy")
        for number in range(len(_FIRST) + 1, LARGEST + 1)
    )
    return (*_FIRST, *more)[:count]
