"""Where things lie on this machine: the home folder, the data that came with fieldops, config.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.errors import StorageFault, UsageFault

if TYPE_CHECKING:
    from fieldops.config import Config


def home_folder(home: Path | None = None) -> Path:
    """`--home`, else FIELDOPS_HOME, else where this system keeps a program's data."""
    if home is not None:
        return home.expanduser().absolute()
    if os.environ.get("FIELDOPS_HOME"):
        return Path(os.environ["FIELDOPS_HOME"]).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("fieldops", appauthor=False)


def data_dir(name: str, override: Path | None = None) -> Path:
    """`themes` or `sample_fleet`: inside the installed wheel, else beside the package in a checkout. Raises StorageFault."""
    package = Path(__file__).resolve().parent.parent
    places = [*([override / name] if override else []), package / "_data" / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise StorageFault(
        f"no folder {name} at {', '.join(str(place) for place in places)}",
        reason="missing_data",
        next_step="install fieldops again, or set `data` in config.toml",
    )


def read_config(home: Path) -> Config:
    """Defaults when there is no file. Raises UsageFault with every fault, StorageFault when it cannot be read."""
    from fieldops.config import Config, parse_config

    file = home / "config.toml"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except UnicodeDecodeError as error:
        raise UsageFault(f"{file}: not UTF-8 text", reason="bad_file", next_step="save it as UTF-8") from error
    except OSError as error:
        raise StorageFault(f"{file}: {error.strerror}", reason="unreadable", next_step="mend the file's permissions") from error
    return parse_config(text, str(file), base=home, user_home=Path.home())
