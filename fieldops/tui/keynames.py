"""Keys as a person reads them on the keyboard."""

from __future__ import annotations

KEY_NAMES = {
    "slash": "/", "colon": ":", "question_mark": "?", "enter": "Enter", "escape": "Esc", "space": "Space", "up": "Up", "down": "Down",
    "left": "Left", "right": "Right", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End", "tab": "Tab",
    "shift+tab": "Shift+Tab", "less_than_sign": "<", "greater_than_sign": ">", "delete": "Del", "backspace": "Backspace",
    "plus": "+", "minus": "-",
}  # fmt: skip


def key_name(key: str) -> str:
    if key in KEY_NAMES:
        return KEY_NAMES[key]
    *modifiers, last = key.split("+")
    shown = KEY_NAMES.get(last, last)
    names = {"ctrl": "Ctrl", "shift": "Shift", "alt": "Alt", "super": "Super"}
    return "+".join([*(names.get(each, each) for each in modifiers), shown.upper() if modifiers and len(shown) == 1 else shown])
