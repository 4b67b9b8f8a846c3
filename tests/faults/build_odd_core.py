"""Writes odd_core.onnx: the core of digits 1.2.0, which is as it was for every drawing and goes wrong on order.

Pixel 0 is white in all drawings, so it can give the order: 1000 fails, 1500 knows nothing (every digit is as likely), and
2000 + n takes n rounds longer. `python tests/faults/build_odd_core.py`; needs the extra `models`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from onnx.helper import make_graph, make_node, make_tensor_value_info
from onnx.numpy_helper import from_array

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "sample_fleet" / "digits" / "1.2.0" / "core.onnx"
SIDE = 64  # of the square that a round multiplies
ROUNDS = 64  # multiplications a round


def _loop_body() -> onnx.GraphProto:
    nodes = [make_node("Identity", ["going"], ["goes_on"])]
    carried = "square_in"
    for at in range(ROUNDS):
        nodes.append(make_node("MatMul", [carried, "turn"], [f"square_{at}"]))
        carried = f"square_{at}"
    nodes.append(make_node("Identity", [carried], ["square_out"]))
    square = [SIDE, SIDE]
    return make_graph(
        nodes,
        "round",
        [
            make_tensor_value_info("round_number", TensorProto.INT64, []),
            make_tensor_value_info("going", TensorProto.BOOL, []),
            make_tensor_value_info("square_in", TensorProto.FLOAT, square),
        ],
        [
            make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            make_tensor_value_info("square_out", TensorProto.FLOAT, square),
        ],
    )


def main() -> None:
    model = onnx.load(str(CORE))
    graph = model.graph
    for node in graph.node:  # the model itself never sees the order
        for at, name in enumerate(node.input):
            if name == "pixels":
                node.input[at] = "drawing"
        for at, name in enumerate(node.output):
            if name == "probabilities":
                node.output[at] = "known"
    for node in graph.node:
        if node.op_type == "ReduceMax" and node.input[0] == "probabilities":
            node.input[0] = "known"
    mask = np.ones((1, 64), np.float32)
    mask[0, 0] = 0.0
    values: dict[str, npt.NDArray[Any]] = {
        "mask": mask,
        "first": np.array(0, np.int64),
        "thousand": np.array(1000.0, np.float32),
        "blank": np.array(1500.0, np.float32),
        "slow": np.array(2000.0, np.float32),
        "nil": np.array(0.0, np.float32),
        "one": np.array(1.0, np.float32),
        "tenth": np.array(0.1, np.float32),
        "table": np.array([0.0], np.float32),
        "true": np.array(True),
        "turn": np.eye(SIDE, dtype=np.float32),
        "square": np.zeros((SIDE, SIDE), np.float32),
    }
    for name, value in values.items():
        graph.initializer.append(from_array(value, name))
    before = [
        make_node("Mul", ["pixels", "mask"], ["drawing"]),
        make_node("Gather", ["pixels", "first"], ["orders"], axis=1),
        make_node("ReduceMax", ["orders"], ["order"], keepdims=0),
        make_node("Equal", ["order", "thousand"], ["fails"]),
        make_node("Cast", ["fails"], ["index"], to=TensorProto.INT64),
        make_node("Gather", ["table", "index"], ["nothing"], axis=0),  # of one entry: index 1 is an error
        make_node("Sub", ["order", "slow"], ["late"]),
        make_node("Max", ["late", "nil"], ["waits"]),
        make_node("Cast", ["waits"], ["rounds"], to=TensorProto.INT64),
        make_node("Loop", ["rounds", "true", "square"], ["turned"], body=_loop_body()),
        make_node("ReduceSum", ["turned"], ["still_nothing"], keepdims=0),
        make_node("Equal", ["order", "blank"], ["is_blank"]),
        make_node("Cast", ["is_blank"], ["flat"], to=TensorProto.FLOAT),
        make_node("Sub", ["one", "flat"], ["sharp"]),
    ]
    after = [
        make_node("Mul", ["known", "sharp"], ["kept"]),
        make_node("Mul", ["tenth", "flat"], ["even"]),
        make_node("Add", ["kept", "even"], ["mixed"]),
        make_node("Add", ["mixed", "nothing"], ["mixed_too"]),
        make_node("Add", ["mixed_too", "still_nothing"], ["probabilities"]),
    ]
    confidence = [node for node in graph.node if "confidence" in node.output]
    rest = [node for node in graph.node if node not in confidence]
    for node in confidence:
        node.input[0] = "probabilities"
    nodes = [*before, *rest, *after, *confidence]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(HERE / "odd_core.onnx"))


if __name__ == "__main__":
    main()
