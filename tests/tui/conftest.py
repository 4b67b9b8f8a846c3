"""A laptop made of values: implements tui.site.Site, answers at once, and notes what it was asked to change."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from textual.pilot import Pilot

from fieldops.audit.entry import Entry, Phase, Result, Subject
from fieldops.bundles.manifest import Manifest, Objectives, Rule
from fieldops.deadline import CancelToken, Deadline
from fieldops.drift.cause import Diagnosis, Verdict
from fieldops.drift.shift import Compared, FeatureShift
from fieldops.errors import FieldopsError, StoreFault, TrustRefused, Unreachable
from fieldops.fleet import DeviceEntry, DeviceId, Inventory, Resources, Serving, parse_address, parse_ssh_address
from fieldops.operations.discover import Found
from fieldops.operations.gate import Words
from fieldops.operations.hostkeys import OfferedKey, judge
from fieldops.operations.inventory import entry_of
from fieldops.operations.observe import Snapshot
from fieldops.operations.rollback import RollbackPlan
from fieldops.operations.runbook import RunReport
from fieldops.operations.sideload import Planned, SideloadPlan, window_of
from fieldops.operations.sync import SyncReport, SyncStatus
from fieldops.operations.trail import TrailReport
from fieldops.policy import Decision
from fieldops.ports import Candidate, OnProgress, Progress, Question, TrustedBundle
from fieldops.runbooks.engine import Action, Fact, resolve
from fieldops.runbooks.format import Runbook, parse
from fieldops.steps import Activate, Approval, Arm, Bench, Commit, Revert, RotateTrust, Stage, Step
from fieldops.tui.app import Console
from fieldops.tui.glyphs import ASCII, BLOCKS, Glyphs
from fieldops.tui.prompts import Asker
from fieldops.tui.site import Enrolment, Glass, VisitClosed
from fieldops.wire import (
    BenchBaseline,
    BenchResult,
    Check,
    JournalEntry,
    ModelsReport,
    SlotState,
    SlotStatus,
    StepRecord,
    VersionInfo,
)

NOW = 1_795_000_000.0
BOOK = Path(__file__).parents[2] / "sample_fleet" / "runbooks" / "rollback-model" / "runbook.yaml"
GIB = 1 << 30


def device_id(number: int) -> DeviceId:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return DeviceId(letters[number % 32] + letters[number // 32 % 32] + "q7" * 25)


def resources(*, cpu: float | None = 41, temp: float | None = 58, throttled: bool | None = False, p50: float = 0.42) -> Resources:
    return Resources(
        read_at=NOW,
        boot_id="b",
        uptime_s=86_000,
        cpu_count=4,
        cpu_pct=cpu,
        load_1m=1.2,
        mem_total_bytes=4 * GIB,
        mem_available_bytes=int(1.5 * GIB),
        disk_total_bytes=64 * GIB,
        disk_free_bytes=31 * GIB,
        quota_bytes=2 * GIB,
        quota_used_bytes=GIB // 2,
        soc_temp_c=temp,
        temp_limit_c=85,
        throttled=throttled,
        throttle_reason="heat: clock 1.9 to 1.1 GHz" if throttled else "",
        clock_mhz=1100 if throttled else 1900,
        clock_max_mhz=1900,
        power_w=11.8,
        serving=[
            Serving(
                model="digits",
                version="1.0.0",
                requests=5120,
                failed=0,
                rate_per_s=21.4,
                p50_ms=p50,
                p95_ms=p50 * 2,
                baseline_p50_ms=0.40,
                routes={"core": 4800, "large": 320},
            )
        ],
    )


def models(*, state: SlotState = "settled", reason: str = "committed") -> ModelsReport:
    versions = [
        VersionInfo(
            version="1.0.0", counter=1, manifest_sha256="9f31c2aa" * 8, size_bytes=412_000, role="active", signed_by="stable"
        ),
        VersionInfo(
            version="0.9.0", counter=0, manifest_sha256="77aa01bb" * 8, size_bytes=398_000, role="last_good", signed_by="stable"
        ),
    ]
    if state == "trial":
        versions.append(
            VersionInfo(
                version="1.1.0",
                counter=2,
                manifest_sha256="c0ffee00" * 8,
                size_bytes=431_000,
                role="candidate",
                signed_by="stable",
            )
        )
    slot = SlotStatus(
        model="digits",
        task="digits-8x8",
        state=state,
        active="1.0.0",
        last_good="0.9.0",
        candidate="1.1.0" if state == "trial" else None,
        floor=1,
        deadline_s=251.0 if state == "trial" else None,
        reason=reason,
        since=NOW - 600,
        versions=versions,
        checks=[
            Check(name="golden", ok=True, measured="accuracy 0.972 of 256", limit=">= 0.950"),
            Check(name="latency", ok=True, measured="p95 0.81 ms", limit="<= 5.00 ms"),
            Check(name="memory", ok=True, measured="38 MiB", limit="<= 128 MiB"),
        ],
    )
    return ModelsReport(read_at=NOW, slots=[slot])


def shift(name: str, statistic: float, *, shifted: bool) -> FeatureShift:
    history = tuple(statistic * k / 12 for k in range(1, 13))
    newest = Compared(statistic=statistic, threshold=0.12, lean=0.4, strays=0.01, strays_before=0.0, strays_fire=False)
    return FeatureShift(
        name=name, statistic=statistic, threshold=0.12, shifted=shifted, history=history, fired=3 if shifted else 0, newest=newest
    )


def diagnosis(verdict: Verdict, *evidence: str) -> Diagnosis:
    moved = verdict in {"data", "both"}
    features = (
        shift("input.mean", 0.31 if moved else 0.03, shifted=moved),
        shift("output.confidence", 0.18 if moved else 0.02, shifted=moved),
        shift("input.std", 0.04, shifted=False),
    )
    labels = {"data": {"data"}, "hardware": {"hardware"}, "both": {"data", "hardware"}}.get(verdict, set())
    return Diagnosis(
        model="digits", version="1.0.0", verdict=verdict, labels=frozenset(labels), evidence=evidence, features=features, n=2048
    )


def entry(number: int, name: str, site: str = "north") -> DeviceEntry:
    return DeviceEntry(
        name=name,
        site=site,
        device_class="arm64-4g",
        ssh=parse_ssh_address(f"tech@10.0.4.{number + 1}"),
        id=device_id(number),
        tags=("line-1",),
    )


def healthy(which: DeviceEntry) -> Snapshot:
    return Snapshot(
        entry=which,
        link="ssh",
        state="OK",
        reasons=(),
        resources=resources(),
        models=models(),
        drift=(diagnosis("ok", "no feature moved"),),
        seen_at=NOW - 2,
    )


def fleet() -> dict[str, Snapshot]:
    """24 devices; three are ill in different ways, one is away, one is on trial."""
    found = {
        name: healthy(entry(n, name, ("north", "south", "east")[n % 3]))
        for n, name in enumerate(f"cam-{k:04d}" for k in range(1, 20))
    }
    hot = entry(20, "cam-hot")
    found["cam-hot"] = Snapshot(
        entry=hot,
        link="lan",
        state="WARN",
        reasons=("throttled (heat: clock 1.9 to 1.1 GHz)", "digits slow", "digits: hardware drift"),
        resources=resources(cpu=93, temp=84, throttled=True, p50=1.12),
        models=models(),
        drift=(
            diagnosis(
                "hardware",
                "p50 1.12 ms is 2.8 times this device's own baseline",
                "throttled: heat",
                "inputs as at release (0.03 < 0.12)",
            ),
        ),
        seen_at=NOW - 3,
    )
    data = entry(21, "press-07", "south")
    found["press-07"] = Snapshot(
        entry=data,
        link="ssh",
        state="WARN",
        reasons=("digits: data drift",),
        resources=resources(),
        models=models(),
        drift=(
            diagnosis(
                "data",
                "input.mean moved: 0.31 > 0.12, higher than at release",
                "golden set passes on the device",
                "p50 as the baseline",
            ),
        ),
        seen_at=NOW - 1,
    )
    away = entry(22, "gate-11", "east")
    found["gate-11"] = Snapshot(
        entry=away,
        link="-",
        state="OFF",
        reasons=("unreachable",),
        error=Unreachable(
            "no connection to 10.0.4.23:22 (tcp)",
            phase="tcp",
            next_step="check the cable and the power of the device",
            device="gate-11",
        ),
    )
    trial = entry(23, "gate-12", "east")
    found["gate-12"] = Snapshot(
        entry=trial,
        link="ssh",
        state="WARN",
        reasons=("digits on trial",),
        resources=resources(),
        models=models(state="trial", reason="validated"),
        drift=(diagnosis("unknown"),),
        seen_at=NOW - 2,
    )
    broken = entry(24, "oven-03", "south")
    found["oven-03"] = replace(
        healthy(broken),
        state="FAIL",
        reasons=("digits needs a person",),
        models=models(state="needs_human", reason="last-good failed its golden set"),
    )
    return found


class NoPayload:
    def metadata(self) -> dict[str, bytes]:
        return {}

    def open(self, sha256: str) -> BinaryIO:
        return BytesIO(sha256.encode())


def record(step: Step, **changes: object) -> StepRecord:
    checks = models().slots[0].checks if isinstance(step, Activate) else []
    done = StepRecord(
        step_id="l.1.7",
        kind=type(step).__name__,
        state="done",
        previous="1.0.0",
        version="1.1.0",
        checks=checks,
        started=NOW,
        finished=NOW + 2,
    )
    return replace_struct(done, changes)


def replace_struct(value: StepRecord, changes: dict[str, object]) -> StepRecord:
    import msgspec

    return msgspec.structs.replace(value, **changes)


@dataclass
class ValueSite:
    """hold: while set, a change waits (to look at it running); fault: what the next change meets."""

    snapshots: dict[str, Snapshot] = field(default_factory=fleet)
    entries: list[Entry] = field(default_factory=list)
    acked: int = 0
    offline: bool = True
    demo: bool = False
    allowed: bool = True
    changes: list[tuple[str, Step, str]] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)
    fault: FieldopsError | None = None
    asked_up: int = 0
    clock_offset: float = 0.0
    known: Inventory | None = None  # another list than that of the snapshots
    broken: list[tuple[str, ...]] = field(default_factory=list)
    written: list[tuple[str, ...]] = field(default_factory=list)
    measured: list[tuple[float, BenchResult]] = field(default_factory=list)
    logged: list[str] = field(default_factory=lambda: ["12:00:01 started", "12:00:02 WARNING slow clock", "12:00:03 ready"])
    copied: str = ""
    asker: Asker | None = None
    said: list[str] = field(default_factory=list)
    offered: OfferedKey = field(
        default_factory=lambda: OfferedKey("ssh-ed25519", b"k", "SHA256:" + "abcd" * 10 + "XYZ", "unknown")
    )
    trusted: list[tuple[str, ...]] = field(default_factory=list)
    enrolled: list[tuple[str, str, str, bool]] = field(default_factory=list)
    book: Runbook = field(default_factory=lambda: parse(BOOK.read_bytes(), "runbook.yaml"))
    closed: list[tuple[tuple[str, ...], str, bool]] = field(default_factory=list)
    run_reports: list[RunReport] = field(default_factory=list)

    is_demo = property(lambda self: self.demo)
    inventory_place = "/home/me/fieldops/fleet.toml"
    inventory_fault: FieldopsError | None = None

    def now(self) -> float:
        return NOW + self.clock_offset

    def monotonic(self) -> float:
        return time.monotonic()

    def deadline(self, seconds: float, cancel: CancelToken) -> Deadline:
        return Deadline.after(seconds, time.monotonic, cancel)

    def actor(self) -> str:
        return "person:SHA256:k1M"

    def inventory(self) -> Inventory:
        if self.inventory_fault is not None:
            raise self.inventory_fault
        return self.known or Inventory(tuple(snapshot.entry for snapshot in self.snapshots.values()))

    def snapshot(self, entry: DeviceEntry, deadline: Deadline) -> Snapshot:
        while entry.name in self.stuck and not self.release.is_set():
            deadline.check("the device", entry.name)
            deadline.cancel.wait(0.05)
        return self.snapshots[entry.name]

    def candidates(self, deadline: Deadline) -> list[Candidate]:
        deadline.check("the stick")
        stick = "/media/usb0"
        return [
            Candidate(
                "stable", "digits", "1.2.0", 3, 431_000, stick, "hash_mismatch", "core.onnx: sha256 differs from the signed one"
            ),
            Candidate("stable", "digits", "1.1.0", 2, 431_000, stick),
            Candidate("canary", "digits", "1.3.0", 4, 440_000, stick, "expired", "channel canary: expired 3 days ago"),
        ]

    def fetch(
        self, candidate: Candidate, entry: DeviceEntry, deadline: Deadline, progress: OnProgress, glass: Glass | None = None
    ) -> TrustedBundle:
        progress(Progress("verify", 200_000, candidate.size_bytes))
        if candidate.reason == "expired" and glass is not None and len(glass.approvals) == 2:
            self.broken.append((entry.name, candidate.ref, *glass.approvals))
        elif candidate.reason:
            raise TrustRefused(candidate.message, reason=candidate.reason, next_step="get an intact stick from the release team")
        manifest = Manifest(
            v=1, model=candidate.model, task="digits-8x8", version=candidate.version, counter=candidate.counter, owner="release",
            tiers=[], inputs=[], outputs=[], objectives=Objectives(p95_ms=5, memory_bytes=1 << 27), fallback=Rule(label=0, text="none"), files=[],
        )  # fmt: skip
        return TrustedBundle(candidate.channel, manifest, "c0ffee00" * 8, NoPayload(), Path())

    def approvals(self, files: Sequence[str]) -> tuple[Approval, ...]:
        return tuple(Approval(statement="s", signature=file) for file in files)

    def write_statement(self, candidate: Candidate, entry: DeviceEntry, place: str, reason: str, deadline: Deadline) -> str:
        self.written.append((candidate.ref, entry.name, place, reason))
        return place

    def plan_sideload(
        self, entry: DeviceEntry, bundle: TrustedBundle, deadline: Deadline, *, arm: str = "", approvals: Sequence[Approval] = ()
    ) -> SideloadPlan:
        model, version = bundle.manifest.model, bundle.manifest.version
        if arm:
            window = window_of(arm, NOW)
            armed = Arm(model=model, version=version, start=window.start, end=window.end)
            stage = Stage(channel=bundle.channel, model=model, version=version, manifest_sha256=bundle.manifest_sha256)
            return SideloadPlan(entry.name, model, "1.0.0", version, (Planned(stage, NoPayload()), Planned(armed)))
        steps = (
            Planned(RotateTrust(timestamp_version=1_795_000_000), NoPayload()),
            Planned(
                Stage(channel=bundle.channel, model=model, version=version, manifest_sha256=bundle.manifest_sha256), NoPayload()
            ),
            Planned(Activate(model=model, version=version, trial_s=300)),
            Planned(Commit(model=model, version=version)),
        )
        return SideloadPlan(entry.name, model, "1.0.0", version, steps, ("1.0.0 is unsigned; it is kept as last-good",))

    def apply(
        self, entry: DeviceEntry, plan: SideloadPlan, planned: Planned, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        if isinstance(planned.step, Stage):
            progress(Progress("payload", 262_000, 431_000))
        result = self._change(entry, planned.step, words, deadline)
        if isinstance(planned.step, Activate):
            self.snapshots[entry.name] = replace(self.snapshots[entry.name], models=models(state="trial"), state="WARN")
        return result

    def commit(self, entry: DeviceEntry, model: str, version: str, words: Words, deadline: Deadline) -> StepRecord:
        return self._change(entry, Commit(model=model, version=version), words, deadline)

    def plan_rollback(self, entry: DeviceEntry, model: str, to: str | None, deadline: Deadline) -> RollbackPlan:
        deadline.check("the device", entry.name)
        return RollbackPlan(entry.name, model, "1.0.0", to or "0.9.0", Revert(model=model, to=to))

    def rollback(
        self, entry: DeviceEntry, plan: RollbackPlan, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        return self._change(entry, plan.step, words, deadline)

    def perform(self, entry: DeviceEntry, step: Step, words: Words, deadline: Deadline, progress: OnProgress) -> StepRecord:
        return self._change(entry, step, words, deadline)

    def bench(
        self,
        entry: DeviceEntry,
        model: str,
        samples: int,
        words: Words,
        deadline: Deadline,
        progress: OnProgress,
        *,
        save: bool,
    ) -> BenchResult:
        self._change(entry, Bench(model=model, samples=samples, save_baseline=save), words, deadline)
        self.measured.insert(0, (NOW, bench_result(samples)))
        return self.measured[0][1]

    def benches(self, device: str) -> list[tuple[float, BenchResult]]:
        return self.measured

    def logs(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[str]:
        if entry.name in self.stuck:
            raise Unreachable("no connection", phase="tcp", next_step="check the cable", device=entry.name)
        return self.logged

    def acts(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[JournalEntry]:
        return [
            JournalEntry(
                seq=n,
                time=NOW - 600 + n,
                boot_id="b",
                actor="device:x",
                action=action,
                model="digits",
                version="1.0.0",
                reason=why,
            )
            for n, (action, why) in enumerate((("install", "provisioned"), ("revert", "deadline")), 1)
        ]

    def keep_text(self, text: str) -> str:
        self.copied = text
        return "/home/me/fieldops/copied.txt"

    # --- devices that are not known well yet ---

    def log_in(self, entry: DeviceEntry, deadline: Deadline) -> None:
        if self.asker is not None:
            with self.asker.waiting_for(entry.name, deadline):
                said = self.asker.ask(
                    Question(
                        "password", "Password of tech@10.0.4.1", device=entry.name, host="tech@10.0.4.1", host_key="SHA256:abc"
                    )
                )
            self.said.append(said or "")

    def host_key(self, entry: DeviceEntry, expected: str | None, deadline: Deadline) -> OfferedKey:
        deadline.check("the host", entry.name)
        judge(entry, self.offered, expected=expected, replace=expected is None)
        return self.offered

    def trust_host_key(self, entry: DeviceEntry, offered: OfferedKey, words: Words) -> None:
        self.trusted.append((entry.name, offered.fingerprint, words.reason))

    def discover(self, deadline: Deadline) -> tuple[Found, ...]:
        known = self.snapshots["cam-0001"].entry
        stranger = DeviceEntry(name="dev-new", lan=parse_address("192.0.2.7:7443"))
        away = Unreachable("no connection to 192.0.2.7:7443 (tcp)", phase="tcp", next_step="check the cable", device="dev-new")
        return (Found(known, None, away, known=True), Found(stranger, None, away, known=False))

    def add_device(self, typed: Mapping[str, str], words: Words) -> DeviceEntry:
        made = entry_of(typed["name"], typed["ssh"], typed["lan"], site=typed["site"], device_class=typed["class"])
        self.snapshots[made.name] = replace(self.snapshots["cam-0001"], entry=made)
        return made

    def enrol_steps(self, deadline: Deadline) -> list[str]:
        deadline.check("the plan")
        return ["enrol this laptop", "bring signed metadata 7 and the policy"]

    def enrol(
        self,
        entry: DeviceEntry,
        label: str,
        kit: str,
        words: Words,
        deadline: Deadline,
        progress: OnProgress,
        *,
        adopt: bool,
    ) -> Enrolment:
        self.enrolled.append((entry.name, label, kit, adopt))
        return Enrolment(str(entry.id or "a" * 52), "answered after a restart" if kit else "")

    def close_visit(
        self, entries: Sequence[DeviceEntry], words: Words, cancel: CancelToken, progress: OnProgress, *, sync: bool
    ) -> VisitClosed:
        self.closed.append((tuple(entry.name for entry in entries), words.reason, sync))
        return VisitClosed("/home/me/fieldops/visits/1/report.txt", "Visit closed\n\nWarnings\n  digits is armed\n", ("gate-11",))

    # --- runbooks ---

    def runbooks(self) -> list[Runbook]:
        return [self.book]

    def runs(self) -> list[RunReport]:
        return self.run_reports

    def resolve_run(self, runbook: str, typed: str) -> dict[str, str]:
        return resolve(self.book, dict(word.split("=", 1) for word in typed.split()))

    def begin_run(self, runbook: str, params: Mapping[str, str], words: Words) -> str:
        self.run_reports.insert(0, RunReport("r-1", runbook, dict(params), None, (("link", "link.up", True),)))
        return "r-1"

    def go_on_run(
        self, run: str, params: Mapping[str, str], deadline: Deadline, on_action: Callable[[Action, Fact | None], None]
    ) -> RunReport:
        on_action(Action("do", "back", "model.revert", {}), None)
        while "runbook" in self.stuck and not self.release.is_set():
            deadline.check("the device")
            deadline.cancel.wait(0.02)
        steps: tuple[tuple[str, str, bool | None], ...] = (("link", "link.up", True), ("back", "model.revert", True))
        report = RunReport(run, self.book.id, dict(params), "committed", steps)
        self.run_reports = [report if each.run == run else each for each in self.run_reports]
        return report

    def _change(self, entry: DeviceEntry, step: Step, words: Words, deadline: Deadline) -> StepRecord:
        while f"{type(step).__name__}" in self.stuck and not self.release.is_set():
            deadline.check("the device", entry.name)
            deadline.cancel.wait(0.05)
        if self.fault is not None:
            raise self.fault
        self.changes.append((entry.name, step, words.reason))
        return record(step)

    def decide(self, step: Step) -> Decision:
        return Decision(
            self.allowed, "roles.technician", "role technician may do this" if self.allowed else "role viewer may not do this"
        )

    def trail(self, limit: int) -> list[Entry]:
        return self.entries[::-1][:limit]

    def sync_status(self) -> SyncStatus:
        queued = len(self.entries) - self.acked
        return SyncStatus(len(self.entries), self.acked, queued, self.entries[self.acked].time if queued else None)

    def verify_trail(self, deadline: Deadline) -> TrailReport:
        return TrailReport(ok=True, log="fieldops/x/1", size=len(self.entries), root="7c1e09" * 10, problems=())

    def sync(self, deadline: Deadline, progress: OnProgress) -> SyncReport:
        if self.offline:
            raise StoreFault(
                "the central store does not answer", reason="unreachable", next_step="entries stay queued; try again when online"
            )
        pushed, self.acked = len(self.entries) - self.acked, len(self.entries)
        return SyncReport(pushed, 0, self.acked, "00", NOW)

    def bring_up_store(self, deadline: Deadline) -> None:
        self.asked_up += 1
        self.offline = False


def bench_result(samples: int = 256, *, p50: float = 1.2) -> BenchResult:
    before = BenchBaseline(version="1.0.0", p50_ms=0.4, p90_ms=0.6, kernel_ms=2.0, measured=NOW - 90_000)
    return BenchResult(
        model="digits", version="1.0.0", samples=samples, cold_ms=9.0, p50_ms=p50, p90_ms=p50 * 1.5, p99_ms=None,
        rate_per_s=800.0, kernel_ms=2.0, throttled=False, temp_before_c=58, temp_after_c=61, baseline=before,
    )  # fmt: skip


def log_of(count: int) -> list[Entry]:
    """What a visit leaves: pairs of intent and outcome, and refused sticks as notes."""
    acts: tuple[tuple[str, Phase], ...] = (
        ("Stage", "intent"), ("Stage", "outcome"), ("Activate", "intent"), ("Activate", "outcome"), ("stick.verify", "note"),
    )  # fmt: skip
    found = []
    for n in range(1, count + 1):
        act, phase = acts[n % len(acts)]
        refused = act == "stick.verify" and n % 2 == 1
        result = Result(status="refused", code=3, reason="hash_mismatch") if refused else Result(status="done")
        found.append(
            Entry(
                v=1,
                log="fieldops/" + "a" * 52 + "/1",
                seq=n,
                time=NOW - 90_000 + 600 * n,
                mono=1.0,
                boot="b",
                session="1.2",
                actor="person:SHA256:k1M",
                phase=phase,
                act=act,
                of=n - 1 if phase == "outcome" else None,
                device=device_id(20 + n % 3) if act != "stick.verify" else "",
                subject=Subject(kind="model", name="digits", to="1.1.0"),
                reason="drift after the move" if n % 4 == 0 else "",
                decision="roles.technician",
                result=None if phase == "intent" else result,
            )
        )
    return found


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site() -> ValueSite:
    return ValueSite(entries=log_of(37))


@pytest.fixture
def make_console(site: ValueSite) -> Callable[..., Console]:
    def make(*, glyphs: Glyphs = BLOCKS, **options: object) -> Console:
        themes = Path(__file__).parents[2] / "themes"
        return Console(site, glyphs=glyphs, theme_folders=lambda: [themes], **options)  # type: ignore[arg-type]

    return make


Until = Callable[[Pilot[int], Callable[[], object]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Wait for a fact about the console; fails after 10 s. Never sleeps for a guessed time."""

    async def wait(pilot: Pilot[int], fact: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not fact():
            assert time.monotonic() < end, "not reached within 10 s"
            await pilot.pause(0.02)

    return wait


__all__ = ["ASCII", "BLOCKS", "Until", "ValueSite", "bench_result", "diagnosis", "fleet", "log_of"]
