"""The agents, laptops and stick of tests/agent, and where crash tests find what a device was left with."""

from __future__ import annotations

from tests.agent.conftest import (  # noqa: F401 - fixtures
    device,
    flashed,
    images,
    laptop,
    make_agent,
    make_device,
    make_laptop,
    release,
    short_folder,
)
