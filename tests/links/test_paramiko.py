"""What edges/ssh uses of paramiko below its public calls is there (docs/adr/0016): a new version fails here first."""

from __future__ import annotations

import inspect
from typing import Any

import paramiko
import pytest
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthHandler
from paramiko.buffered_pipe import BufferedPipe
from paramiko.channel import Channel
from paramiko.packet import Packetizer


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (paramiko.Transport, "_next_channel", ["self"]),
        (paramiko.Transport, "_sanitize_window_size", ["self", "window_size"]),
        (paramiko.Transport, "_sanitize_packet_size", ["self", "max_packet_size"]),
        (paramiko.Transport, "_send_user_message", ["self", "data"]),
        (Channel, "_set_transport", ["self", "transport"]),
        (Channel, "_set_window", ["self", "window_size", "max_packet_size"]),
        (Channel, "_event_pending", ["self"]),
        (AuthHandler, "_request_auth", ["self"]),
        (AuthHandler, "_parse_service_accept", ["self", "m"]),
        (AgentSSH, "_connect", ["self", "conn"]),
        (BufferedPipe, "set_event", ["self", "event"]),
    ],
)
def test_a_call_that_is_not_promised(owner: Any, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_limits_that_one_connection_sets_for_itself() -> None:
    assert (Packetizer.REKEY_BYTES, Packetizer.REKEY_PACKETS) == (1 << 29, 1 << 29)
    assert callable(Packetizer.complete_handshake)
