"""The characters the console draws with: blocks where the terminal can show them, ASCII everywhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """spark: from lowest to highest."""

    spark: str
    full: str
    empty: str
    arrow: str
    dot: str
    ellipsis: str
    rule: str
    pointer: str
    unknown: str = "-"


BLOCKS = Glyphs(spark="▁▂▃▄▅▆▇█", full="█", empty="░", arrow="→", dot="·", ellipsis="…", rule="─", pointer="▶")
ASCII = Glyphs(spark=".:-=+*#%@", full="#", empty=".", arrow="->", dot="|", ellipsis="~", rule="-", pointer=">")

# Terminals whose fonts are known to lack block glyphs, whatever their encoding claims.
PLAIN_TERMINALS = frozenset({"linux", "vt100", "vt102", "vt220", "ansi", "dumb"})


def glyphs_for(encoding: str | None, term: str, *, ascii_only: bool = False) -> Glyphs:
    """encoding: of stdout; None when it has none. term: the TERM variable."""
    if ascii_only or term in PLAIN_TERMINALS:
        return ASCII
    name = (encoding or "").lower().replace("-", "").replace("_", "")
    return BLOCKS if name == "utf8" else ASCII


_PLAIN = str.maketrans(
    {
        **dict.fromkeys("─━═▔", "-"),
        **dict.fromkeys("│┃║▏▕▎▌▊", "|"),
        **dict.fromkeys("▁▂▃▄▅▆▇▀", " "),  # the ends of a scrollbar's thumb
        **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
        "→": ">", "▶": ">", "·": "|", "…": "~", "–": "-", "—": "-", "≥": ">", "≤": "<", "█": "#", "░": ".", "•": "*",
    }
)  # fmt: skip


def to_ascii(text: str) -> str:
    """Every byte below 0x80 and every cell where it was: wide characters become two."""
    from rich.cells import cell_len

    return "".join(char if char.isascii() else "?" * cell_len(char) for char in text.translate(_PLAIN))
