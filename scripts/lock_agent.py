"""Writes fieldops/agent/agent.lock: what a device installs, at the versions of this environment, by hash.

    make lock

Every wheel that the supported machines and Python versions may get is downloaded once and hashed; where a package has no
wheel for one of them that is said on stderr, and a kit for it is refused later. The file carries no index addresses.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from fieldops.bundles.kit import Pinned, wheel_platforms

LOCK = Path(__file__).resolve().parents[1] / "fieldops" / "agent" / "agent.lock"
PLATFORMS = ("linux-x86_64", "linux-aarch64")
PYTHONS = ("3.11", "3.12", "3.13")

PACKAGES = {
    "pip": "installs the rest on a device whose Python came without it",
    "starlette": "/v1 and /v2",
    "anyio": "starlette",
    "idna": "anyio",
    "typing_extensions": "starlette and anyio before Python 3.13",
    "uvicorn": "the listeners",
    "h11": "uvicorn",
    "click": "uvicorn imports it",
    "psutil": "cpu, memory, disk",
    "msgspec": "messages and files",
    "cryptography": "keys and certificates",
    "cffi": "cryptography",
    "pycparser": "cffi",
    "tuf": "signed metadata, in the verify child",
    "securesystemslib": "tuf",
    "urllib3": "tuf imports it",
    "numpy": "tensors, in workers",
    "onnxruntime": "models, in workers",
    "zeroconf": "announces a LAN listener",
    "ifaddr": "zeroconf",
}
SKIPPED = {
    "flatbuffers, protobuf, packaging": "onnxruntime names them, but running a model imports none of them",
    "httpx, paramiko, textual, typer, rich, PyYAML, platformdirs": "the laptop's alone",
}


def _download(name: str, version: str, platform: str, python: str, folder: Path) -> bool:
    tags = [word for tag in wheel_platforms(platform) for word in ("--platform", tag)]
    abis = [word for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)),
        *(*tags, "--python-version", python, "--implementation", "cp", *abis, f"{name}=={version}"),
    ]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0


def _hashes(name: str, version: str) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as made:
        for platform in PLATFORMS:
            for python in PYTHONS:
                if not _download(name, version, platform, python, Path(made)):
                    sys.stderr.write(f"{name} {version}: no wheel for {platform}, Python {python}\n")
        return tuple(sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(made).glob("*.whl")))


def main() -> int:
    lines = [
        "# What a device installs beside fieldops itself: `pip install --no-index --require-hashes --no-deps`.\n",
        "# Made by `make lock`. Not here, and why:\n",
        *(f"#   {names}: {why}\n" for names, why in SKIPPED.items()),
    ]
    for name, why in sorted(PACKAGES.items()):
        pinned = Pinned(name, importlib.metadata.version(name), ())
        pinned = Pinned(name, pinned.version, _hashes(name, pinned.version))
        if not pinned.hashes:
            sys.stderr.write(f"{name} {pinned.version}: no wheel at all\n")
            return 1
        lines += [f"# {why}\n", pinned.line]
        sys.stderr.write(f"{name} {pinned.version}: {len(pinned.hashes)} wheels\n")
    LOCK.write_text("".join(lines), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
