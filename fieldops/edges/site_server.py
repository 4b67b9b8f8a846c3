"""The site server of config.toml: asked whether it is there, in a moment that does not grow with what is wrong out there.

A name server that does not answer blocks for half a minute, and no time-out of a socket bounds that. So the question is put
by a thread that nobody waits for beyond the deadline; it ends by itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from fieldops.deadline import Deadline
from fieldops.edges.usb import HttpSource
from fieldops.errors import TrustRefused, Unreachable

CONNECT_S = 2.0
READ_S = 10.0
_TIMESTAMP_BYTES = 16 << 10


@dataclass(slots=True)
class _Question:
    over: threading.Event = field(default_factory=threading.Event)
    fault: str = "no answer"

    def ask(self, source: HttpSource) -> None:
        try:
            source.read("metadata/timestamp.json", _TIMESTAMP_BYTES)
            self.fault = ""
        except TrustRefused as error:
            # Whatever else is wrong with it: it is there, and its metadata will be judged.
            self.fault = error.message if error.reason in {"io_error", "missing"} else ""
        finally:
            self.over.set()


def answering(address: str, deadline: Deadline) -> HttpSource:
    """The server as a source, when it gives its timestamp before the deadline. Raises Unreachable, Cancelled, DeadlinePassed."""
    import httpx

    source = HttpSource(address, httpx.Client(timeout=httpx.Timeout(READ_S, connect=CONNECT_S)))
    question = _Question()
    threading.Thread(target=question.ask, args=(source,), name="site server", daemon=True).start()
    question.over.wait(deadline.check(f"the site server {address}"))
    if question.fault:
        raise Unreachable(
            f"the site server {address}: {question.fault}",
            phase="http",
            next_step="go on without it; if it should be there, check the cable and `site` under [sticks] in config.toml",
        )
    return source
