"""Requests of several programs run as one batch: each keeps its own deadline and allowance, and its own faults.

A graph qualifies only when it shows, at its load, that a row's answer does not depend on the rows beside it: with a huge and
a not-finite neighbour as much as alone. A graph that scales by its whole batch (dynamic quantisation does) would let one bad
input spoil the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from time import perf_counter

import numpy as np

from fieldops.edges.onnx.cascade import BROKEN, Answer, Cascade, First
from fieldops.edges.onnx.runtime import Array, Tensors
from fieldops.edges.onnx.timing import made_up_inputs
from fieldops.errors import FieldopsError
from fieldops.tiers import Choice, Refusal

MOST_ROWS = 64  # of one run; more rows gain nothing on a small device, and the first waits for the last
LONGEST_S = 0.25  # of one row: where it takes longer nobody is asked to wait for others, and no load for this to be tried
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # by which a row may differ when others are beside it: other kernels add up in another order


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. until: of perf_counter, in seconds; None: it may take as long as it takes."""

    inputs: Tensors
    until: float | None = None
    refusal: Refusal = ""

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def left_s(self) -> float | None:
        return None if self.until is None else self.until - perf_counter()


def infer_joined(cascade: Cascade, asked: Sequence[Asked]) -> list[Answer | FieldopsError]:
    """An answer each, in order, or the fault that is its own. Inputs of one name have one type, and one shape but for the rows."""
    found: list[Answer | FieldopsError] = []
    for batch in _batches(asked):
        found += _run(cascade, batch) if len(batch) > 1 else [_alone(cascade, batch[0])]
    return found


def _batches(asked: Sequence[Asked]) -> list[list[Asked]]:
    made: list[list[Asked]] = []
    rows = MOST_ROWS
    for each in asked:
        if rows + each.rows > MOST_ROWS:
            made.append([])
            rows = 0
        made[-1].append(each)
        rows += each.rows
    return made


def _alone(cascade: Cascade, asked: Asked) -> Answer | FieldopsError:
    try:
        return cascade.infer(asked.inputs, deadline_s=asked.left_s, refusal=asked.refusal)
    except FieldopsError as error:
        return error


def _run(cascade: Cascade, batch: list[Asked]) -> list[Answer | FieldopsError]:
    """All through the core, then those that are unsure through the large model. What fails is tried again one by one."""
    start = perf_counter()
    try:
        outputs, confidences = cascade.ask_core(_together([each.inputs for each in batch]))
    except FieldopsError:
        return [_alone(cascade, each) for each in batch]
    core_s = perf_counter() - start
    places = _places([each.rows for each in batch])
    firsts = [
        First(each.inputs, [output[place] for output in outputs], confidences[place], core_s)
        for each, place in zip(batch, places, strict=True)
    ]
    answers: list[Answer | FieldopsError | None] = [None] * len(batch)
    unsure: list[int] = []
    for index, (each, first) in enumerate(zip(batch, firsts, strict=True)):
        choice = cascade.choice(first, each.left_s, each.refusal)
        if choice.ask_next:
            unsure.append(index)
        else:
            answers[index] = cascade.settled(first, choice)
    if unsure:
        hurried = sorted(unsure, key=lambda index: batch[index].until or float("inf"))
        for index, answer in _escalated(cascade, batch, firsts, hurried).items():
            answers[index] = answer
    return [answer for answer in answers if answer is not None]


def _escalated(cascade: Cascade, batch: list[Asked], firsts: list[First], which: list[int]) -> dict[int, Answer]:
    """which: from the one whose caller waits least. Where that one could not wait for all, it goes with fewer."""
    wanted = [firsts[index].unsure_inputs(cascade.threshold) for index in which]
    rows = [len(next(iter(inputs.values()))) for inputs in wanted]
    left_s, expected_s = batch[which[0]].left_s, cascade.expected_s(sum(rows))
    if left_s is not None and (left_s <= 0 or (expected_s is not None and expected_s >= left_s)):
        if len(which) > 1:
            half = len(which) // 2
            return _escalated(cascade, batch, firsts, which[:half]) | _escalated(cascade, batch, firsts, which[half:])
        return {which[0]: cascade.settled(firsts[which[0]], Choice(ask_next=False, route="deadline", why="no_time"))}
    try:
        better, sure, took = cascade.ask_large(_together(wanted))
    except FieldopsError:
        if len(which) == 1:
            return {which[0]: cascade.settled(firsts[which[0]], BROKEN)}
        return {index: answer for one in which for index, answer in _escalated(cascade, batch, firsts, [one]).items()}
    return {
        index: cascade.merged(firsts[index], [output[place] for output in better], sure[place], took)
        for index, place in zip(which, _places(rows), strict=True)
    }


def _together(inputs: Sequence[Mapping[str, Array]]) -> Tensors:
    return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]} if len(inputs) > 1 else dict(inputs[0])


def _places(rows: Sequence[int]) -> list[slice]:
    return [slice(start, end) for start, end in pairwise([0, *accumulate(rows)])]


def joins(cascade: Cascade) -> bool:
    """May requests be run together: is the batch axis free, and is each row's answer its own?"""
    tensors = [*cascade.manifest.inputs, *cascade.manifest.outputs]
    if any(not tensor.shape or tensor.shape[0] != -1 for tensor in tensors):
        return False
    ordinary = made_up_inputs(cascade.manifest, 1)
    neighbours = [ordinary, _extreme(ordinary, 1e4), _extreme(ordinary, np.nan)]
    try:
        return all(_own_row(cascade, tier, ordinary, _together(neighbours)) for tier in cascade.tier_names)
    except FieldopsError:
        return False  # its inputs are not free to be made up: nothing is known of it, so each request goes alone


def _extreme(inputs: Tensors, factor: float) -> Tensors:
    return {name: value * factor if value.dtype.kind == "f" else value for name, value in inputs.items()}


def _own_row(cascade: Cascade, tier: str, one: Tensors, three: Tensors) -> bool:
    start = perf_counter()
    alone = cascade.tier(tier, one)
    if perf_counter() - start > LONGEST_S:
        return False
    beside = cascade.tier(tier, three)
    return all(
        beside[name].shape == (3, *value.shape[1:])
        and len(value) == 1
        and np.allclose(beside[name][:1], value, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
        for name, value in alone.items()
    )
