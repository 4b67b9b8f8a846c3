"""A runbook as data: YAML that people write and the policy role signs. Parsing reports every fault with its line.

The set of checks and steps is closed: a runbook cannot run a shell. Each step says whether it has an effect and how it is
undone; nothing irreversible may come before a check of the result.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import yaml

from fieldops.errors import Fault, UsageFault

SCHEMA = "fieldops.runbook/v1"
LIMIT_BYTES = 128 * 1024
LAST_GOOD = "@last-good"

PARAM_TYPES = ("device", "model", "version", "enum", "text", "number")
EFFECTS = ("none", "reversible", "irreversible")
ON_FAIL = ("undo_all", "stop")
# check -> the arguments it takes
CHECKS: dict[str, tuple[str, ...]] = {
    "link.up": (),
    "model.present": ("model",),
    "model.last_good": ("model",),
    "load.below": ("cpu_pct",),
    "temperature.below": ("celsius",),
    "disk.free": ("mib",),
    "cause.is_not": ("model", "verdict"),
}
# step -> the arguments it takes
DO: dict[str, tuple[str, ...]] = {
    "observe": ("model",),
    "bench.run": ("model", "samples"),
    "model.revert": ("model", "to"),
    "model.activate": ("model", "version", "trial_s"),
    "model.commit": ("model", "version"),
    "health.check": ("model", "version", "max_failed"),
}
CHANGING = frozenset({"model.revert", "model.activate", "model.commit", "bench.run"})
IRREVERSIBLE_NEEDS = frozenset({"health.check", "bench.run"})

_UNITS = {"s": 1, "m": 60, "h": 3600}
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VARIABLE = re.compile(r"\$\{([a-z0-9_.-]+)\}")


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    type: str
    required: bool = False
    default: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirement:
    check: str
    arguments: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Undo:
    do: str
    arguments: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RunbookStep:
    """retries: further tries after the first, only on the reasons in retry_on."""

    id: str
    do: str
    arguments: tuple[tuple[str, str], ...]
    effect: str
    explain: str
    undo: Undo | None = None
    retries: int = 0
    retry_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runbook:
    """sha256: of the exact bytes; a run is pinned to it."""

    id: str
    title: str
    sha256: str
    roles: tuple[str, ...]
    params: tuple[Param, ...]
    timeout_s: int
    requires: tuple[Requirement, ...]
    steps: tuple[RunbookStep, ...]
    on_fail: str


def parse(data: bytes, file: str) -> Runbook:
    """Raises UsageFault with every fault found."""
    reader = _Reader(file)
    if len(data) > LIMIT_BYTES:
        raise UsageFault.in_file(file, [Fault(file, None, f"{len(data)} bytes", f"at most {LIMIT_BYTES}")])
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise UsageFault.in_file(file, [Fault(file, line, str(error).splitlines()[0], "valid YAML")]) from None
    runbook = reader.runbook(root, hashlib.sha256(data).hexdigest())
    if reader.faults or runbook is None:
        raise UsageFault.in_file(file, sorted(reader.faults, key=lambda fault: fault.line or 0))
    return runbook


def substitute(text: str, values: dict[str, str]) -> str:
    """Replace `${name}`; variables are only read, there is no expression language. Raises KeyError for an unknown one."""
    return _VARIABLE.sub(lambda match: values[match[1]], text)


class _Reader:
    """Walks composed nodes, so that each fault has its line."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, node: Any, found: str, expected: str) -> None:
        line = node.start_mark.line + 1 if node is not None else None
        self.faults.append(Fault(self.file, line, found, expected))

    def table(self, node: Any, known: tuple[str, ...], what: str, needed: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"{what} is no table", "key: value lines")
            return {}
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name not in known:
                self.fault(key, f"unknown key {name!r} in {what}", f"one of {', '.join(known)}")
            elif name in found:
                self.fault(key, f"{name!r} again in {what}", "each key once")
            found.setdefault(name, value)
        for name in needed:
            if name not in found:
                self.fault(node, f"{what} without {name!r}", f"{name}: ...")
        return found

    def items(self, node: Any, what: str) -> list[Any]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, f"{what} is no list", "a list")
            return []
        return list(node.value)

    def text(self, node: Any, what: str, default: str = "") -> str:
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            self.fault(node, f"{what} is no text", "a text")
            return default
        return str(node.value)

    def choice(self, node: Any, what: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(node, what, default)
        if value not in allowed:
            self.fault(node, f"{what} {value!r}", f"one of {', '.join(allowed)}")
        return value

    def number(self, node: Any, what: str, default: int, highest: int) -> int:
        value = self.text(node, what, str(default))
        if not value.isdigit() or int(value) > highest:
            self.fault(node, f"{what} {value!r}", f"a whole number up to {highest}")
            return default
        return int(value)

    def seconds(self, node: Any, what: str, default: int) -> int:
        value = self.text(node, what, f"{default}s")
        match = re.fullmatch(r"(\d{1,6})([smh])", value)
        if not match:
            self.fault(node, f"{what} {value!r}", "such as 90s, 20m or 2h")
            return default
        return int(match[1]) * _UNITS[match[2]]

    def arguments(self, node: Any, known: tuple[str, ...], what: str) -> tuple[tuple[str, str], ...]:
        if node is None:
            return ()
        table = self.table(node, known, what)
        return tuple((name, self.text(value, f"{what}.{name}")) for name, value in table.items() if name in known)

    def runbook(self, node: Any, sha256: str) -> Runbook | None:
        known = ("schema", "id", "title", "roles", "params", "limits", "requires", "steps", "on_fail")
        top = self.table(node, known, "the runbook", needed=("schema", "id", "title", "steps"))
        if not top:
            return None
        self.choice(top.get("schema"), "schema", (SCHEMA,), SCHEMA)
        name = self.text(top.get("id"), "id")
        if not _ID.fullmatch(name):
            self.fault(top.get("id"), f"id {name!r}", "lower-case letters, digits and `-`")
        limits = self.table(top["limits"], ("timeout",), "limits") if "limits" in top else {}
        steps = tuple(self.step(each, index) for index, each in enumerate(self.items(top.get("steps"), "steps"), 1))
        params = self.params(top.get("params"))
        self.references(top.get("steps"), params, steps)
        self.order(top.get("steps"), steps)
        return Runbook(
            id=name,
            title=self.text(top.get("title"), "title"),
            sha256=sha256,
            roles=tuple(self.text(each, "role") for each in self.items(top.get("roles"), "roles")),
            params=params,
            timeout_s=self.seconds(limits.get("timeout"), "timeout", 1200),
            requires=tuple(self.requirement(each) for each in self.items(top.get("requires"), "requires")),
            steps=steps,
            on_fail=self.choice(top.get("on_fail"), "on_fail", ON_FAIL, "undo_all"),
        )

    def params(self, node: Any) -> tuple[Param, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, "params is no table", "name: {type: ...}")
            return ()
        return tuple(self.param(str(key.value), value) for key, value in node.value)

    def param(self, name: str, node: Any) -> Param:
        table = self.table(node, ("type", "required", "default", "values"), f"param {name}", needed=("type",))
        kind = self.choice(table.get("type"), f"type of {name}", PARAM_TYPES, "text")
        values = tuple(self.text(each, f"value of {name}") for each in self.items(table.get("values"), f"values of {name}"))
        if kind == "enum" and not values:
            self.fault(node, f"enum {name} without values", "values: [...]")
        default = self.text(table["default"], f"default of {name}") if "default" in table else None
        return Param(name, kind, self.text(table.get("required"), "required", "false") == "true", default, values)

    def requirement(self, node: Any) -> Requirement:
        table = self.table(node, ("check", "with"), "a requirement", needed=("check",))
        check = self.choice(table.get("check"), "check", tuple(CHECKS), "link.up")
        return Requirement(check, self.arguments(table.get("with"), CHECKS.get(check, ()), check))

    def step(self, node: Any, index: int) -> RunbookStep:
        known = ("id", "do", "with", "effect", "explain", "undo", "retry")
        table = self.table(node, known, f"step {index}", needed=("id", "do", "effect", "explain"))
        name = self.text(table.get("id"), f"id of step {index}", f"step-{index}")
        do = self.choice(table.get("do"), f"do of {name}", tuple(DO), "observe")
        effect = self.choice(table.get("effect"), f"effect of {name}", EFFECTS, "none")
        if (effect == "none") == (do in CHANGING and do != "bench.run"):
            self.fault(node, f"{do} with effect {effect!r}", "reversible or irreversible for a change, none else")
        undo = self.undo(table.get("undo"), name)
        if effect == "reversible" and undo is None:
            self.fault(node, f"reversible step {name} without undo", "undo: {do: ..., with: ...}")
        retry = self.table(table["retry"], ("max", "on"), f"retry of {name}") if "retry" in table else {}
        return RunbookStep(
            id=name,
            do=do,
            arguments=self.arguments(table.get("with"), DO.get(do, ()), do),
            effect=effect,
            explain=self.text(table.get("explain"), f"explain of {name}"),
            undo=undo,
            retries=self.number(retry.get("max"), f"retry.max of {name}", 0, 10),
            retry_on=tuple(self.text(each, "a reason") for each in self.items(retry.get("on"), f"retry.on of {name}")),
        )

    def undo(self, node: Any, name: str) -> Undo | None:
        if node is None:
            return None
        table = self.table(node, ("do", "with"), f"undo of {name}", needed=("do",))
        do = self.choice(table.get("do"), f"undo of {name}", tuple(DO), "observe")
        return Undo(do, self.arguments(table.get("with"), DO.get(do, ()), do))

    def references(self, node: Any, params: tuple[Param, ...], steps: tuple[RunbookStep, ...]) -> None:
        """Every `${x}` names a param, or a value that an earlier step (or, in an undo, the step itself) saves."""
        known = {param.name for param in params}
        names: set[str] = set()
        for step in steps:
            if step.id in names:
                self.fault(node, f"step {step.id!r} again", "each id once")
            for text in (value for _, value in step.arguments):
                self.variables(node, text, known, names)
            names.add(step.id)
            for text in (value for _, value in step.undo.arguments) if step.undo else ():
                self.variables(node, text, known, names)

    def variables(self, node: Any, text: str, params: set[str], steps: set[str]) -> None:
        for variable in _VARIABLE.findall(text):
            head, dot, _ = variable.partition(".")
            if (head not in params) if not dot else (head not in steps):
                self.fault(node, f"${{{variable}}} is not known there", "a param, or STEP.value of an earlier step")

    def order(self, node: Any, steps: tuple[RunbookStep, ...]) -> None:
        """Nothing irreversible before a check that follows the last change."""
        checked = True
        for step in steps:
            if step.effect == "irreversible" and not checked:
                self.fault(node, f"irreversible {step.id!r} right after a change", "health.check or bench.run before it")
            if step.effect == "reversible":
                checked = False
            elif step.do in IRREVERSIBLE_NEEDS:
                checked = True
