"""Where everything of an agent lies: its home, and the short folder of its sockets."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fieldops.agent.config import AgentConfig
from fieldops.edges.disk import make_folder
from fieldops.errors import UsageFault

SOCKET_PATH_LIMIT = 107  # bytes, of sun_path on Linux


@dataclass(frozen=True, slots=True)
class AgentHome:
    """The folders of FORMATS §2; `make` creates them."""

    root: Path

    @classmethod
    def default(cls) -> Path:
        """FIELDOPS_AGENT_HOME, else /var/lib/fieldops-agent where it is ours, else the user's data folder."""
        if named := os.environ.get("FIELDOPS_AGENT_HOME"):
            return Path(named)
        service = Path("/var/lib/fieldops-agent")
        if os.access(service, os.W_OK):
            return service
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
        return Path(base) / "fieldops-agent"

    @property
    def config(self) -> Path:
        return self.root / "agent.toml"

    @property
    def key(self) -> Path:
        return self.root / "keys" / "agent.key"

    @property
    def proof(self) -> Path:
        """Written by enrolment once this agent was seen to answer after the login ended and after a restart."""
        return self.root / "proof"

    @property
    def samples_key(self) -> Path:
        """What kept inputs are sealed with."""
        return self.root / "keys" / "samples.key"

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def targets(self) -> Path:
        """Verified targets of the policy role, by their target names."""
        return self.trust / "targets"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def blobs(self) -> Path:
        return self.models / "sha256"

    @property
    def bundles(self) -> Path:
        return self.models / "bundles"

    @property
    def current(self) -> Path:
        """Links by model, for foreign runtimes; see agent/current.py."""
        return self.root / "current"

    @property
    def registry(self) -> Path:
        return self.root / "registry.db"

    @property
    def reserve(self) -> Path:
        """See agent/reserve.py."""
        return self.root / "reserve"

    @property
    def lock(self) -> Path:
        return self.root / "agent.lock"

    def incoming(self, step_id: str) -> Path:
        return self.root / "incoming" / step_id

    def foreign(self, file: str) -> Path:
        return self.root / "foreign" / Path(file).name

    def golden(self, task: str) -> Path:
        """The task's golden set, as the policy role signed it."""
        return self.targets / "policy" / "golden" / task / "set.npz"

    @property
    def policy(self) -> Path:
        return self.targets / "policy" / "rules" / "current" / "policy.json"

    def make(self) -> None:
        """0700: keys and evidence are nobody else's."""
        for folder in (self.key.parent, self.trust, self.blobs, self.bundles, self.current, self.root / "incoming"):
            make_folder(folder)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The short folder of the sockets."""

    folder: Path

    @classmethod
    def of(cls, config: AgentConfig) -> Runtime:
        """FIELDOPS_AGENT_RUNTIME, agent.toml, /run/fieldops-agent where it is ours, else XDG_RUNTIME_DIR or a short one."""
        named = os.environ.get("FIELDOPS_AGENT_RUNTIME")
        if named or config.runtime:
            return cls(Path(named) if named else Path(str(config.runtime)))
        service = Path("/run/fieldops-agent")
        if os.access(service, os.W_OK) or (os.geteuid() == 0 and os.access("/run", os.W_OK)):
            return cls(service)
        base = os.environ.get("XDG_RUNTIME_DIR")
        return cls(Path(base) / "fieldops-agent" if base else Path(tempfile.gettempdir()) / f"fieldops-agent-{os.geteuid()}")

    @property
    def agent(self) -> Path:
        return self.folder / "agent.sock"

    @property
    def infer(self) -> Path:
        return self.folder / "infer.sock"

    @property
    def local(self) -> Path:
        return self.folder / "local.sock"

    def make(self) -> None:
        """0755: local programs reach infer.sock; the sockets' own modes do the rest. Raises UsageFault."""
        if len(os.fsencode(self.infer)) > SOCKET_PATH_LIMIT:
            raise UsageFault(
                f"runtime folder {self.folder} is too long for a socket path",
                next_step="set `[runtime] folder` in agent.toml to a shorter one",
            )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        if self.folder.stat().st_uid != os.geteuid():
            raise UsageFault(
                f"runtime folder {self.folder} belongs to somebody else",
                next_step="set `[runtime] folder` in agent.toml to a folder of the agent's own user",
            )
