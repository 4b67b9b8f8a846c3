"""A few inputs kept for people to label: those the models find strange, and one in fifty others. Only as far as policy says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.frames import Header
from fieldops.agent.serving import Served
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.edges.sealed import sealed_for
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import key_id
from fieldops.wire import Sample, SamplePage, SealedPage, SealedSample, b64, unb64

ORDINARY = 50  # one of so many that nothing is strange about
MOST_BYTES = 256 << 10  # of one kept input
WAITING = 8  # inputs that wait to be sealed; when more come, they are let go: answering comes first
PAGE_SAMPLES, PAGE_BYTES = 100, 2 << 20
CALL_S = 10.0
_TOLD = ("id", "model", "version", "time", "reason", "label", "confidence")
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Offered:
    served: Served
    sample: Sample
    body: bytes
    json_bytes: int | None  # of it, where binary tensors follow


class Keeper:
    """Lives on the event loop; `labelled` alone is for the transaction's thread."""

    def __init__(self, device: Device, telemetry: Telemetry) -> None:
        self._device = device
        self._telemetry = telemetry
        self._waiting: asyncio.Queue[_Offered] = asyncio.Queue(WAITING)
        self._seen = 0
        self._most = 0
        self._to: list[str] = []
        self._own = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            policy = self._device.policy()
            self._to, self._own = policy.sample_recipients, policy.samples_read_on_site
            self._most = policy.keep_samples if self._to or self._own else 0  # what nobody could open is not kept
            if not self._most:
                await asyncio.to_thread(self._telemetry.forget_samples)
            for served in self._device.models.all():
                served.on_answer, served.keeps = self._offer, self._most > 0
            try:
                async with asyncio.timeout(LOOK_S):
                    offered = await self._waiting.get()
            except TimeoutError:
                continue
            await self._keep(offered)

    def _offer(self, served: Served, body: bytes, json_bytes: int | None, said: Header) -> None:
        if not self._most or said.get("label") is None or len(body) > MOST_BYTES or self._waiting.full():
            return
        self._seen += 1
        reason = str(said.get("unusual") or ("ordinary" if self._seen % ORDINARY == 1 else ""))
        if not reason:
            return
        sample = Sample(
            id=0,
            model=served.model,
            version=served.version,
            time=self._device.now(),
            reason=reason,
            label=int(said["label"]),
            confidence=said.get("confidence"),
            request="",
        )
        self._waiting.put_nowait(_Offered(served, sample, body, json_bytes))

    async def _keep(self, offered: _Offered) -> None:
        worker = offered.served.worker
        if worker is None or not self._most:
            return
        try:
            body = offered.body
            if offered.json_bytes is not None:  # what is kept is read by people, and by the fit
                _, body = await worker.call({"op": "as_json", "json_bytes": offered.json_bytes}, body, within_s=CALL_S)
                if len(body) > MOST_BYTES:
                    return
            header: Header = {"op": "seal", "key": self._key, "to": self._to, "own": self._own}
            _, sealed = await worker.call(header, body, within_s=CALL_S)
        except (WorkerGone, WorkerSaid, TimeoutError):
            return
        await asyncio.to_thread(self._telemetry.keep, offered.sample, sealed, self._most)

    @property
    def _key(self) -> str:
        return str(self._device.home.samples_key)

    async def page(self, model: str, after: int) -> SamplePage:
        """Raises UsageFault (unknown_model), DeviceCannot (not_ready) when no worker could open them."""
        served = self._device.models.get(model)
        if served is None:
            names = ", ".join(each.model for each in self._device.models.all()) or "none"
            raise UsageFault(f"no model {model!r} here", reason="unknown_model", next_step=f"use one of: {names}")
        rows = await asyncio.to_thread(self._telemetry.samples, model, after, PAGE_SAMPLES)
        found: list[Sample] = []
        unreadable = size = 0
        newest = after
        for sample, sealed in rows:
            if size > PAGE_BYTES:
                break
            newest = sample.id
            try:
                body = await self._open(served, sealed)
            except WorkerSaid:
                unreadable += 1
                continue
            size += len(body)
            found.append(replace(sample, request=b64(body)))
        return SamplePage(samples=found, newest=newest, unreadable=unreadable)

    def sealed(self, model: str, after: int) -> SealedPage:
        """As they lie here, for who has a recipient's key. Blocking."""
        recipients = self._device.policy().sample_recipients
        wanted = {key_id(unb64(text)) for text in recipients}
        found: list[SealedSample] = []
        newest, size, left_out = after, 0, 0
        for sample, data in self._telemetry.samples(model, after, PAGE_SAMPLES):
            if size > PAGE_BYTES:
                break
            newest = sample.id
            if not wanted & sealed_for(data):
                left_out += 1
                continue
            size += len(data)
            found.append(SealedSample(**{name: getattr(sample, name) for name in _TOLD}, sealed=b64(data)))
        return SealedPage(sealed=found, newest=newest, left_out=left_out, recipients=recipients)

    async def _open(self, served: Served, sealed: bytes) -> bytes:
        worker = served.worker
        if worker is None:
            raise _not_ready("the rule answers")
        try:
            _, body = await worker.call({"op": "unseal", "key": self._key}, sealed, within_s=CALL_S)
        except (WorkerGone, TimeoutError) as error:
            raise _not_ready(str(error)) from error
        return body

    def labelled(self, model: str, labels: dict[str, int]) -> list[tuple[bytes, int]]:
        """(sealed request, label) of those samples that are still here."""
        rows = self._telemetry.samples(model, 0, max(1, self._device.policy().keep_samples))
        return [(sealed, labels[str(sample.id)]) for sample, sealed in rows if str(sample.id) in labels]


def _not_ready(why: str) -> DeviceCannot:
    return DeviceCannot(f"no worker to open them: {why}", reason="not_ready", next_step="try again in a minute")
