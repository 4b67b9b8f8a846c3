"""The models this device serves, by name, and what their workers load."""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import Callable
from pathlib import Path

from fieldops.agent.home import AgentHome
from fieldops.agent.serving import TOGETHER, Served
from fieldops.agent.settings import settings_of, tuning_of
from fieldops.agent.shadowing import Shadow
from fieldops.agent.workers import Load, Worker
from fieldops.bench import CPU
from fieldops.bundles.manifest import FileEntry, Manifest, Objectives, Rule, Tier
from fieldops.edges.registry import Installed, Registry

FOREIGN_VERSION = "0.0.0"


class Models:
    """Lives on the event loop; `group` runs one watcher a model."""

    def __init__(
        self,
        home: AgentHome,
        registry: Registry,
        group: asyncio.TaskGroup,
        on_crash: Callable[[str, str], None],
        together: int = TOGETHER,
    ) -> None:
        self._home = home
        self._registry = registry
        self._group = group
        self._on_crash = on_crash
        self._together = together
        self._served: dict[str, Served] = {}
        self._watchers: list[asyncio.Task[None]] = []

    def get(self, model: str) -> Served | None:
        return self._served.get(model)

    def all(self) -> list[Served]:
        return [self._served[name] for name in sorted(self._served)]

    def served(self, model: str) -> Served:
        """The model's place, made when there is none yet."""
        if model not in self._served:
            served = Served(model, self._on_crash, self._together)
            self._served[model] = served
            self._watchers.append(self._group.create_task(served.run()))
        return self._served[model]

    async def switch(self, model: str, worker: Worker | None, rule: Rule, version: str) -> None:
        """See Served.switch; makes the model's place when there is none yet."""
        await self.served(model).switch(worker, rule, version)

    async def begin_shadow(self, model: str, worker: Worker, seconds: float, over: Callable[[], object]) -> Shadow:
        """Let `worker` see copies of what the model is asked; `over` is called when that has ended by itself or by `end_shadow`."""
        served, shadow = self.served(model), Shadow(worker, seconds)
        served.shadow = shadow
        self._watchers.append(self._group.create_task(self._shadowed(served, shadow, over)))
        return shadow

    async def _shadowed(self, served: Served, shadow: Shadow, over: Callable[[], object]) -> None:
        try:
            await shadow.run()
        except asyncio.CancelledError:
            await shadow.worker.stop()  # the agent stops: nobody else knows of it
            raise
        finally:
            served.shadow = None
        over()

    async def end_shadow(self, shadow: Shadow) -> None:
        """Before its time; its worker ends with it."""
        shadow.stop()
        await shadow.worker.stop()

    async def close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        for served in self._served.values():
            await served.close()

    def _kept(self, installed: Installed) -> Path | None:
        """An adopted model has a copy that nobody else writes to; None: not adopted."""
        folder = self._home.bundles / installed.manifest_sha256
        return folder if folder.is_dir() else None

    def load(self, installed: Installed) -> Load:
        """What a worker for this version loads; the files' digests are checked again there."""
        manifest = installed.manifest
        baseline = self._registry.baseline(installed.model, installed.version)
        threads, provider = (baseline.threads, baseline.provider) if baseline else (1, CPU)
        if installed.channel == "":
            return Load(
                folder=self._kept(installed) or self._home.root / "foreign",
                model=installed.model,
                version=installed.version,
                golden=None,
                memory_bytes=None,
                manifest=manifest,
                threads=threads,
            )
        golden = self._home.golden(manifest.task) if manifest else None
        tuning = tuning_of(self._registry, installed.model, installed.version)
        return Load(
            folder=self._home.bundles / installed.manifest_sha256,
            model=installed.model,
            version=installed.version,
            golden=golden if golden and golden.exists() else None,
            memory_bytes=manifest.objectives.memory_bytes if manifest else None,
            manifest=None,
            temperatures=tuning.temperatures,
            threshold=settings_of(self._registry, installed.model).threshold,
            threads=threads,
            provider=provider,
        )


def foreign(model: str, file: str, data: bytes, now: float) -> Installed:
    """A model that somebody put on the device by hand: it answers, and nothing is promised about it."""
    digest = hashlib.sha256(data).hexdigest()
    manifest = Manifest(
        v=1,
        model=model,
        task=model,
        version=FOREIGN_VERSION,
        counter=0,
        owner="",
        tiers=[Tier(name="core", file=file, variant="fp32")],
        inputs=[],
        outputs=[],
        objectives=Objectives(p95_ms=1e9, memory_bytes=1 << 40),
        fallback=Rule(label=-1, text=f"no model answers on {platform.node() or 'this device'}"),
        files=[FileEntry(name=file, sha256=digest, size=len(data))],
    )
    return Installed(
        model=model,
        version=FOREIGN_VERSION,
        counter=0,
        manifest_sha256=digest,
        size_bytes=len(data),
        channel="",
        manifest=manifest,
        staged=now,
    )
