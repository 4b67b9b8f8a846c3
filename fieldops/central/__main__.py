"""`fieldops central serve|invite|laptops|revoke|verify`: the store's own program and wiring. Shares nothing with a laptop's home."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.edges.clock import SystemClock
from fieldops.edges.locks import exclusive
from fieldops.errors import CheckFailed, FieldopsError, StorageFault, UsageFault
from fieldops.fleet import Address, parse_address
from fieldops.wire import encode

if TYPE_CHECKING:  # at run time only `serve` needs a server
    from fieldops.central.server import StoreServer
    from fieldops.central.store import LogStore

MOST_HOURS = 24.0 * 90


def main() -> int:
    """Returns the exit code of DESIGN §10."""
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "verify":
            return _verify(arguments.data)
        if arguments.verb == "invite":
            return _invite(arguments.data, arguments.hours, arguments.label)
        if arguments.verb == "revoke":
            return _revoke(arguments.data, arguments.laptop, arguments.reason)
        if arguments.verb == "laptops":
            return _laptops(arguments.data)
        return _serve(arguments.data, arguments.listen, until_eof=arguments.until_eof)
    except FieldopsError as error:
        sys.stderr.write(f"fieldops central: {error}\nnext: {error.next_step}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fieldops central", description="The central store: the audit logs of all laptops.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve", help="take pushes until SIGTERM; prints one JSON line when ready")
    serve.add_argument("--data", type=Path, required=True, metavar="DIR", help="the store's folder; made when it is not there")
    serve.add_argument("--listen", default="127.0.0.1:8470", metavar="HOST:PORT", help="port 0: any free one")
    serve.add_argument("--until-eof", action="store_true", help="end as well when standard input ends")
    check = verbs.add_parser("verify", help="compute every log again from its bytes and compare with what was signed")
    check.add_argument("--data", type=Path, required=True, metavar="DIR")
    invite = verbs.add_parser("invite", help="make a code that lets one laptop in, once; it is printed this one time")
    invite.add_argument("--data", type=Path, required=True, metavar="DIR")
    invite.add_argument("--hours", type=_hours, default=24.0, help="how long it may be used (default 24)")
    invite.add_argument("--label", default="", help="words for people: whose laptop it is for")
    laptops = verbs.add_parser("laptops", help="which laptops were let in, and which were revoked")
    laptops.add_argument("--data", type=Path, required=True, metavar="DIR")
    revoke = verbs.add_parser("revoke", help="take no telemetry of a laptop any more, and mark what it records from now on")
    revoke.add_argument("laptop", metavar="LAPTOP", help="its id, or six letters or more of its beginning")
    revoke.add_argument("--data", type=Path, required=True, metavar="DIR")
    revoke.add_argument("--reason", default="", help="why, for the page")
    return parser


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(f"between 0 and {MOST_HOURS:g}")
    return hours


def _serve(data: Path, listen: str, *, until_eof: bool) -> int:
    try:
        from fieldops.central.server import StoreServer, application
    except ModuleNotFoundError as error:
        raise UsageFault(
            f"the central store needs {error.name}",
            reason="not_installed",
            next_step="install it: pip install 'fieldops[central]'",
        ) from error
    from fieldops.central.store import LogStore

    with exclusive(data / "store.lock", "the central store"), _listening(listen) as listener:
        store = LogStore.open(data, SystemClock())
        address = Address(*listener.getsockname()[:2])
        ready = {
            "schema": "fieldops.central/v1",
            "store": store.id,
            "url": f"http://{address}",
            "port": address.port,
            "pid": os.getpid(),
        }
        try:
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as worker:
                server = StoreServer(application(store, worker), lambda: _say(ready))
                asyncio.run(_until_stopped(server, listener, until_eof=until_eof))
        finally:
            store.close()
    return 0


async def _until_stopped(server: StoreServer, listener: socket.socket, *, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        if os.name == "nt":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        else:
            loop.add_signal_handler(number, stop)
    if until_eof:
        # a daemon on the bare descriptor: it may still be blocked there when all else has ended
        threading.Thread(target=_at_eof, args=(loop, stop), daemon=True, name="until-eof").start()
    await server.serve([listener])


def _at_eof(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    try:
        loop.call_soon_threadsafe(stop)
    except RuntimeError:
        return  # the loop has ended already


def _listening(listen: str) -> socket.socket:
    try:
        any_port = listen.endswith(":0")
        wanted = parse_address(listen.removesuffix(":0"), default_port=1 if any_port else None)
    except ValueError as error:
        raise UsageFault(f"--listen {listen!r}; expected {error}", next_step="give HOST:PORT, such as 127.0.0.1:8470") from error
    try:
        return _bound(Address(wanted.host, 0 if any_port else wanted.port))
    except OSError as error:
        raise StorageFault(
            f"cannot listen on {wanted}: {error.strerror}", reason="in_use", next_step="choose another port with --listen"
        ) from error


def _bound(at: Address) -> socket.socket:
    """The protocol is named, as socket.create_server does not: asyncio sets TCP_NODELAY only where it is, and without that
    each answer but the first of a connection waits 40 ms for the other side's acknowledgement.
    """
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((at.host, at.port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def _store(data: Path) -> Iterator[LogStore]:
    """Beside a running `serve`: each write here is one transaction of its own."""
    from fieldops.central.store import LogStore

    if not (data / "store.db").exists():
        raise UsageFault(f"no store in {data}", next_step="name the folder that `fieldops central serve --data` uses")
    store = LogStore.open(data, SystemClock())
    try:
        yield store
    finally:
        store.close()


def _invite(data: Path, hours: float, label: str) -> int:
    with _store(data) as store:
        made = store.laptops.invite(hours * 3600, label)
    _say({"schema": "fieldops.central-invite/v1", "code": made.code, "expires": made.expires, "label": label})
    return 0


def _revoke(data: Path, laptop: str, reason: str) -> int:
    with _store(data) as store:
        line = store.laptops.revoke(laptop, reason)
    _say({"schema": "fieldops.central-revoked/v1", **asdict(line)})
    return 0


def _laptops(data: Path) -> int:
    with _store(data) as store:
        _say({"schema": "fieldops.central-laptops/v1", "laptops": [asdict(line) for line in store.laptops.all()]})
    return 0


def _verify(data: Path) -> int:
    with _store(data) as store:
        problems = store.verify()
        count = len(store.logs())
    _say({"schema": "fieldops.central-verified/v1", "ok": not problems, "logs": count, "problems": problems})
    return CheckFailed.exit_code if problems else 0


def _say(value: object) -> None:
    sys.stdout.write(encode(value).decode("utf-8") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
