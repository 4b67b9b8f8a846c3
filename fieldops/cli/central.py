"""`fieldops central ...`"""

from __future__ import annotations

import typer

from fieldops.cli.call import group

app = group()


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def serve(context: typer.Context) -> int:
    """Run the store: serve --data DIR --listen HOST:PORT."""
    from fieldops.wiring import main_of_store

    return main_of_store(["serve", *context.args])


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def verify(context: typer.Context) -> int:
    """Compute every log of a store again from its bytes: verify --data DIR."""
    from fieldops.wiring import main_of_store

    return main_of_store(["verify", *context.args])
