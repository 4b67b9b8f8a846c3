"""The tour's first part: what a technician looks at before changing anything."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from fieldops.demo import sysfs
from fieldops.demo.home import USER
from fieldops.demo.release import MODEL
from fieldops.demo.scene import NotSo, Scene, check
from fieldops.drift.cause import Diagnosis
from fieldops.edges.keys import ssh_keygen
from fieldops.errors import HostKeyChanged, LinkFault, NotAuthorised
from fieldops.fleet import Address, DeviceEntry, Hint
from fieldops.operations import observe
from fieldops.operations.observe import Snapshot
from fieldops.steps import Revert

DRIFT_S = 75.0  # two windows of requests at the load generator's rate, and one more where chance played in
ROOM = tempfile.TemporaryDirectory


def discover(scene: Scene) -> str:
    """Every device is asked; who answers is who the plant says it is. One LAN address is given as a mere hint."""
    fleet = scene.fleet
    lan = next(camera for camera in fleet.cameras if camera.reach == "lan")
    hint = Hint(name="seen on the plant network", lan=Address("127.0.0.1", fleet.ports[f"{lan.name}.lan"]), id=None)
    found = {each.entry.name: each for each in scene.laptop.links.discover([hint], scene.deadline(20)) if each.known}
    for camera in fleet.cameras:
        each = found[camera.name]
        if camera.reach == "off":
            check(each.error is not None and each.error.reason == "unreachable", f"{camera.name} is off, but answers")
            continue
        check(each.hello is not None, f"{camera.name} does not answer: {each.error}")
        assert each.hello is not None  # checked above
        check(each.hello.device == fleet.device_id(camera), f"{camera.name} says it is {each.hello.device[:8]}")
    answering = sum(each.hello is not None for each in found.values())
    off = ", ".join(name for name, each in found.items() if each.hello is None)
    return f"{answering} of {len(found)} devices answer and prove who they are; {off} is switched off"


def connect_ssh(scene: Scene) -> str:
    """Each SSH device by its agent's socket, the bare one by its probe; a wrong host key stops everything, an unknown one every change."""
    deadline = scene.deadline()
    for camera in scene.fleet.cameras:
        if camera.reach not in {"ssh", "bare"}:
            continue
        with scene.at(scene.entry(camera.name), deadline) as device:
            wanted = "bare" if camera.reach == "bare" else "ssh"
            check(device.link == wanted, f"{camera.name} is reached over {device.link}, not {wanted}")
            hello = device.hello(deadline)
            check(hello.device == scene.fleet.device_id(camera), f"{camera.name} says it is {hello.device[:8]}")
    healthy = scene.device_of("healthy")
    changed = _refusal_with_host_key(scene, healthy, other_key=True)
    check(isinstance(changed, HostKeyChanged), f"a changed host key gave {changed!r}")
    unknown = _refusal_with_host_key(scene, healthy, other_key=False)
    check(unknown.reason == "host_key_unknown", f"an unknown host key gave {unknown!r}")
    ssh = sum(camera.reach == "ssh" for camera in scene.fleet.cameras)
    return f"{ssh} agents and one bare device over SSH; an unknown host may be looked at and not changed, a changed host key was refused"


def _refusal_with_host_key(scene: Scene, entry: DeviceEntry, *, other_key: bool) -> LinkFault:
    """What the laptop says when known_hosts holds another key for the device, or none."""
    assert entry.ssh is not None  # a healthy device has both or SSH
    with ROOM(prefix="fieldops-tour-") as room:
        folder = Path(room)
        lines = ""
        if other_key:
            ssh_keygen(folder / "other")
            line = (folder / "other.pub").read_text("ascii")
            lines = f"[{entry.ssh.host}]:{entry.ssh.port} {line}"
        (folder / "known_hosts").write_text(lines, "ascii")
        with scene.other_laptop(
            folder, ("config.toml", "keys/ssh", "keys/ssh.pub", f"keys/{USER}", f"keys/{USER}.pub")
        ) as laptop:
            deadline = scene.deadline(20)
            try:
                with laptop.connect(replace(entry, lan=None), deadline) as device:
                    device.hello(deadline)
                    laptop.gate().perform(device, Revert(model=MODEL), deadline)
            except LinkFault as error:
                return error
    raise NotSo(f"{entry.name} was connected although its host key is not the known one")


def connect_lan(scene: Scene) -> str:
    """TLS with both certificates pinned; the same address shows a stranger's laptop nothing."""
    deadline = scene.deadline()
    cameras = [camera for camera in scene.fleet.cameras if camera.reach == "lan"]
    for camera in cameras:
        entry = replace(scene.entry(camera.name), ssh=None)
        with scene.at(entry, deadline) as device:
            check(device.link == "lan", f"{camera.name} is reached over {device.link}")
            check(device.hello(deadline).device == scene.fleet.device_id(camera), f"{camera.name} is another device")
    _wrong_device(scene, cameras[0].name, cameras[1].name)
    entry = replace(scene.entry(cameras[0].name), ssh=None)
    with ROOM(prefix="fieldops-tour-") as room, scene.other_laptop(Path(room), ("config.toml", "trust/devices")) as stranger:
        try:
            with stranger.connect(entry, scene.deadline(20)) as device:
                device.hello(scene.deadline(20))
        except NotAuthorised as error:
            check(error.reason == "not_enrolled", f"a stranger was refused as {error.reason}")
        else:
            raise NotSo(f"{entry.name} answered a laptop that was never enrolled")
    return f"{len(cameras)} devices over pinned mutual TLS 1.3; a laptop never enrolled and a wrong device were refused"


def _wrong_device(scene: Scene, name: str, other: str) -> None:
    """A device at another's address is not taken for it."""
    entry = replace(scene.entry(name), ssh=None, lan=scene.entry(other).lan)
    try:
        with scene.at(entry, scene.deadline(20)) as device:
            device.hello(scene.deadline(20))
    except LinkFault as error:
        check(error.reason == "wrong_device", f"{other} at the address of {name} gave {error.reason}")
    else:
        raise NotSo(f"{other} was taken for {name}")


def resources(scene: Scene) -> str:
    """Every condition shows, and only where it is; what the sensors say is what stands in their files."""
    laptop, now = scene.laptop, scene.laptop.clock.now
    scene.until(
        lambda: all(count.ok for count in scene.fleet.counts(scene.deadline(10)).values()) or None,
        scene.deadline(20),
        "every device to answer the load generator",
    )

    def one(entry: DeviceEntry) -> Snapshot:
        return observe.snapshot(laptop.connect, entry, scene.deadline(30), now)

    with ThreadPoolExecutor(4) as pool:
        seen = {each.entry.name: each for each in pool.map(one, laptop.inventory().devices)}
    for index, camera in enumerate(scene.fleet.cameras):
        snapshot = seen[camera.name]
        if camera.reach == "off":
            check(snapshot.state == "OFF", f"{camera.name} is switched off and shown as {snapshot.state}")
            continue
        check(snapshot.resources is not None, f"{camera.name} cannot be read: {snapshot.error}")
        _check_resources(snapshot, camera.condition, sysfs.readings_for(camera.condition, index).soc_millicelsius / 1000)
        if camera.has_agent:
            _check_serving(snapshot)
    words = "; ".join(f"{name} {each.state}: {each.reasons[0]}" for name, each in seen.items() if each.reasons)
    return f"{sum(each.resources is not None for each in seen.values())} devices read. {words}"


def _check_resources(snapshot: Snapshot, condition: str, celsius: float) -> None:
    hardware, name, reasons = snapshot.resources, snapshot.entry.name, " ".join(snapshot.reasons)
    assert hardware is not None  # checked by the caller
    check(hardware.soc_temp_c == celsius, f"{name} says {hardware.soc_temp_c} C, its sensor {celsius} C")
    check(hardware.throttled is (condition == "throttled"), f"{name}: throttled is {hardware.throttled}")
    check(bool(hardware.mem_total_bytes and hardware.disk_free_bytes), f"{name} does not know its memory or disk")
    check(("quota" in reasons) == (condition == "quota-full"), f"{name}: {reasons or 'nothing'} said of its quota")
    check(("unsigned" in reasons) == (condition == "foreign-model"), f"{name}: {reasons or 'nothing'} said of its model")


def _check_serving(snapshot: Snapshot) -> None:
    assert snapshot.resources is not None  # checked by the caller
    serving = next((each for each in snapshot.resources.serving if each.model == MODEL), None)
    check(serving is not None and serving.requests > 0, f"{snapshot.entry.name} answers nothing")
    assert serving is not None  # checked above
    check(serving.failed == 0, f"{snapshot.entry.name} failed {serving.failed} requests")


def drift(scene: Scene) -> str:
    """The fogged lens is data, the throttled board is hardware, the healthy pair is neither."""
    wanted = {"shifted-inputs": "data", "throttled": "hardware", "healthy": "ok"}
    conditions = {camera.name: camera.condition for camera in scene.fleet.cameras if camera.condition in wanted}
    deadline = scene.deadline(DRIFT_S)
    last: dict[str, Diagnosis] = {}

    def all_as_wanted() -> bool | None:
        for name, condition in conditions.items():
            if name not in last or last[name].verdict != wanted[condition]:
                with scene.at(scene.entry(name), deadline) as device:
                    last[name] = observe.drift(device, deadline, MODEL)[0]
        return True if all(last[name].verdict == wanted[condition] for name, condition in conditions.items()) else None

    try:
        scene.until(all_as_wanted, deadline, "the drift of every device")
    except LinkFault as error:
        said = "; ".join(f"{name} {each.verdict} ({'; '.join(each.evidence)})" for name, each in last.items())
        raise NotSo(f"{error}: {said}") from error
    shifted = last[scene.fleet.of_condition("shifted-inputs")]
    throttled = last[scene.fleet.of_condition("throttled")]
    check("data" in shifted.labels and "thermal" in throttled.labels, f"labels {shifted.labels} and {throttled.labels}")
    features = ", ".join(each.name for each in shifted.features if each.shifted)
    healthy = sum(condition == "healthy" for condition in conditions.values())
    return f"shifted inputs: data ({features} over {shifted.n} requests); throttled: hardware; {healthy} healthy: ok"
