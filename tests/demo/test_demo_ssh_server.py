from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from fieldops.deadline import Deadline
from fieldops.demo import children
from fieldops.edges.keys import ssh_keygen

Within = Callable[[float], Deadline]


@dataclass(frozen=True, slots=True)
class Plant:
    port: int
    socket: str
    key: Path
    host_key: Path
    config: Path


@pytest.fixture
def plant(tmp_path: Path, within: Within) -> Iterator[Plant]:
    short = Path(tempfile.mkdtemp(prefix="fo-", dir="/tmp"))  # unix socket paths are limited
    ssh_keygen(tmp_path / "host")
    ssh_keygen(tmp_path / "client")
    socket = str(short / "agent.sock")
    door = {
        "name": "meter-01",
        "port": 0,
        "host_key": str(tmp_path / "host"),
        "home": str(tmp_path),
        "socket": socket,
        "environment": {"PATH": os.environ["PATH"], "FIELDOPS_AGENT_RUNTIME": str(short)},
    }
    config = tmp_path / "ssh.json"
    config.write_text(json.dumps({"authorized_keys": str(tmp_path / "client.pub"), "devices": [door]}))
    command = children.python("fieldops.demo.ssh_server", str(config))
    child = children.start("ssh server", command, tmp_path / "ssh.log", children.environment())
    try:
        port = child.wait_ready(within(30))["ports"]["meter-01"]
        yield Plant(port, socket, tmp_path / "client", tmp_path / "host", config)
    finally:
        assert child.stop() == 0
        shutil.rmtree(short)


def link(plant: Plant) -> asyncssh.misc._ACMWrapper[asyncssh.SSHClientConnection]:
    return asyncssh.connect(
        "127.0.0.1",
        plant.port,
        username="tech",
        client_keys=[str(plant.key)],
        known_hosts=asyncssh.import_known_hosts(f"[127.0.0.1]:{plant.port} {plant.host_key.with_suffix('.pub').read_text()}"),
        config=None,
    )


def test_commands_run_with_the_devices_environment_and_their_status_comes_back(plant: Plant) -> None:
    async def scene() -> None:
        async with link(plant) as connection:
            done = await connection.run('echo "$FIELDOPS_AGENT_RUNTIME"; echo oops >&2; exit 7')
            assert done.stdout == f"{Path(plant.socket).parent}\n"
            assert done.stderr == "oops\n"
            assert done.exit_status == 7
            fed = await connection.run("cat", input="one\ntwo\n")
            assert fed.stdout == "one\ntwo\n"

    asyncio.run(scene())


def test_many_commands_at_once_lose_nothing(plant: Plant) -> None:
    async def scene() -> None:
        async with link(plant) as connection:
            for _ in range(5):
                done = await asyncio.gather(*(connection.run(f"printf %s {number}") for number in range(8)))
                assert [one.stdout for one in done] == [str(number) for number in range(8)]

    asyncio.run(scene())


def test_only_the_devices_own_socket_is_forwarded(plant: Plant) -> None:
    async def scene() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"agent: " + await reader.readline())
            await writer.drain()
            writer.close()

        other = f"{plant.socket}.other"
        servers = [await asyncio.start_unix_server(answer, path) for path in (plant.socket, other)]
        async with link(plant) as connection:
            reader, writer = await connection.open_unix_connection(plant.socket)
            writer.write(b"hello\n")
            assert await reader.readline() == b"agent: hello\n"
            writer.close()
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection(other)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", plant.port)
        for server in servers:
            server.close()

    asyncio.run(scene())


def test_a_stranger_is_refused(plant: Plant, tmp_path: Path) -> None:
    ssh_keygen(tmp_path / "stranger")

    async def scene() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                "127.0.0.1",
                plant.port,
                username="tech",
                client_keys=[str(tmp_path / "stranger")],
                known_hosts=None,
                config=None,
                agent_path=None,
            )

    asyncio.run(scene())


def test_a_command_ends_with_the_client_that_asked_for_it(plant: Plant, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def scene() -> None:
        async with link(plant) as connection:
            process = await connection.create_process(f"exec 3> {fifo}; echo begun; exec sleep 1000")
            assert await process.stdout.readline() == "begun\n"

    asyncio.run(scene())
    readable, _, _ = select.select([reading], [], [], 20)  # EOF: the command, the only writer, is gone
    os.close(reading)
    assert readable


def test_a_taken_port_is_replaced_by_a_free_one(plant: Plant, tmp_path: Path, within: Within) -> None:
    document = json.loads(plant.config.read_text())
    document["devices"][0]["port"] = plant.port
    second = tmp_path / "second.json"
    second.write_text(json.dumps(document))
    child = children.start(
        "ssh server", children.python("fieldops.demo.ssh_server", str(second)), tmp_path / "2.log", children.environment()
    )
    try:
        assert child.wait_ready(within(30))["ports"]["meter-01"] not in {0, plant.port}
    finally:
        child.stop()
