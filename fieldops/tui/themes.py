"""Themes are TOML files: a dozen named colours, each with one meaning. The shipped ones are in `themes/`, a person's own in
`<home>/themes`. Contrast is computed here so that a test holds every shipped theme to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.errors import Fault

if TYPE_CHECKING:
    from textual.theme import Theme

DEFAULT = "night"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Palette:
    """One theme file. Colours are #rrggbb."""

    name: str
    title: str
    dark: bool
    text: str
    muted: str  # secondary text; never the only place of a value
    background: str
    surface: str  # tables and panels
    bar: str  # header and key bar
    bar_text: str
    cursor: str  # background of the selected row
    line: str  # borders and rules
    accent: str  # keys, focus, the current tab
    ok: str
    warn: str
    fail: str
    off: str


_COLOURS = tuple(field.name for field in fields(Palette) if field.name not in {"name", "title", "dark"})


def parse_theme(text: str, file: str) -> Palette | list[Fault]:
    """The palette, or every fault of the file with its line."""
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        return [Fault(file, int(found[1]) if found else None, str(error), "valid TOML")]
    lines = text.splitlines()

    def line_of(key: str) -> int | None:
        return next((n for n, line in enumerate(lines, 1) if re.match(rf"\s*{re.escape(key)}\s*=", line)), None)

    allowed = {field.name for field in fields(Palette)}
    faults = [
        Fault(file, line_of(key), f"unknown key {key!r}", "one of " + ", ".join(sorted(allowed)))
        for key in table.keys() - allowed
    ]
    faults += [
        Fault(file, line_of(key), f"{key} = {table.get(key)!r}", "a text in quotes")
        for key in ("name", "title")
        if not isinstance(table.get(key), str) or not table[key]
    ]
    if not isinstance(table.get("dark"), bool):
        faults.append(Fault(file, line_of("dark"), f"dark = {table.get('dark')!r}", "true or false"))
    for key in _COLOURS:
        value = table.get(key)
        if not isinstance(value, str) or not _COLOUR.fullmatch(value):
            faults.append(Fault(file, line_of(key), f"{key} = {value!r}", "a colour as #rrggbb"))
    if faults:
        return faults
    return Palette(**table)


def load_themes(folders: Iterable[Path]) -> tuple[dict[str, Palette], list[Fault]]:
    """Themes by name; a later folder wins over an earlier one. A broken file is a fault and hides nothing else."""
    palettes: dict[str, Palette] = {}
    faults: list[Fault] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                faults.append(Fault(path.name, None, str(error), "a readable UTF-8 file"))
                continue
            result = parse_theme(text, path.name)
            if isinstance(result, Palette):
                palettes[result.name] = result
            else:
                faults += result
    return palettes, faults


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours, 1 to 21."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    first, second = sorted((luminance(one), luminance(other)), reverse=True)
    return (first + 0.05) / (second + 0.05)


# Used before any file was read and when none can be: the console must come up whatever the disk says.
BUILTIN = Palette(
    name="night",
    title="white on black",
    dark=True,
    text="#f2f4f5",
    muted="#a9b4ba",
    background="#0b0e10",
    surface="#0b0e10",
    bar="#1c2429",
    bar_text="#f2f4f5",
    cursor="#1d3a52",
    line="#46535b",
    accent="#7cc7ff",
    ok="#5fd38d",
    warn="#ffc24b",
    fail="#ff8a80",
    off="#b9a7f5",
)


def colour_variables(palette: Palette) -> dict[str, str]:
    """CSS variables of a palette; panels name colours by meaning (`$fo-warn`), never by hue."""
    own = {f"fo-{key.replace('_', '-')}": getattr(palette, key) for key in _COLOURS}
    return own | {
        "text": palette.text,
        "text-muted": palette.muted,
        "foreground-muted": palette.muted,
        "text-success": palette.ok,
        "text-warning": palette.warn,
        "text-error": palette.fail,
        "text-accent": palette.accent,
        "text-primary": palette.accent,
        "border": palette.accent,
        "border-blurred": palette.line,
        "block-cursor-background": palette.cursor,
        "block-cursor-foreground": palette.text,
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": palette.cursor,
        "block-cursor-blurred-foreground": palette.text,
        "input-cursor-background": palette.text,
        "input-cursor-foreground": palette.background,
        "input-selection-background": palette.cursor,
        "scrollbar": palette.line,
        "scrollbar-background": palette.background,
        "scrollbar-hover": palette.muted,
        "scrollbar-active": palette.accent,
        "button-foreground": palette.text,
        "button-color-foreground": palette.background,
    }


def to_textual(palette: Palette) -> Theme:
    from textual.theme import Theme

    return Theme(
        name=palette.name,
        primary=palette.accent,
        secondary=palette.accent,
        accent=palette.accent,
        warning=palette.warn,
        error=palette.fail,
        success=palette.ok,
        foreground=palette.text,
        background=palette.background,
        surface=palette.surface,
        panel=palette.bar,
        boost=palette.bar,
        dark=palette.dark,
        variables=colour_variables(palette),
    )


def colourless() -> Theme:
    """For NO_COLOR: the terminal's own two colours, selection by reverse; states stay readable as words."""
    from textual.theme import BUILTIN_THEMES, Theme

    plain = "ansi_default"
    meanings = {f"fo-{key.replace('_', '-')}": plain for key in _COLOURS}
    terminal = {key: plain for key, value in BUILTIN_THEMES["ansi-dark"].variables.items() if value.startswith("ansi_")}
    chrome = dict.fromkeys(("border", "scrollbar", "scrollbar-background", "scrollbar-hover"), plain)
    return Theme(
        name="no-color",
        primary=plain,
        foreground=plain,
        background=plain,
        surface=plain,
        panel=plain,
        boost=plain,
        ansi=True,
        variables=meanings | terminal | chrome,
    )
