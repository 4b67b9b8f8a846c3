"""The sample fleet while it runs: everything started in order, everything ended in order.

    DIR/home  DIR/stick  DIR/store  DIR/release/{repo,keys}  DIR/devices/NAME/...  DIR/logs  DIR/demo.json

What is there from an earlier start is used again. demo.json is written last and says where everything is.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fieldops.deadline import Deadline
from fieldops.demo import addresses, children, home, release
from fieldops.demo.centre import Centre
from fieldops.demo.control import Control
from fieldops.demo.devices import Place
from fieldops.demo.documents import DemoDevice, DemoDocument
from fieldops.demo.plant import DEVICE_CLASS, Camera
from fieldops.edges.disk import write_whole
from fieldops.edges.locks import exclusive
from fieldops.fleet import Address, DeviceEntry, SshAddress, key_id
from fieldops.operations.gate import Words
from fieldops.wiring import Laptop, data_dir

AT_ONCE = 4  # processes that start together; there may be two cores
RATE = 8.0  # requests a second of each device
RATE_OF_LARGE = 4.0  # the same where two cores carry more than LARGE devices
LARGE = 12
BATCH = 1  # images a request: a camera sends what it sees
CHILD_S = 60.0  # for one process to be ready
STORE_S = 30.0
RUNTIME_PREFIX = "fo-"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Count:
    """What the load generator counted of one device since it started."""

    ok: int
    failed: int
    versions: dict[str, int]
    last_error: str


@dataclass(slots=True)
class Fleet:
    """A running plant. devices: as in demo.json."""

    folder: Path
    cameras: tuple[Camera, ...]
    laptop: Laptop
    centre: Centre
    places: dict[str, Place] = field(default_factory=dict)
    agents: dict[str, children.Child] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    load: children.Child | None = None
    ssh: children.Child | None = None
    control: Control | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def stick(self) -> Path:
        return self.folder / "stick"

    def of_condition(self, condition: str) -> str:
        """The name of the first device with that condition. Raises KeyError when the plant is too small to have one."""
        for camera in self.cameras:
            if camera.condition == condition:
                return camera.name
        raise KeyError(condition)

    def counts(self, deadline: Deadline) -> dict[str, Count]:
        """What the load generator has counted up to now."""
        assert self.load is not None  # started with the fleet
        self.load.say("counts")
        return {name: Count(**one) for name, one in self.load.document(deadline).items()}

    def device_id(self, camera: Camera) -> str:
        """Of the agent's key, else of the host key; "" for a device that is off."""
        if camera.name in self.agents:
            return str(self.agents[camera.name].ready["device"])
        if not camera.has_ssh:
            return ""
        return key_id(_blob(self.places[camera.name].host_key))

    def entry(self, camera: Camera) -> DeviceEntry:
        ssh_port = self.ports.get(f"{camera.name}.ssh")
        lan_port = self.ports.get(f"{camera.name}.lan")
        return DeviceEntry(
            name=camera.name,
            site=camera.site,
            device_class=DEVICE_CLASS,
            ssh=SshAddress(home.USER, addresses.LOOPBACK, ssh_port) if ssh_port else None,
            lan=Address(addresses.LOOPBACK, lan_port) if lan_port else None,
            tags=(camera.condition,),
        )

    def document(self) -> DemoDocument:
        """What `--serve` prints, and the head of demo.json."""
        return DemoDocument(
            home=str(self.home),
            stick=str(self.stick),
            store=self.centre.url,
            control=self.control.address if self.control else None,
            devices=[self._device(camera) for camera in self.cameras],
        )

    def _device(self, camera: Camera) -> DemoDevice:
        entry, agent = self.entry(camera), self.agents.get(camera.name)
        return DemoDevice(
            name=camera.name,
            id=self.device_id(camera),
            device_class=DEVICE_CLASS,
            condition=camera.condition,
            ssh=str(entry.ssh) if entry.ssh else None,
            lan=str(entry.lan) if entry.lan else None,
            pid=agent.pid if agent else None,
        )


@contextmanager
def folder_for(wanted: Path | None) -> Iterator[Path]:
    """The folder asked for, locked against a second demo; else one that goes away."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="fieldops-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name).resolve()
        return
    folder = wanted.expanduser().absolute()
    with exclusive(folder / "demo.lock", "the sample fleet"):
        yield folder


@contextmanager
def running(folder: Path, cameras: tuple[Camera, ...], deadline: Deadline, tell: Tell) -> Iterator[Fleet]:
    """Start the plant, and end all of it afterwards, however the caller leaves."""
    known = addresses.read(folder / "demo.json")
    with ExitStack() as stack:
        _sweep(folder / "runtime")
        runtime = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))  # short: a unix socket's path has at most 107 bytes
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        write_whole(folder / "runtime", str(runtime).encode())
        laptop = stack.enter_context(Laptop(folder / "home"))
        centre = Centre(folder / "store", folder / "logs" / "store.log", known.get("store", 0))
        stack.callback(centre.close)
        fleet = Fleet(folder, cameras, laptop, centre)
        fleet.ports["store"] = centre.port
        stack.callback(lambda: children.stop_all(_started(fleet)))
        _release(fleet, deadline, tell)
        _prepare(fleet, runtime, known, deadline, tell)
        _start(fleet, known, deadline, tell, stack)
        _bring_laptop(fleet, deadline, tell)
        _feed(fleet, deadline, tell)
        _control(fleet, known, deadline, stack)
        document = {**msgspec.to_builtins(fleet.document()), "ports": fleet.ports}
        write_whole(folder / "demo.json", json.dumps(document, indent=1).encode(), 0o644)
        yield fleet


def _sweep(note: Path) -> None:
    """The sockets' folder of a demo that was killed; this one holds the lock, so nobody uses it."""
    try:
        left = Path(note.read_text("utf-8"))
    except OSError:
        return
    if left.name.startswith(RUNTIME_PREFIX) and left.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(left, ignore_errors=True)


def _started(fleet: Fleet) -> list[children.Child]:
    """The feeding stops first: a meter that is switched off under it would count as a failure."""
    return [child for child in (fleet.load, fleet.ssh, *fleet.agents.values()) if child is not None]


def _release(fleet: Fleet, deadline: Deadline, tell: Tell) -> None:
    tell("release team: keys, signed models, stick")
    staff = home.staff_of(fleet.home)
    home.login_key(fleet.home)
    home.write_config(fleet.home, fleet.stick, fleet.centre.url)
    laptop = fleet.laptop
    repo = release.make(fleet.folder / "release", data_dir("sample_fleet"), staff, laptop.clock, deadline)
    release.make_stick(repo, fleet.stick)
    write_whole(fleet.folder / "release" / "root.json", repo.root(1), 0o644)


def _prepare(fleet: Fleet, runtime: Path, known: dict[str, int], deadline: Deadline, tell: Tell) -> None:
    tell("devices: sensors, keys, first models")
    program = runtime / "fieldops-agent"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fieldops.agent "$@"\n', "utf-8")
    program.chmod(0o755)
    sample = data_dir("sample_fleet")

    def one(index: int, camera: Camera) -> Place:
        folder = fleet.folder / "devices" / camera.name
        place = Place(camera, index, folder, runtime / f"{index + 1}", program)
        if not camera.has_ssh:
            return place
        place.prepare(sample)
        if camera.has_agent:
            wanted = known.get(f"{camera.name}.lan", 0)
            port = wanted if wanted and addresses.is_free(wanted) else 0
            place.write_config(port)
            root = fleet.folder / "release" / "root.json"
            place.provision(fleet.stick, root, fleet.folder / "logs" / f"{camera.name}.provision.log", deadline)
            place.write_config(port)
        return place

    with ThreadPoolExecutor(AT_ONCE) as pool:
        places = pool.map(one, range(len(fleet.cameras)), fleet.cameras)
        fleet.places = {place.camera.name: place for place in places}


def _start(fleet: Fleet, known: dict[str, int], deadline: Deadline, tell: Tell, stack: ExitStack) -> None:
    tell("devices: agents and SSH")
    logs = fleet.folder / "logs"
    doors = [
        place.door(known.get(f"{camera.name}.ssh", 0))
        for camera, place in zip(fleet.cameras, fleet.places.values(), strict=True)
        if camera.has_ssh
    ]
    fleet.ssh = _start_ssh(fleet, doors)
    for camera in fleet.cameras:
        if camera.has_agent:
            fleet.agents[camera.name] = fleet.places[camera.name].start(logs / f"{camera.name}.log")
        elif not camera.has_ssh:
            held: socket.socket = stack.enter_context(addresses.hold(known.get(f"{camera.name}.ssh", 0)))
            fleet.ports[f"{camera.name}.ssh"] = int(held.getsockname()[1])
    for name, port in fleet.ssh.wait_ready(deadline.within(CHILD_S))["ports"].items():
        fleet.ports[f"{name}.ssh"] = int(port)
    for name, agent in fleet.agents.items():
        ready = agent.wait_ready(deadline.within(CHILD_S))
        if ready.get("lan_port"):
            fleet.ports[f"{name}.lan"] = int(ready["lan_port"])


def _start_ssh(fleet: Fleet, doors: Iterable[dict[str, object]]) -> children.Child:
    config = fleet.folder / "logs" / "ssh.json"
    authorized = home.login_key(fleet.home).with_name("ssh.pub")
    document = {"authorized_keys": str(authorized), "devices": list(doors)}
    write_whole(config, json.dumps(document, indent=1).encode())
    command = children.python("fieldops.demo.ssh_server", str(config))
    return children.start("SSH server", command, fleet.folder / "logs" / "ssh.log", children.environment())


def _bring_laptop(fleet: Fleet, deadline: Deadline, tell: Tell) -> None:
    """The laptop as a technician has it after the first visit: inventory, host keys, pinned root, enrolled devices."""
    tell("laptop: inventory, trust, enrolment")
    laptop = fleet.laptop
    home.write_inventory(fleet.home, [fleet.entry(camera) for camera in fleet.cameras])
    hosts = {
        fleet.ports[f"{camera.name}.ssh"]: fleet.places[camera.name].host_key.with_name("host_key.pub").read_text("ascii")
        for camera in fleet.cameras
        if camera.has_ssh
    }
    home.write_known_hosts(fleet.home, hosts)
    laptop.trust.pin((fleet.folder / "release" / "root.json").read_bytes(), None)
    laptop.trust.refresh(laptop.media.at(str(fleet.stick)), deadline)
    inventory = laptop.inventory()
    wanted = [
        inventory.find(camera.name) for camera in fleet.cameras if camera.enrolled_at_start and not _enrolled(fleet, camera)
    ]

    def one(entry: DeviceEntry) -> None:
        laptop.enrolment.enrol(entry, deadline, Words(reason="first start of the sample fleet"), label="sample fleet")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(one, wanted):
            pass


def _enrolled(fleet: Fleet, camera: Camera) -> bool:
    entry = fleet.laptop.inventory().find(camera.name)
    return entry.id is not None and (entry.lan is None or fleet.laptop.pins.of(entry.id) is not None)


def _feed(fleet: Fleet, deadline: Deadline, tell: Tell) -> None:
    tell("load: digit images to every device")
    config = fleet.folder / "logs" / "load.json"
    devices = [
        {
            "name": camera.name,
            "socket": str(fleet.places[camera.name].runtime / "infer.sock"),
            "model": release.MODEL,
            "rate": RATE if len(fleet.cameras) <= LARGE else RATE_OF_LARGE,
            "batch": BATCH,
            "shifted": camera.condition == "shifted-inputs",
        }
        for camera in fleet.cameras
        if camera.has_agent
    ]
    images = data_dir("sample_fleet") / release.MODEL / "data.npz"
    write_whole(config, json.dumps({"images": str(images), "devices": devices}, indent=1).encode())
    command = children.python("fieldops.demo.load", str(config))
    fleet.load = children.start("load generator", command, fleet.folder / "logs" / "load.log", children.environment())
    fleet.load.wait_ready(deadline.within(CHILD_S))


def _control(fleet: Fleet, known: dict[str, int], deadline: Deadline, stack: ExitStack) -> None:
    wanted = known.get("control", 0)
    centre = fleet.centre
    verbs = {
        "store up": lambda: bring_up_store(fleet, Deadline.after(STORE_S, deadline.monotonic, deadline.cancel)),
        "store down": centre.stop,
        "status": lambda: "up" if centre.up else "down",
    }
    fleet.control = Control(wanted if wanted and addresses.is_free(wanted) else 0, verbs)
    stack.callback(fleet.control.close)
    fleet.ports["control"] = fleet.control.port


def bring_up_store(fleet: Fleet, deadline: Deadline) -> str:
    """Its first time up, the laptop is let in by a code, as every laptop is."""
    url = fleet.centre.start(deadline)
    laptop = fleet.laptop
    if laptop.pins.store() is None:
        laptop.enrol_at_store(url, fleet.centre.invite(deadline), "", deadline)
    return url


def _blob(host_key: Path) -> bytes:
    return base64.b64decode(host_key.with_name("host_key.pub").read_text("ascii").split()[1])
