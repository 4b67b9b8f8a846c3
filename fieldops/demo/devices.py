"""One device of the plant on disk: its agent's home, its sensors, its SSH host key; and how its agent is started.

devices/NAME/agent/    the agent's home        devices/NAME/sys/    sensors        devices/NAME/host_key
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.demo import children, sysfs
from fieldops.demo.plant import DEVICE_CLASS, Camera
from fieldops.demo.release import FIRST, MODEL
from fieldops.edges.disk import write_whole
from fieldops.edges.keys import ssh_keygen
from fieldops.errors import DeviceCannot

TELEMETRY_S = 10  # so that a tour of two minutes has some to bring
SPARE_BYTES = 8 * 1024  # what a used-up quota still leaves


@dataclass(frozen=True, slots=True)
class Place:
    """folder: devices/NAME. runtime: its sockets' short folder. program: the agent's command on this device."""

    camera: Camera
    index: int
    folder: Path
    runtime: Path
    program: Path

    @property
    def agent_home(self) -> Path:
        return self.folder / "agent"

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def provisioned(self) -> Path:
        """Stands when the first model is in place."""
        return self.folder / "provisioned"

    def prepare(self, sample: Path) -> None:
        """All that needs no process. Safe to repeat."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sysfs.write_tree(self.folder, sysfs.readings_for(self.camera.condition, self.index))
        if self.camera.has_ssh and not self.host_key.is_file():
            ssh_keygen(self.host_key, self.camera.name)
        if self.camera.has_agent:
            self.agent_home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.camera.condition == "foreign-model":
            model = self.agent_home / "foreign" / f"{MODEL}.onnx"
            model.parent.mkdir(exist_ok=True)
            shutil.copyfile(sample / MODEL / FIRST / "core.onnx", model)

    def write_config(self, lan_port: int) -> None:
        """agent.toml. The quota follows from what the device holds, so it is written again after provisioning."""
        lines = [f'class = "{DEVICE_CLASS}"', f'label = "{self.camera.site}"']
        if self.camera.reach == "lan":
            lines += ["[lan]", f'listen = "127.0.0.1:{lan_port}"']
        if self.camera.condition == "quota-full":
            blobs = self.agent_home / "models" / "sha256"
            used = sum(path.stat().st_size for path in blobs.iterdir()) if blobs.is_dir() else 0
            if used:
                lines += ["[storage]", f"quota_bytes = {used + SPARE_BYTES}"]
        lines += ["[telemetry]", f"every_s = {TELEMETRY_S}"]
        lines += ["[sensors]", f'root = "{self.folder / "sys"}"']
        if self.camera.condition == "foreign-model":
            lines += ["[foreign]", f'model = "{MODEL}"', f'file = "{MODEL}.onnx"']
        write_whole(self.agent_home / "agent.toml", "".join(f"{line}\n" for line in lines).encode())

    def environment(self) -> dict[str, str]:
        return children.environment(FIELDOPS_AGENT_HOME=str(self.agent_home), FIELDOPS_AGENT_RUNTIME=str(self.runtime))

    def provision(self, stick: Path, root: Path, log: Path, deadline: Deadline) -> None:
        """Factory flashing of the first model, by the agent itself. Raises DeviceCannot with what it said."""
        if self.provisioned.exists() or self.camera.condition == "foreign-model":
            return
        words = ["provision", "--home", str(self.agent_home), "--stick", str(stick), "--ref", f"{MODEL}@{FIRST}"]
        done = subprocess.run(
            [*children.python("fieldops.agent", *words), "--root", str(root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline.check(f"{self.camera.name} to be provisioned"),
            env=self.environment(),
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            write_whole(log, done.stderr)
            raise DeviceCannot(
                f"provisioning ended with {done.returncode}: {said[-300:]}",
                reason="provision",
                next_step=f"read {log}",
                device=self.camera.name,
            )
        self.provisioned.touch()

    def start(self, log: Path) -> children.Child:
        self.runtime.mkdir(parents=True, exist_ok=True)
        command = children.python("fieldops.agent", "serve", "--home", str(self.agent_home), "--until-eof")
        return children.start(self.camera.name, command, log, self.environment())

    def door(self, port: int) -> dict[str, object]:
        """What the SSH server needs to know of it."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "FIELDOPS_PROBE_ROOT": str(self.folder),
        }
        if self.camera.has_agent:
            environment |= {
                "FIELDOPS_AGENT_RUNTIME": str(self.runtime),
                "FIELDOPS_AGENT_HOME": str(self.agent_home),
                "FIELDOPS_AGENT_PROGRAM": str(self.program),
            }
        else:
            environment["FIELDOPS_AGENT_RUNTIME"] = str(self.folder / "no-agent")
        return {
            "name": self.camera.name,
            "port": port,
            "host_key": str(self.host_key),
            "home": str(self.folder),
            "socket": str(self.runtime / "agent.sock") if self.camera.has_agent else None,
            "environment": environment,
        }
