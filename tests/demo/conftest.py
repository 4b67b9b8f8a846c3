from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fieldops.deadline import Deadline


@pytest.fixture
def within() -> Callable[[float], Deadline]:
    return lambda seconds: Deadline.after(seconds, time.monotonic)
