"""The site server of config.toml, before verbs that judge sticks."""

from __future__ import annotations

from fieldops.cli.call import Call
from fieldops.cli.diagnostics import tell
from fieldops.ports import Source


def hear_site(call: Call) -> Source | None:
    """Take what it has that is newer. None: none is configured, or it is left out, which is said."""
    if call.laptop.config.site is None:
        return None
    from fieldops.operations.site import hear

    laptop = call.laptop
    heard = call.run(lambda: hear(laptop.gate, laptop.trust, laptop.media, call.deadline()))
    if heard.error is not None:
        tell(f"going on without the site server: {heard.error.message}")
    return heard.source
