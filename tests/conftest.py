"""Rules that hold for every test: what a skip must say, and that CI skips nothing for want of a program.

What a machine's owner does not allow (mounts, namespaces, control groups) no package brings: a skip that begins with
NOT_ALLOWED is told, and is no failure.
"""

from __future__ import annotations

import os

import pytest

NOT_ALLOWED = "this machine allows no"
HOW_TO_GET = {
    "needs_dropbear": "Debian: apt-get install dropbear-bin",
    "needs_sshd": "Debian: apt-get install openssh-server",
    "needs_postgresql": "Debian: apt-get install postgresql",
    "needs_chromium": "Debian: apt-get install chromium",
    "needs_tmux": "Debian: apt-get install tmux",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say what was skipped, and how to get what it needs."""
    skipped = terminalreporter.stats.get("skipped", [])
    hints = {hint for report in skipped for name, hint in HOW_TO_GET.items() if name in report.keywords}
    for hint in sorted(hints):
        terminalreporter.write_line(f"some tests were skipped for want of a program. {hint}")


def _not_allowed(report: pytest.TestReport) -> bool:
    return isinstance(report.longrepr, tuple) and report.longrepr[2].removeprefix("Skipped: ").startswith(NOT_ALLOWED)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("FIELDOPS_TESTS_SKIP_NOTHING"):
        return
    if exitstatus == 0 and not all(_not_allowed(report) for report in reporter.stats.get("skipped", [])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
