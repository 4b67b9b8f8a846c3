from __future__ import annotations

import os
from pathlib import Path

import fieldops


def test_the_hook_sees_a_file_opened_from_a_fieldops_frame(no_io: list[str]) -> None:
    planted = Path(fieldops.__file__).with_name("planted.py")
    exec(compile(f"open({os.devnull!r}).close()", str(planted), "exec"), {})
    assert len(no_io) == 1
    no_io.clear()
