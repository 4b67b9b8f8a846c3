"""stderr, and how a run ends: every error as who, what happened and the next step; its exit code; the gravest of several.

One of the two places that catch every exception (the other is the console): what is no FieldopsError is a bug.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fieldops.cli.output import ReaderGone, clean, document, flush
from fieldops.errors import Cancelled, FieldopsError, StorageFault, UsageFault, gravest, next_step_of

if TYPE_CHECKING:
    from typer.exceptions import TyperException

    from fieldops.ports import Progress, Question

CANCELLED = Cancelled.exit_code


def ended(
    run: Callable[[], object],
    *,
    as_json: bool,
    usage: type[TyperException] | tuple[()] = (),
    abort: type[Exception] | tuple[()] = (),
) -> int:
    """The exit code of `run`, which returns one or raises. Never lets an exception or a traceback through.

    usage, abort: typer's own exceptions; the console is started without typer, which costs more than all else of its start.
    """
    try:
        code = run()
        flush()
    except FieldopsError as error:
        report(error, as_json=as_json)
        return error.exit_code
    except usage as error:
        return _usage(error, as_json=as_json)
    except KeyboardInterrupt:
        report(Cancelled(), as_json=as_json)
        return CANCELLED
    except abort:
        report(Cancelled(), as_json=as_json)
        return CANCELLED
    except ReaderGone:
        _discard_stdout()
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost boundary: what comes here is a bug
        return _bug(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def report(error: FieldopsError, *, as_json: bool) -> None:
    """To a person on stderr; with --json as the one document on stdout."""
    if as_json:
        from fieldops.wire import error_doc

        document(error_doc(error))
        return
    tell(str(error))
    if error.next_step:
        tell(f"next: {next_step_of(error)}")


def report_all(errors: Iterable[FieldopsError]) -> int:
    """Each error on stderr, a next step that several share once; the gravest exit code."""
    told = list(errors)
    steps = [next_step_of(error) for error in told]
    for error, step, following in zip(told, steps, [*steps[1:], None], strict=False):
        tell(str(error))
        if step and step != following:
            tell(f"next: {step}")
    return gravest(error.exit_code for error in told)


def tell(text: str) -> None:
    """Talk to the person. Line breaks stay, other control characters do not."""
    _clear_progress()
    for line in text.split("\n"):
        sys.stderr.write(f"{clean(line)}\n")
    sys.stderr.flush()


def _usage(error: TyperException, *, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fieldops"
    if type(error).__name__ == "NoArgsIsHelpError":
        if as_json:
            report(UsageFault("no verb", reason="usage", next_step=f"see `{path} --help`"), as_json=True)
        else:
            sys.stderr.write(f"{error.format_message()}\n")
        return 2
    report(UsageFault(error.format_message().rstrip("."), reason="usage", next_step=f"see `{path} --help`"), as_json=as_json)
    return 2


def _bug(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        # No edge foresaw it, yet a full disk or a forbidden file is the laptop's state and not a bug.
        report(
            StorageFault(
                f"{error.filename}: {error.strerror}", reason="io_error", next_step="check the disk and the permissions there"
            ),
            as_json=as_json,
        )
        return StorageFault.exit_code
    if os.environ.get("FIELDOPS_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    where = "run it again with FIELDOPS_DEBUG=1 and send what it prints"
    bug = FieldopsError(f"a bug: please report ({what})", reason="bug", next_step=where)
    report(bug, as_json=as_json)
    return 1


def _discard_stdout() -> None:
    # The interpreter flushes stdout once more at exit; without this it would print a traceback of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- asking ------------------------------------------------------------------------------------------------------------------


def at_terminal() -> bool:
    """Somebody can be asked: both the question and the answer go through a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def need_person(*, yes: bool, dry_run: bool) -> None:
    """Before anything is done: a change without --yes and without a terminal is a usage fault, never a question."""
    if not (yes or dry_run or at_terminal()):
        raise UsageFault(
            "this changes something, and nobody is at a terminal to be asked",
            reason="needs_yes",
            next_step="look at it with --dry-run, then give --yes",
        )


def agreed(question: str) -> None:
    """Raises Cancelled unless the person types yes."""
    if _typed(f"{question} [yes/no]").lower() not in {"yes", "y"}:
        raise Cancelled("not confirmed; nothing was changed")


def typed(what: str, wanted: str) -> bool:
    """Whether the person types exactly what is wanted."""
    return _typed(f"type {what}:") == wanted


def ask(question: Question) -> str | None:
    """A passphrase or password for a link, from the terminal; never kept. None: nobody answered."""
    import getpass

    _clear_progress()
    try:
        if question.echo:
            return _typed(question.text)
        return getpass.getpass(f"{clean(question.text)}: ", stream=sys.stderr)
    except EOFError:
        return None


def _typed(question: str) -> str:
    _clear_progress()
    sys.stderr.write(f"{clean(question)} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


# --- progress ------------------------------------------------------------------------------------------------------------------

_painting = threading.Lock()
_painted = False


def _clear_progress() -> None:
    global _painted  # noqa: PLW0603 - there is one stderr
    with _painting:
        if _painted:
            sys.stderr.write("\r\x1b[K")
            _painted = False


def progress_of(device: str) -> Callable[[Progress], None] | None:
    """Paints one line on a terminal; None elsewhere, so that logs stay free of it."""
    if not sys.stderr.isatty():
        return None

    def paint(now: Progress) -> None:
        global _painted  # noqa: PLW0603
        share = f" {100 * now.done / now.total:3.0f} %" if now.total else ""
        with _painting:
            sys.stderr.write(f"\r\x1b[K{clean(device)}: {clean(now.phase)}{share}")
            sys.stderr.flush()
            _painted = True

    return paint
