"""What wraps a command on the device: a job that ends with its laptop, and sudo.

A command of its own keeps running on the device when its channel closes: sshd kills nothing. A job therefore runs in a session
of its own under `timeout`, and a second process there reads the channel's stdin, which carries nothing: when it ends, because
the laptop closed the channel, died or was unplugged, the job's process group is killed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fieldops.errors import NotAuthorised

_JOB = r"""exec 3<&0
s=; command -v setsid >/dev/null 2>&1 && s=setsid
t=; command -v timeout >/dev/null 2>&1 && timeout 9 true >/dev/null 2>&1 && t="timeout $2"
$s $t sh -c "$1" </dev/null 3<&- &
p=$!
g=$p; [ -n "$s" ] && g=-$p
$s sh -c 'while read -r _; do :; done; kill -TERM "$1"; sleep 1; kill -KILL "$1"' job "$g" <&3 3<&- >/dev/null 2>&1 &
w=$!
exec 3<&-
wait $p; r=$?
kill -KILL $w 2>/dev/null
exit $r"""

_PROMPT = b"fieldops-asks-for-the-password:"
_BEGUN = b"fieldops-begins\n"


def line_of(command: str | Sequence[str]) -> str:
    """A list of arguments, or a POSIX sh script, as the one line that SSH carries."""
    return f"sh -c {shlex.quote(command)}" if isinstance(command, str) else shlex.join(command)


def job_line(command: str | Sequence[str], seconds: float) -> str:
    """The command as a job; its stdin is its life-line and must stay open."""
    script = command if isinstance(command, str) else shlex.join(command)
    return f"sh -c {shlex.quote(_JOB)} job {shlex.quote(script)} {int(seconds) + 1}"


@dataclass(frozen=True, slots=True)
class Sudo:
    """Run as root. password: asked for when sudo wants one, never kept; None: sudo must not want any.

    A login that is root already needs neither sudo nor password.
    """

    password: Callable[[], str | None] | None = field(default=None, repr=False)


def sudo_line(line: str) -> str:
    """The password is sent only after sudo's prompt appeared, so that it never reaches the command's own stdin."""
    inner = f"printf %s {shlex.quote(_BEGUN.decode())} >&2; exec {line}"
    script = (
        f'if [ "$(id -u)" = 0 ]; then exec sh -c "$1"; '
        f'else LC_ALL=C exec sudo -S -p {shlex.quote(_PROMPT.decode())} -- sh -c "$1"; fi'
    )
    return f"sh -c {shlex.quote(script)} sudo {shlex.quote(inner)}"


class SudoEar:
    """Answers sudo's prompt, once."""

    def __init__(self, sudo: Sudo, device: str) -> None:
        self._sudo = sudo
        self._device = device
        self._asked = False
        self._begun = False
        self._held = b""  # what may be the beginning of a mark

    @property
    def ready(self) -> bool:
        return self._begun

    def hear(self, data: bytes) -> tuple[bytes, bytes]:
        if self._begun:
            return data, b""
        self._held += data
        _, begun, after = self._held.partition(_BEGUN)
        if begun:
            self._begun, self._held = True, b""
            return after, b""
        _, prompt, after = self._held.partition(_PROMPT)
        if not prompt:
            return b"", b""
        self._held = after
        return b"", self._password().encode() + b"\n"

    def _password(self) -> str:
        password = None if self._asked or self._sudo.password is None else self._sudo.password()
        if password is None or "\n" in password:
            raise NotAuthorised(
                "sudo did not take the password" if self._asked else "sudo asks for a password there, and none was given",
                reason="sudo_refused",
                next_step="give the login's password when asked, or let the login use sudo without one",
                device=self._device,
            )
        self._asked = True
        return password

    def check_begun(self) -> None:
        """Raises NotAuthorised (sudo_refused) when the command ended before it began."""
        if self._begun:
            return
        said = self._held.decode("utf-8", "replace").strip().splitlines()
        words = "".join(char for char in said[-1] if char.isprintable())[:200] if said else "it said nothing"
        raise NotAuthorised(
            f"sudo did not begin the command: {words}",
            reason="sudo_refused",
            next_step="let the login use sudo, or log in as root",
            device=self._device,
        )
