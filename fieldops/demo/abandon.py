"""A technician whose laptop dies: `python -m fieldops.demo.abandon HOME DEVICE MODEL@VERSION STICK TRIAL_S`.

Begins a sideload by the same operations as CLI and console, without its commit. When the trial runs it prints one JSON line
and waits; the tour then kills it without warning.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fieldops.operations import sideload
from fieldops.operations.gate import Words
from fieldops.wiring import Laptop

LIMIT_S = 60.0


def main() -> None:
    home, name, ref, stick, trial_s = sys.argv[1:6]
    with Laptop.open(Path(home)) as laptop:
        deadline = laptop.deadline(LIMIT_S)
        words = Words(reason="tour: the laptop dies during this trial")
        bundle = sideload.fetch(laptop.gate(), laptop.trust, laptop.media.at(stick), ref, deadline, words=words)
        with laptop.connect(laptop.inventory().find(name), deadline) as device:
            planned = sideload.plan(laptop.trust, device, bundle, deadline, trial_s=int(trial_s), commit=False)
            records = sideload.run(laptop.gate(), device, planned, deadline, words=words)
            sys.stdout.write(json.dumps({"trial": records[-1].version}) + "\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main()
