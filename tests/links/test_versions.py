"""Agents that are older or newer than this laptop, and one that never answers, behind a real SSH server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fieldops.edges import keys
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.over_ssh import ssh_device
from fieldops.errors import DeadlinePassed, DeviceCannot, MalformedReply
from fieldops.fleet import Resources
from fieldops.wire import b64
from tests.links.conftest import SshServer, asyncssh_server, serving, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")
KEY = keys.Ed25519Signer.generate()
HELLO = {
    "device": KEY.id,
    "public_key": b64(KEY.public_key),
    "versions": [1, 1],
    "agent": "0.1",
    "enrolled": True,
    "boot_id": "b",
    "time": 1.0,
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, identity: Path, short_folder: Path) -> Iterator[SshServer]:
    """SSH to a device; who listens on its agent's socket differs."""
    runtime = short_folder / "versions"
    runtime.mkdir()
    environment = {"FIELDOPS_AGENT_RUNTIME": str(runtime)}
    with asyncssh_server(tmp_path_factory.mktemp("door"), identity, str(runtime / "agent.sock"), environment) as server:
        yield server


@pytest.fixture
def agent_socket(short_folder: Path) -> Path:
    return short_folder / "versions" / "agent.sock"


def agent(documents: Mapping[str, object]) -> Starlette:
    async def answer(request: Request) -> Response:
        return JSONResponse(documents[request.url.path])

    return Starlette(routes=[Route(path, answer) for path in documents])


def reached(door: SshServer) -> AgentDevice:
    device = ssh_device(door.entry, known_hosts=door.known_hosts, identities=[door.identity], deadline=soon())
    assert isinstance(device, AgentDevice)
    return device


def resources(**more: object) -> dict[str, object]:
    now = Resources(read_at=1.0, boot_id="b", uptime_s=5.0, cpu_count=4)
    return {**msgspec.to_builtins(now), **more}


def test_an_older_agent_is_read_as_far_as_it_goes_and_says_what_it_does_not_know(door: SshServer, agent_socket: Path) -> None:
    least = {name: value for name, value in resources().items() if value is not None}  # fields of later versions are not there
    with serving(agent({"/v1/hello": HELLO, "/v1/resources": least}), agent_socket), closing(reached(door)) as device:
        assert device.hello(soon()).device == KEY.id
        assert device.resources(soon()).cpu_count == 4
        for ask in (lambda: device.samples("digits", 0, soon()), lambda: device.telemetry(0, soon())):
            with pytest.raises(DeviceCannot) as caught:
                ask()
            assert (caught.value.reason, caught.value.exit_code) == ("api_version", 6)
            assert "update the device's agent" in caught.value.next_step
        assert device.alive  # nothing is wrong with the link


def test_a_newer_agent_that_still_speaks_our_version_is_read_and_more_is_passed_over(door: SshServer, agent_socket: Path) -> None:
    newer = {**HELLO, "versions": [1, 7], "agent": "9.0", "mood": "fine", "abilities": {"fly": True}}
    documents = {"/v1/hello": newer, "/v1/resources": resources(gravity_g=1.0, fans=[{"rpm": 900}])}
    with serving(agent(documents), agent_socket), closing(reached(door)) as device:
        assert device.hello(soon()).versions == (1, 7)
        assert device.resources(soon()).cpu_count == 4


@pytest.mark.parametrize("versions", [[2, 3], [0, 0]])
def test_an_agent_that_shares_no_version_with_us_is_named_so(versions: list[int], door: SshServer, agent_socket: Path) -> None:
    with serving(agent({"/v1/hello": {**HELLO, "versions": versions}}), agent_socket), closing(reached(door)) as device:
        with pytest.raises(DeviceCannot) as caught:
            device.hello(soon())
        assert (caught.value.reason, caught.value.exit_code) == ("api_version", 6)
        assert f"{versions[0]} to {versions[1]}" in caught.value.message


def test_what_listens_there_but_is_no_agent_is_said(door: SshServer, agent_socket: Path) -> None:
    with serving(agent({"/": {}}), agent_socket), closing(reached(door)) as device:
        with pytest.raises(MalformedReply) as caught:
            device.hello(soon())
        assert caught.value.exit_code == 5
        assert "fieldops agent" in caught.value.next_step


def test_a_socket_that_never_answers_costs_the_callers_time_and_no_more(door: SshServer, agent_socket: Path) -> None:
    held: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(agent_socket))
        listener.listen()

        def take() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            with closing(reached(door)) as device:
                with pytest.raises(DeadlinePassed) as caught:
                    device.hello(soon(0.5))
                assert (caught.value.exit_code, caught.value.device) == (5, "one")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for conn in held:
                conn.close()
            agent_socket.unlink()
