"""What only the person can say: asked by a thread, answered on the screen, never shown, and over when its job is."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import Cancelled
from fieldops.ports import Question
from fieldops.tui.app import Console
from fieldops.tui.glyphs import ASCII, BLOCKS, Glyphs
from fieldops.tui.prompts import Asked, Asker
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.prompt import PromptScreen
from tests.tui.seeing import Make, Until, on, screen_text, shown, text_of

PASSWORD = Question("password", "Password of tech@10.0.4.1", device="cam-0001", host="tech@10.0.4.1", host_key="SHA256:abc")
KEY = Question("passphrase", "Passphrase of /home/me/.ssh/id")


def soon(seconds: float = 20.0, token: CancelToken | None = None) -> Deadline:
    return Deadline.after(seconds, time.monotonic, token)


# --- the thread's side -----------------------------------------------------------------------------------------------------


class Person:
    """Answers what is shown, in order; None cancels."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.seen: list[Question] = []

    def __call__(self, asked: Asked) -> None:
        self.seen.append(asked.question)
        asked.answer(self.answers.pop(0))


def asker_of(person: Callable[[Asked], None]) -> Asker:
    asker = Asker(time.monotonic)
    asker.show_with(person)
    return asker


def test_a_password_is_asked_only_while_the_person_waits_for_that_device() -> None:
    person = Person("open sesame")
    asker = asker_of(person)
    assert asker.ask(PASSWORD) is None
    with asker.waiting_for("cam-0001", soon()):
        with asker.by_itself():
            pass
        assert asker.ask(PASSWORD) == "open sesame"
    assert asker.ask(PASSWORD) is None
    assert person.seen == [PASSWORD]


def test_background_reading_never_asks_for_a_password_even_while_the_person_waits_for_the_device() -> None:
    person = Person()
    asker = asker_of(person)
    found: list[str | None] = []

    def read() -> None:
        with asker.by_itself():
            found.append(asker.ask(PASSWORD))

    with asker.waiting_for("cam-0001", soon()):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(10)
    assert found == [None]
    assert person.seen == []


def test_a_library_that_asks_on_a_thread_of_its_own_asks_for_the_device_that_is_waited_for() -> None:
    asker = asker_of(Person("42"))
    found: list[str | None] = []
    question = Question("answer", "cam-0001: code?", device="cam-0001")
    with asker.waiting_for("cam-0001", soon()):
        thread = threading.Thread(target=lambda: found.append(asker.ask(question)))
        thread.start()
        thread.join(10)
    assert found == ["42"]


def test_the_passphrase_of_a_key_is_asked_by_background_reading_too_and_declining_cancels_nothing() -> None:
    asker = asker_of(Person("word", None))
    assert asker.ask(KEY) == "word"
    assert asker.ask(KEY) is None


def test_cancelling_cancels_the_job_that_asked() -> None:
    token = CancelToken()
    asker = asker_of(Person(None))
    with asker.waiting_for("cam-0001", soon(token=token)), pytest.raises(Cancelled):
        asker.ask(PASSWORD)
    assert token.cancelled


@pytest.mark.parametrize("how", ["deadline", "cancel", "stop"])
def test_a_question_nobody_waits_for_any_more_is_withdrawn(how: str) -> None:
    token, shown = CancelToken(), threading.Event()
    held: list[Asked] = []

    def show(asked: Asked) -> None:
        held.append(asked)
        shown.set()

    asker = asker_of(show)
    deadline = soon(0.2 if how == "deadline" else 20, token)

    def end() -> None:
        shown.wait(10)
        if how == "cancel":
            token.cancel()
        elif how == "stop":
            asker.stop()

    threading.Thread(target=end).start()
    with asker.waiting_for("cam-0001", deadline):
        assert asker.ask(PASSWORD) is None
    assert held[0].withdrawn or how == "stop"


def test_one_question_at_a_time() -> None:
    shown: queue.Queue[Asked] = queue.Queue()
    asker = asker_of(shown.put)
    found: list[str | None] = []

    def ask() -> None:
        with asker.waiting_for("cam-0001", soon()):
            found.append(asker.ask(PASSWORD))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(3):
        asked = shown.get(timeout=10)
        assert shown.empty()
        asked.answer(f"said {number}")
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, found)) == ["said 0", "said 1", "said 2"]


# --- the screen's side -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker(time.monotonic)
    yield made
    made.stop()


@pytest.fixture
def asking_console(site: Any, asker: Asker) -> Make:
    site.asker = asker

    def make(glyphs: Glyphs = BLOCKS) -> Console:
        return Console(site, glyphs=glyphs, asker=asker, theme_folders=lambda: [Path(__file__).parents[2] / "themes"])

    return make


@pytest.mark.anyio
@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII])
async def test_logging_in_asks_on_the_screen_says_for_whom_and_never_shows_what_is_typed(
    asking_console: Make, until: Until, site: Any, glyphs: Glyphs
) -> None:
    app = asking_console(glyphs)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("L")
        await until(pilot, on(app, PromptScreen))
        await until(pilot, lambda: app.screen.query_one("#secret").has_focus)
        for words in ("PASSWORD for oven-03", "Password of tech@10.0.4.1", "goes to tech@10.0.4.1", "SHA256:abc", "s left"):
            assert words in text_of(app).replace("|", " ").replace("  ", " "), words
        before = screen_text(app)
        await pilot.press(*"qZXj")
        await until(pilot, lambda: app.screen.query_one("#secret", Input).value == "qZXj")
        await pilot.pause()
        assert "qZXj" not in "\n".join(screen_text(app))
        assert not any(char in row for row, old in zip(screen_text(app), before, strict=True) if row != old for char in "ZX")
        assert glyphs is BLOCKS or all(row.isascii() for row in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: any("logged in to oven-03" in text for _, _, text in app.history))
    assert site.said == ["qZXj"]
    assert "qZXj" not in repr(app.history)


@pytest.mark.anyio
async def test_esc_in_the_prompt_cancels_the_log_in_and_it_says_so(asking_console: Make, until: Until, site: Any) -> None:
    app = asking_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("L")
        await until(pilot, on(app, PromptScreen))
        await pilot.press(*"abc", "escape")
        await until(pilot, on(app, FleetScreen))
        await until(pilot, lambda: [job.state for job in app.jobs.newest_first] == ["CANCELLED"])
        assert any("cancelled" in text for _, _, text in app.history)
    assert site.said == []


@pytest.mark.anyio
async def test_a_prompt_goes_by_itself_when_its_job_is_stopped(asking_console: Make, until: Until) -> None:
    app = asking_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("L")
        await until(pilot, on(app, PromptScreen))
        app.jobs.cancel_all()
        await until(pilot, on(app, FleetScreen))


@pytest.mark.anyio
async def test_what_is_typed_cannot_be_copied_out_of_the_field(asking_console: Make, until: Until) -> None:
    app = asking_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("L")
        await until(pilot, on(app, PromptScreen))
        await until(pilot, lambda: app.screen.query_one("#secret").has_focus)
        await pilot.press(*"abc", "ctrl+a", "ctrl+c", "ctrl+x")
        await pilot.pause()
        assert app.clipboard == ""
        assert app.screen.query_one("#secret", Input).value == "abc"
        await pilot.press("escape")
