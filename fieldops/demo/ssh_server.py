"""One SSH server process for all devices of the plant, a port and a host key each: `python -m fieldops.demo.ssh_server FILE`.

FILE is JSON: {"authorized_keys": PATH, "devices": [{"name", "port", "host_key", "home", "socket"|null, "environment"}]}.
A command runs by /bin/sh in the device's home; of unix sockets only the device's own agent.sock is forwarded. It prints one
JSON line {"ports": {name: port}} when all listen, and ends at EOF of stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

PIECE = 65536


@dataclass(frozen=True, slots=True)
class Door:
    """What one port leads to. port: the wanted one, 0 any; socket "": no agent behind it."""

    name: str
    port: int
    host_key: Path
    home: Path
    socket: str
    environment: dict[str, str]


class _Server(asyncssh.SSHServer):
    def __init__(self, door: Door) -> None:
        self._door = door

    def unix_connection_requested(self, dest_path: str) -> bool:
        return bool(self._door.socket) and dest_path == self._door.socket


async def _pump(reader: Any, writer: Any, *, close: Callable[[], None] | None = None) -> None:
    """Bytes from one side to the other until EOF. Either side may be gone at any moment: then there is nobody to tell."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    except (OSError, asyncssh.Error):
        pass
    if close is not None:
        try:
            close()
        except OSError:
            pass


async def _execute(door: Door, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command. asyncssh's own redirect loses output and takes the connection down when a client closes."""
    if process.command is None:
        process.stderr.write(b"this device takes commands only\n")
        process.exit(1)
        return
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=door.environment,
        cwd=door.home,
        start_new_session=True,
    )
    assert child.stdin is not None  # all three are pipes
    inward = asyncio.ensure_future(_pump(process.stdin, child.stdin, close=child.stdin.close))

    async def work() -> int:
        await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
        return await child.wait()

    working = asyncio.ensure_future(work())
    closing = asyncio.ensure_future(process.channel.wait_closed())
    try:
        await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if child.returncode is None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended between the question and the kill
        inward.cancel()
        closing.cancel()
    code = await working
    if not process.channel.is_closing():
        process.exit(code if code >= 0 else 128 - code)


async def listen(door: Door, authorized_keys: Path) -> asyncssh.SSHAcceptor:
    """Listen on the wanted port, or on any when it is taken."""

    async def execute(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _execute(door, process)

    async def on(port: int) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=lambda: _Server(door),
            server_host_keys=[str(door.host_key)],
            authorized_client_keys=str(authorized_keys),
            process_factory=execute,
            encoding=None,
            line_editor=False,
            reuse_address=True,
        )

    try:
        return await on(door.port)
    except OSError:
        return await on(0)


def doors(document: dict[str, Any]) -> list[Door]:
    return [
        Door(
            name=one["name"],
            port=one["port"],
            host_key=Path(one["host_key"]),
            home=Path(one["home"]),
            socket=one.get("socket") or "",
            environment=one["environment"],
        )
        for one in document["devices"]
    ]


async def serve(document: dict[str, Any]) -> None:
    authorized = Path(document["authorized_keys"])
    acceptors = {door.name: await listen(door, authorized) for door in doors(document)}
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin.fileno(), _at_eof, ended.set)
    sys.stdout.write(json.dumps({"ports": {name: acceptor.get_port() for name, acceptor in acceptors.items()}}) + "\n")
    sys.stdout.flush()
    await ended.wait()
    for acceptor in acceptors.values():
        acceptor.close()


def _at_eof(end: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        end()


def main() -> None:
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_bytes())))


if __name__ == "__main__":
    main()
