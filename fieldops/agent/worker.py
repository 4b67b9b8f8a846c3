"""A worker: one bundle's tiers in one process, asked through its standard input and output, one message at a time.

It ends when its input ends, so it never outlives the agent. What the models print must not reach the pipe: standard output
is moved aside and replaced by standard error before anything is imported that might write.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fieldops.agent.frames import Header, PipeBroken, pack, read
from fieldops.bench import CPU
from fieldops.bundles.manifest import MANIFEST_FILE, Manifest
from fieldops.decoding import decoder
from fieldops.errors import DeviceCannot, FieldopsError, TrustRefused, UsageFault

MEMORY_SLACK_BYTES = 256 << 20  # above what the bundle promises: a leak ends the worker, a measurement never does
OPEN_FILES = 256
Reply = tuple[Header, bytes]


def run(_: list[str]) -> int:
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    bundle = _Bundle()
    while True:
        try:
            frame = read(sys.stdin.buffer)
        except PipeBroken:
            return 1
        if frame is None:
            return 0
        header, body = bundle.answer(*frame)
        message = pack(header, body)
        try:
            while message:
                message = message[pipe.write(message) or 0 :]
        except BrokenPipeError:
            return 0


def _kind(error: FieldopsError) -> str:
    """bad_request: the caller's fault, and the model is well."""
    match error:
        case UsageFault(reason="bad_golden"):
            return "check"
        case UsageFault():
            return "bad_request"
        case TrustRefused():
            return "digest"
        case DeviceCannot(reason="inference_failed" | "memory"):
            return "check"
        case _:
            return "load"


def refusal(error: FieldopsError) -> Header:
    return {"ok": False, "kind": _kind(error), "reason": error.reason, "message": error.message}


class _Bundle:
    """What is loaded here, and the operations on it."""

    def __init__(self) -> None:
        self._operations: dict[str, Callable[[Header, bytes], Reply]] = {
            "load": self._load,
            "infer": self._infer,
            "infer_many": self._infer_many,
            "as_json": self._as_json,
            "compare": self._compare,
            "tune": self._tune,
            "seal": self._seal,
            "unseal": self._unseal,
            "fit": self._fit,
            "golden": self._golden,
            "latency": self._latency,
            "measure": self._measure,
            "memory": self._memory,
            "window": self._window,
            "requests": self._requests,
            "metadata": self._metadata,
            "hardware": self._hardware,
        }
        self._loaded: Any = None

    def answer(self, header: Header, body: bytes) -> Reply:
        operation = self._operations.get(str(header.get("op")))
        if operation is None:
            return {"ok": False, "kind": "bad_request", "message": "unknown operation"}, b""
        try:
            reply, data = operation(header, body)
        except FieldopsError as error:
            return refusal(error), b""
        except MemoryError:
            return {"ok": False, "kind": "check", "reason": "memory", "message": "not enough memory"}, b""
        return {**reply, "ok": True}, data

    def _load(self, header: Header, _: bytes) -> Reply:
        from fieldops.agent.loaded import Loaded

        before = _rss()
        _limit(header.get("memory_bytes"))
        folder = Path(header["folder"])
        manifest = msgspec.convert(header["manifest"], Manifest) if header.get("manifest") else _manifest(folder)
        golden = Path(header["golden"]) if header.get("golden") else None
        self._loaded = Loaded(
            folder,
            manifest,
            golden,
            before,
            foreign=bool(header.get("manifest")),
            threads=int(header.get("threads", 1)),
            provider=str(header.get("provider", CPU)),
        )
        self._tune(header, b"")
        return {"load_ms": self._loaded.load_ms, "provider_fault": self._loaded.provider_fault, "joins": self._loaded.joins}, b""

    def _tune(self, header: Header, _: bytes) -> Reply:
        self._loaded.tune(header.get("temperatures") or {}, header.get("threshold"))
        return {}, b""

    def _infer(self, header: Header, body: bytes) -> Reply:
        left_s = None if header.get("deadline_s") is None else header["deadline_s"] - header.get("waited_s", 0.0)
        how = (left_s, header.get("refusal", ""), header.get("json_bytes"))
        reply: Reply = self._loaded.answers.infer(body, *how, keep=bool(header.get("keep")))
        return reply

    def _infer_many(self, header: Header, body: bytes) -> Reply:
        replies = [
            (refusal(answer), b"") if isinstance(answer, FieldopsError) else ({**answer[0], "ok": True}, answer[1])
            for answer in self._loaded.answers.infer_many(header["each"], body, header.get("waited_s", 0.0))
        ]
        return {"each": [{**said, "bytes": len(data)} for said, data in replies]}, b"".join(data for _, data in replies)

    def _compare(self, header: Header, body: bytes) -> Reply:
        asked, answered = body[: header["bytes"]], body[header["bytes"] :]
        how = (header["json_bytes"], header["answer_json_bytes"], header["refusal"])
        return dict(self._loaded.answers.compare(asked, answered, *how)), b""

    def _as_json(self, header: Header, body: bytes) -> Reply:
        return {}, self._loaded.answers.as_json(body, header["json_bytes"])

    def _seal(self, header: Header, body: bytes) -> Reply:
        from fieldops.agent.sealing import seal

        return {}, seal(Path(header["key"]), body, header.get("to", ()), own=header.get("own", True))

    def _unseal(self, header: Header, body: bytes) -> Reply:
        from fieldops.agent.sealing import unseal

        return {}, unseal(Path(header["key"]), body)

    def _fit(self, header: Header, body: bytes) -> Reply:
        from fieldops.agent.sealing import unseal

        key, bodies = Path(header["key"]), []
        for size in header["sizes"]:
            bodies.append(unseal(key, body[:size]))
            body = body[size:]
        return {"fits": self._loaded.fit(bodies, header["labels"])}, b""

    def _golden(self, header: Header, _: bytes) -> Reply:
        golden = header.get("golden")
        return dict(self._loaded.golden(Path(golden) if golden else None)), b""

    def _latency(self, header: Header, _: bytes) -> Reply:
        return {"ms": self._loaded.latencies(int(header["n"]))}, b""

    def _measure(self, header: Header, _: bytes) -> Reply:
        return dict(self._loaded.measure(int(header["samples"]), int(header["warmup"]))), b""

    def _memory(self, _: Header, __: bytes) -> Reply:
        return {"bytes": max(0, _rss() - self._loaded.rss_before)}, b""

    def _requests(self, header: Header, _: bytes) -> Reply:
        bodies = self._loaded.requests(int(header["n"]))
        return {"sizes": [len(body) for body in bodies]}, b"".join(bodies)

    def _window(self, _: Header, __: bytes) -> Reply:
        return {"n": self._loaded.observed}, self._loaded.window()

    def _metadata(self, _: Header, __: bytes) -> Reply:
        return {}, self._loaded.metadata()

    def _hardware(self, _: Header, __: bytes) -> Reply:
        from fieldops.edges.onnx import hardware

        return {"hardware": msgspec.to_builtins(hardware())}, b""


def _manifest(folder: Path) -> Manifest:
    """The folder is named by the manifest's digest: what is decoded is what was signed. Raises TrustRefused."""
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        manifest = decoder(Manifest).decode(data)
    except (OSError, msgspec.DecodeError) as error:
        raise TrustRefused(f"manifest: {error}", reason="missing", next_step="stage the version again") from error
    if hashlib.sha256(data).hexdigest() != folder.name:
        raise TrustRefused("the manifest is not what was signed", reason="hash_mismatch", next_step="stage the version again")
    return manifest


def _rss() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:  # no Linux: the peak is the nearest there is, in bytes on macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def _limit(memory_bytes: int | None) -> None:
    """RLIMIT_DATA above what the interpreter and the runtime hold already; few open files, since a worker needs none of many."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if soft == resource.RLIM_INFINITY or files < soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if memory_bytes is None or not sys.platform.startswith("linux"):
        return
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    held = next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), None)
    if held is not None:
        limit = held + memory_bytes + MEMORY_SLACK_BYTES
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
