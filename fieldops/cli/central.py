"""`fieldops central ...`"""

from __future__ import annotations

from typing import Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.options import Json, Timeout
from fieldops.cli.output import document, line

app = group()

OWN = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _store(verb: str, context: typer.Context) -> int:
    """The store's own program; it shares this process but nothing of the laptop."""
    from fieldops.wiring import main_of_store

    return main_of_store([verb, *context.args])


@app.command(context_settings=OWN)
def serve(context: typer.Context) -> int:
    """Run the store: serve --data DIR --listen HOST:PORT."""
    return _store("serve", context)


@app.command(context_settings=OWN)
def invite(context: typer.Context) -> int:
    """Make a code that lets one laptop in, once: invite --data DIR [--hours N] [--label TEXT]."""
    return _store("invite", context)


@app.command(context_settings=OWN)
def laptops(context: typer.Context) -> int:
    """Which laptops a store let in: laptops --data DIR."""
    return _store("laptops", context)


@app.command(context_settings=OWN)
def revoke(context: typer.Context) -> int:
    """Show a laptop out; what it records is marked from then on: revoke LAPTOP --data DIR [--reason TEXT]."""
    return _store("revoke", context)


@app.command(context_settings=OWN)
def verify(context: typer.Context) -> int:
    """Compute every log of a store again from its bytes: verify --data DIR."""
    return _store("verify", context)


@app.command()
def enrol(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the store, such as https://store.example:8470.")],
    code: Annotated[str, typer.Argument(metavar="CODE", help="As `fieldops central invite` printed it for this laptop.")],
    label: Annotated[str, typer.Option("--label", help="Words for the store's owner, where the code has none.")] = "",
    json: Json = False,
    timeout: Timeout = 30.0,
) -> None:
    """Make this laptop known to a store, once. Repeating it with the same code changes nothing."""
    call = Call.of(context, json=json, timeout=timeout)
    enrolled = call.run(lambda: call.laptop.enrol_at_store(url, code, label, call.deadline()))
    configured = call.laptop.config.store_url == url
    if json:
        from fieldops.cli.documents.centre import StoreEnrolment

        document(StoreEnrolment(store=enrolled.store, laptop=enrolled.laptop, enrolled=enrolled.enrolled, configured=configured))
        return
    line(f"store {enrolled.store[:8]} knows this laptop ({enrolled.laptop[:8]})")
    if not configured:
        line(f'next: put `url = "{url}"` under [store] in {call.laptop.home / "config.toml"}, then `fieldops audit sync`')
