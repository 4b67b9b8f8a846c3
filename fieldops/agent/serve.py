"""The long-lived agent, put together: one event loop, one transaction thread, one worker process a model.

It must stay small: no tuf, numpy, onnxruntime, console or SSH library is imported here; those live in short children.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from fieldops.agent.admission import Admission
from fieldops.agent.announce import is_loopback
from fieldops.agent.arming import Armer
from fieldops.agent.config import AgentConfig, read
from fieldops.agent.device import Bell, Device, RecentLines
from fieldops.agent.health import Health
from fieldops.agent.home import AgentHome, Runtime
from fieldops.agent.identity import Identity
from fieldops.agent.inference import Inference
from fieldops.agent.keeping import Keeper
from fieldops.agent.lease import Lease
from fieldops.agent.listeners import QuietServer, lan_socket, server, stop_on_signals, tls_context, unix_socket
from fieldops.agent.local import Local
from fieldops.agent.models import Models, foreign
from fieldops.agent.newcomer import trial_start
from fieldops.agent.recording import Recorder
from fieldops.agent.report import Report
from fieldops.agent.reserve import open_registry
from fieldops.agent.server import Api
from fieldops.agent.transaction import Transaction
from fieldops.agent.uploads import Uploads
from fieldops.edges.locks import exclusive
from fieldops.edges.registry import Registry
from fieldops.edges.sensors import Sensors, boot_id
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import FieldopsError
from fieldops.slots import Slot, advance

START_S = 300.0


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fieldops-agent serve")
    parser.add_argument("--home", type=Path, default=None, help="the agent's folder")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    given = parser.parse_args(words)
    home = AgentHome((given.home or AgentHome.default()).resolve())
    home.make()
    config = read(home.config)
    runtime = Runtime.of(config)
    runtime.make()
    if not trial_start():
        from fieldops.agent.guard import stand_guard

        status = stand_guard(home, runtime.agent)
        if status is not None:
            return status
    # `after` closes what threads write to, once the event loop and they have ended
    with exclusive(home.lock, "the agent", wait_s=3.0), contextlib.ExitStack() as after:
        try:
            asyncio.run(_serve(home, config, runtime, after, until_eof=given.until_eof))
        except BaseExceptionGroup as group:
            raise _told(group) from group
    return 0


def _told(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The fault a person can do something about, out of what the event loop wraps; else the group itself."""
    found: BaseException = group.subgroup(FieldopsError) or group
    while isinstance(found, BaseExceptionGroup) and found is not group:
        found = found.exceptions[0]
    return found


def _logging() -> RecentLines:
    recent = RecentLines()
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("fieldops.agent")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(recent)
    if os.environ.get("FIELDOPS_AGENT_VERBOSE"):
        log.addHandler(shown)
    logging.getLogger("uvicorn.error").addHandler(recent)
    return recent


@contextlib.asynccontextmanager
async def _device(
    home: AgentHome, config: AgentConfig, registry: Registry, group: asyncio.TaskGroup, told: dict[str, Health]
) -> AsyncIterator[Device]:
    """The shared parts; models are stopped at the end."""
    loop = asyncio.get_running_loop()

    def crashed(model: str, version: str) -> None:
        told["health"].crashed(model, version)

    models = Models(home, registry, group, crashed, config.together)
    device = Device(
        home=home,
        config=config,
        identity=Identity.load_or_create(home.key),
        registry=registry,
        models=models,
        sensors=Sensors(config.sensors_root, home.models, config.quota_bytes, config.boot_id),
        boot_id=boot_id(config.boot_id),
        loop=loop,
        bell=Bell(loop),
        recent=_logging(),
    )
    try:
        yield device
    finally:
        await models.close()


async def _serve(home: AgentHome, config: AgentConfig, runtime: Runtime, after: contextlib.ExitStack, *, until_eof: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop, until_eof=until_eof)
    told: dict[str, Health] = {}
    registry = open_registry(home)
    after.callback(registry.close)
    telemetry = Telemetry(home.root / "telemetry.db")
    after.callback(telemetry.close)
    async with asyncio.TaskGroup() as group, _device(home, config, registry, group, told) as device:
        _adopt_foreign(device)
        transaction = Transaction(device)
        after.callback(transaction.join)
        lease = Lease(device.monotonic, device.under_way)
        admission = Admission(device, transaction, lease)
        health = told["health"] = Health(device, transaction, admission, telemetry)
        report = Report(device, health, lease, telemetry)
        recorder, keeper = Recorder(device, telemetry), Keeper(device, telemetry)
        transaction.caring.labelled = keeper.labelled
        uploads = Uploads(device, admission, transaction)
        near = Api(device, report, admission, transaction, uploads, near=True, recorder=recorder, keeper=keeper)
        far = Api(device, report, admission, transaction, uploads, near=False, recorder=recorder, keeper=keeper)
        servers = [
            _on_unix(group, server(near.app()), runtime.agent, 0o660),
            _on_unix(group, server(Inference(device).app()), runtime.infer, 0o666),
            _on_unix(group, server(Local(device, report, admission).app()), runtime.local, 0o600),
        ]
        if config.infer_port is not None:
            here = lan_socket("127.0.0.1", config.infer_port)
            device.infer_port = int(here.getsockname()[1])
            local_http = server(Inference(device).app())
            group.create_task(local_http.serve([here]))
            servers.append(local_http)
        announcing: asyncio.subprocess.Process | None = None
        if config.lan is not None:
            device.tls = tls_context(device.identity, [laptop.certificate for laptop in device.registry.laptops()])
            made = lan_socket(*config.lan)
            device.lan_port = int(made.getsockname()[1])
            far_server = server(far.app(), device.tls)
            group.create_task(far_server.serve([made]))
            servers.append(far_server)
            announcing = await _announce(config.lan[0], device)
        try:
            await _ready(device, transaction, admission, runtime)
            watching = group.create_task(_watch(health, recorder, keeper, Armer(device, admission.take_alone)))
            await stop.wait()
            watching.cancel()
        finally:
            transaction.close()
            for each in servers:
                each.should_exit = True
            if announcing is not None and announcing.stdin is not None:
                announcing.stdin.close()  # it ends with its pipe
            for path in (runtime.agent, runtime.infer, runtime.local):
                path.unlink(missing_ok=True)


async def _watch(*watchers: Health | Recorder | Keeper | Armer) -> None:
    async with asyncio.TaskGroup() as group:
        for each in watchers:
            group.create_task(each.run())


def _on_unix(group: asyncio.TaskGroup, made: QuietServer, path: Path, mode: int) -> QuietServer:
    group.create_task(made.serve([unix_socket(path, mode)]))
    return made


async def _announce(host: str, device: Device) -> asyncio.subprocess.Process | None:
    """Tell the plant network; a listener on this machine alone has nobody to tell."""
    if is_loopback(host):
        return None
    words = ["announce", "--id", device.identity.id, "--port", str(device.lan_port)]
    if host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        words += ["--address", host]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fieldops.agent", *words), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )


async def _ready(device: Device, transaction: Transaction, admission: Admission, runtime: Runtime) -> None:
    """The sockets listen already; once every model answers, or its rule does, one line says so."""
    async with asyncio.timeout(START_S):
        await asyncio.wrap_future(transaction.recover())
    for record in device.registry.running():
        admission.sign_of_life(record.step_id)
    line = {
        "schema": "fieldops.agent/v1",
        "device": device.identity.id,
        "pid": os.getpid(),
        "lan_port": device.lan_port,
        "infer_port": device.infer_port,
        "runtime": str(runtime.folder),
    }
    sys.stdout.write(msgspec.json.encode(line).decode("utf-8") + "\n")
    sys.stdout.flush()


def _adopt_foreign(device: Device) -> None:
    """A model put there by hand answers as version 0.0.0, until something signed takes its place."""
    if device.config.foreign is None:
        return
    model, file = device.config.foreign
    if device.registry.slot(model) is not None:
        return
    path = device.home.foreign(file)
    try:
        found = foreign(model, path.name, path.read_bytes(), device.now())
    except OSError as error:
        logging.getLogger("fieldops.agent").warning("foreign model %s: %s", path, error.strerror)
        return
    slot = advance(Slot(model=model, task=model), "install", now=device.now(), reason="foreign", version=found.version)
    note = device.entry(device.actor, "found", model, found.version, "foreign", found.manifest_sha256)
    device.save(slot=slot, note=note, also=[lambda change: change.version(found)])
