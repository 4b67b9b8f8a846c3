"""`python -m benchmarks [SECTION...] [--json]`: every bar beside its peer, and whether it is met. It reports; it never gates."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from benchmarks.bars import Bar

SECTIONS = ("startup", "console", "drift", "cascade", "serving", "agent", "audit", "central", "trust", "links")


def amount(seconds: float, unit: str = "s") -> str:
    if unit == "B":
        return f"{seconds / 1e6:.1f} MB"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def row(bar: Bar) -> str:
    sign = ">=" if bar.at_least else "<="
    limit = f"{sign} {bar.limit:g}x" if bar.limit is not None else "-"
    met = {True: "met", False: "MISSED", None: "-"}[bar.met]
    left = f"{bar.what:<36}{amount(bar.ours_s, bar.unit):>10}  {bar.peer_is:<26}{amount(bar.peer_s, bar.unit):>10}"
    return f"{left}{bar.ratio:>8.2f}x  {limit:<9}{met:<7} {bar.note}".rstrip()


def document(bar: Bar) -> dict[str, object]:
    return {
        "what": bar.what,
        "peer": bar.peer_is,
        "ours_s": bar.ours_s,
        "peer_s": bar.peer_s,
        "ratio": bar.ratio,
        "limit": bar.limit,
        "met": bar.met,
        "note": bar.note,
        "unit": bar.unit,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: list[Bar] = []
    if not arguments.json:
        print(f"{'WHAT':<36}{'OURS':>10}  {'PEER':<26}{'PEER':>10}{'RATIO':>9}  {'BAR':<9}MET")
    for section in arguments.section or SECTIONS:
        for bar in importlib.import_module(f"benchmarks.{section}").bars():
            found.append(bar)
            if not arguments.json:
                print(row(bar), flush=True)
    if arguments.json:
        print(json.dumps({"schema": "fieldops.benchmarks/v1", "bars": [document(bar) for bar in found]}, indent=1))
    else:
        print(f"\n{sum(bar.met is True for bar in found)} met, {sum(bar.met is False for bar in found)} missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
