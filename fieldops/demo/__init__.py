"""The sample fleet: real agents, real SSH, real inference, scripted conditions."""

from __future__ import annotations

from pathlib import Path


def run(*, tour: bool, serve: bool, devices: int | None, dir: Path | None, json: bool) -> int:  # noqa: A002 - the option's name
    """`fieldops demo`. Returns the exit code of DESIGN §10; raises FieldopsError."""
    from fieldops.demo.show import show

    return show(tour=tour, serve=serve, devices=devices, folder=dir, json=json)
