"""Logging in to a host: keys from files, then ssh-agent's, then a password or questions where the policy allows those.

Nobody is asked unless somebody can answer (`ask`). A passphrase opens its key once for the whole process; a password is
neither kept nor sent to a host that nothing vouches for.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import paramiko
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthHandler
from paramiko.pkey import UnknownKeyType

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.keys import ssh_fingerprint
from fieldops.edges.ssh.channels import BROKEN
from fieldops.errors import NotAuthorised
from fieldops.ports import Ask, Question

_AGENT_S = 2.0  # a stale SSH_AUTH_SOCK hangs for ever
_TOUCH_S = 60.0  # a key in hardware waits for its person; the login's own deadline is mostly shorter
_AGENT_KEYS = 4  # servers end the connection at the sixth key tried
_TRIES = 3  # of a passphrase


class Keys:
    """Private keys read from files, each once. Safe for several threads; one question at a time."""

    def __init__(self, ask: Ask | None = None) -> None:
        self.ask = ask
        self._lock = threading.Lock()
        self._open: dict[Path, paramiko.PKey] = {}
        self._declined: set[Path] = set()

    def key(self, path: Path) -> paramiko.PKey:
        """Raises OSError, ValueError, TypeError, SSHException, UnknownKeyType with what is wrong."""
        with self._lock:
            if path not in self._open:
                self._open[path] = self._load(path)
            return self._open[path]

    def ask_again(self) -> None:
        """For the keys whose passphrase nobody gave."""
        with self._lock:
            self._declined.clear()

    def _load(self, path: Path) -> paramiko.PKey:
        try:
            return paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):
            # paramiko says a missing passphrase by a TypeError
            if self.ask is None or path in self._declined:
                raise
        for _ in range(_TRIES):
            said = self.ask(Question("passphrase", f"Passphrase of {path}"))
            if said is None:
                break
            with contextlib.suppress(TypeError, ValueError, paramiko.SSHException):
                return paramiko.PKey.from_path(path, cast("Any", said.encode()))  # the stubs say str, it wants bytes
        self._declined.add(path)
        raise paramiko.PasswordRequiredException("its passphrase was not given")


def log_in(
    transport: paramiko.Transport,
    user: str | None,
    host: str,
    identities: Sequence[Path],
    keys: Keys,
    deadline: Deadline,
    device: str,
    *,
    passwords: bool,
    agent: bool = True,
) -> None:
    """passwords: the policy allows them and the host is the right one. agent: ssh-agent's keys may be offered as well.

    Raises NotAuthorised (login_refused), Unreachable (phase auth), Cancelled.
    """
    login = _Login(transport, user or getpass.getuser(), host, deadline, device)
    unusable: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, key in _offered(identities, keys, stack, unusable, agent=agent):
            if login.by_key(name, key) or not transport.is_active():
                break
    if not transport.is_authenticated() and passwords and keys.ask is not None and transport.is_active():
        login.by_person(keys.ask)
    if not transport.is_authenticated():
        raise login.refused(unusable, passwords=passwords, asked=keys.ask is not None)


class _Asking(AuthHandler):
    """Asks for the login service once. paramiko asks again for each try, at which some servers end the connection.

    Its auth_* methods return at once; the event given to them is set when the server answered.
    """

    _asked = False

    def _request_auth(self) -> None:
        """What paramiko calls to begin a try."""
        if not self._asked:
            self._asked = True
            cast("Any", super())._request_auth()  # noqa: SLF001 - version pinned
            return
        # in a thread of its own, as the first one is: a key in hardware may wait for its person
        threading.Thread(target=self._try_again, name="fieldops-login", daemon=True).start()

    def _try_again(self) -> None:
        accepted = paramiko.Message()
        accepted.add_string("ssh-userauth")
        accepted.rewind()
        try:
            cast("Any", self)._parse_service_accept(accepted)  # noqa: SLF001 - version pinned
        except BROKEN:  # the connection ended, or the key cannot sign
            self.abort()


class _Login:
    def __init__(self, transport: paramiko.Transport, user: str, host: str, deadline: Deadline, device: str) -> None:
        self._transport = transport
        self._user = user
        self._where = f"{user}@{host}"
        self._deadline = deadline
        self._device = device
        self._tried: list[str] = []
        self._handler: Any = _Asking(transport)  # the stubs are of an older version
        cast("Any", transport).auth_handler = self._handler

    def _try(self, begin: Callable[[threading.Event], None]) -> None:
        done = threading.Event()
        with contextlib.suppress(*BROKEN):  # the connection ended: said below
            begin(done)
            self._wait(done)

    def by_key(self, name: str, key: paramiko.PKey) -> bool:
        self._tried.append(name)
        self._try(lambda done: self._handler.auth_publickey(self._user, key, done))
        return self._transport.is_authenticated()

    def by_person(self, ask: Ask) -> None:
        """Questions of the server first (they may be more than a password), then a plain password."""
        allowed = self._allowed()
        if "keyboard-interactive" in allowed:
            self._tried.append("its questions")
            self._try(lambda done: self._handler.auth_interactive(self._user, self._answering(ask), done))
        elif "password" in allowed:
            said = ask(self._question("password", f"Password of {self._where}"))
            if said is not None:
                self._tried.append("a password")
                self._try(lambda done: self._handler.auth_password(self._user, said, done))

    def _answering(self, ask: Ask) -> Callable[[str, str, list[tuple[str, bool]]], list[str]]:
        def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            said: list[str] = []
            for text, echo in prompts:
                words = " ".join(part for part in (title, instructions, text) if part)
                clean = "".join(char for char in words if char.isprintable())[:300]
                answered = ask(self._question("answer", f"{self._where}: {clean}", echo=bool(echo)))
                if answered is None:
                    raise paramiko.SSHException("nobody answered")
                said.append(answered)
            return said

        return answer

    def _question(self, kind: Literal["password", "answer"], text: str, *, echo: bool = False) -> Question:
        proved = ssh_fingerprint(self._transport.get_remote_server_key().asbytes())
        return Question(kind, text, echo, self._device, self._where, proved)

    def _allowed(self) -> list[str]:
        """What the server says it would take; asked by trying nothing."""
        self._try(lambda done: self._handler.auth_none(self._user, done))
        error = self._transport.get_exception()
        return list(error.allowed_types) if isinstance(error, paramiko.BadAuthenticationType) else []

    def _wait(self, done: threading.Event) -> None:
        while not done.wait(min(0.05, self._left())) and self._transport.is_active():
            pass

    def _left(self) -> float:
        return dial.left(self._deadline, "auth", self._where, self._device)

    def refused(self, unusable: Sequence[str], *, passwords: bool, asked: bool) -> NotAuthorised:
        said = f"tried {', '.join(self._tried)}" if self._tried else "there was no key to try"
        also = f"; not usable: {', '.join(unusable)}" if unusable else ""
        also += "; passwords are not allowed for it" if asked and not passwords else ""
        return NotAuthorised(
            f"{self._where} refused the login ({said}{also})",
            reason="login_refused",
            next_step="add your public key to the device's authorized_keys, or name the right key under [ssh] identities",
            device=self._device,
        )


def _offered(
    identities: Sequence[Path], keys: Keys, stack: contextlib.ExitStack, unusable: list[str], *, agent: bool
) -> Iterator[tuple[str, paramiko.PKey]]:
    """Files first, then ssh-agent's keys, of which the stack closes the connection. unusable: gets what could not be read."""
    for path in identities:
        try:
            yield path.name, keys.key(path)
        except (OSError, ValueError, TypeError, paramiko.SSHException, UnknownKeyType) as error:
            unusable.append(f"{path.name} ({error})")  # ssh-agent may hold the key unlocked
    if agent:
        for key in _agent_keys(stack)[:_AGENT_KEYS]:
            yield f"ssh-agent {key.comment or key.get_name()}", key


def _agent_keys(stack: contextlib.ExitStack) -> Sequence[paramiko.AgentKey]:
    """Empty when there is no ssh-agent, or one that does not answer in 2 s."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path or not hasattr(socket, "AF_UNIX"):
        return ()
    agent: Any = AgentSSH()  # not paramiko.Agent: that one connects without a time limit
    conn = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
    try:
        conn.settimeout(_AGENT_S)
        conn.connect(path)
        agent._connect(conn)  # noqa: SLF001 - it has no public way to be given a connection with a limit
    except (OSError, ValueError, paramiko.SSHException):
        return ()
    conn.settimeout(_TOUCH_S)
    keys: Sequence[paramiko.AgentKey] = agent.get_keys()
    return sorted(keys, key=lambda key: key.get_name().startswith("sk-"))  # those that wait for a touch last
