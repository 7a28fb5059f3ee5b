"""Graphs without sequences: the exporter splits tensors into ONNX sequences, which TensorRT cannot read and no runtime folds."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

__all__ = ["without_sequences"]


def without_sequences(path: Path) -> None:
    """Replace every part taken out of a split by a Slice, in the graph at ``path``; sizes and indices that are not constant stay."""
    model = onnx.load(path)
    graph = model.graph
    known = {weight.name: weight for weight in graph.initializer}
    known |= {node.output[0]: _value(node) for node in graph.node if node.op_type == "Constant"}
    splits = {
        node.output[0]: node for node in graph.node if node.op_type == "SplitToSequence" and node.input[1:] and node.input[1] in known
    }
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "SequenceAt" and node.input[0] in splits and node.input[1] in known:
            split = splits[node.input[0]]
            sizes, index = numpy_helper.to_array(known[split.input[1]]), int(numpy_helper.to_array(known[node.input[1]]))
            nodes.extend(_slice(split, sizes, index, node.output[0]))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type != "SplitToSequence" or node.output[0] in used)
    onnx.save(model, path)


def _value(constant: NodeProto) -> onnx.TensorProto:
    attribute = constant.attribute[0]
    if attribute.name == "value":
        tensor: onnx.TensorProto = attribute.t
        return tensor
    return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute)))


def _slice(split: NodeProto, sizes: NDArray[np.int64], index: int, output: str) -> list[NodeProto]:
    """Part ``index`` of a split: into ``sizes``, or into parts of one size where it is a scalar."""
    axis = next((int(attribute.i) for attribute in split.attribute if attribute.name == "axis"), 0)
    ends = [int(sizes) * (index + 1)] if sizes.ndim == 0 else list(accumulate(sizes.tolist()))[index : index + 1]
    size = int(sizes) if sizes.ndim == 0 else int(sizes[index])
    numbers = {"start": ends[0] - size, "end": ends[0], "axis": axis}
    constants = [helper.make_node("Constant", [], [f"{output}_{name}"], value_ints=[number]) for name, number in numbers.items()]
    cut = helper.make_node("Slice", [split.input[0], *(f"{output}_{name}" for name in numbers)], [output], f"slice_{output}")
    return [*constants, cut]
