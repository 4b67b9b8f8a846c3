from __future__ import annotations

from fieldops.demo.control import Control, ask
from fieldops.errors import StoreFault


def test_a_known_verb_is_done_and_an_unknown_one_says_what_there_is() -> None:
    control = Control(0, {"store up": lambda: "http://127.0.0.1:1"})
    try:
        assert ask(control.address, "store up", 5) == "ok http://127.0.0.1:1"
        assert ask(control.address, "store sideways", 5) == "error no such verb; there are: store up"
    finally:
        control.close()


def test_what_went_wrong_is_answered_and_the_next_asker_is_served() -> None:
    def refuse() -> str:
        raise StoreFault("no room", reason="full", next_step="make room")

    control = Control(0, {"store up": refuse, "status": lambda: "down"})
    try:
        assert ask(control.address, "store up", 5) == "error no room"
        assert ask(control.address, "status", 5) == "ok down"
    finally:
        control.close()
