"""Graphs whose heavy parts compute in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["halve"]

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Computed in float16 wherever they are: nearly all of the time goes here."""
BETWEEN_CONVOLUTIONS = frozenset({"Add", "AveragePool", "Clip", "GlobalAveragePool", "HardSwish", "MaxPool", "Mul", "Relu", "Sigmoid"})
"""Computed in float16 in the backbone alone: elsewhere such operators move boxes and sampling points."""


def halve(path: Path) -> None:
    """Make the graph at ``path`` compute its convolutions and matrix products in float16; inputs and outputs stay float32.

    Boxes, sampling points, softmaxes, norms and scores stay in float32: ten bits do not tell neighbouring pixels of a large tile apart.
    """
    model = onnx.load(path)
    halver = _Halver(model)
    nodes = [each for node in model.graph.node for each in halver.node(node)]
    needed = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    weights = [weight for weight in (*model.graph.initializer, *halver.weights.values()) if weight.name in needed]
    for field, kept in ((model.graph.node, [node for node in nodes if needed & set(node.output)]), (model.graph.initializer, weights)):
        del field[:]
        field.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class _Halver:
    """Rewrites one node after the other, in the graph's order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._full = {weight.name: weight for weight in inferred.initializer if weight.data_type == TensorProto.FLOAT}
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT} | set(self._full)
        self._halves: set[str] = set()
        self.weights: dict[str, TensorProto] = {}
        """The weights in float16 that the nodes need, by name."""

    def node(self, node: NodeProto) -> list[NodeProto]:
        """What stands in place of ``node``: itself, or its half-precision form with the casts around it."""
        if not _to_halve(node) or not set(node.output) <= self._floats:
            return [node]
        before: list[NodeProto] = []
        halved = NodeProto()
        halved.CopyFrom(node)
        del halved.input[:], halved.output[:]
        halved.input.extend(self._half(name, before) for name in node.input)
        halved.output.extend(_name(name) for name in node.output)
        self._halves.update(node.output)
        back = [_cast(_name(name), name, TensorProto.FLOAT) for name in node.output]
        return [*before, halved, *back]

    def _half(self, name: str, before: list[NodeProto]) -> str:
        """The name of the value in float16; what makes it, unless it is there already, is added to ``before``."""
        if name not in self._floats:
            return name
        if name in self._full:
            weight = numpy_helper.to_array(self._full[name]).astype(np.float16)
            self.weights[name] = numpy_helper.from_array(weight, _name(name))
        elif name not in self._halves:
            before.append(_cast(name, _name(name), TensorProto.FLOAT16))
            self._halves.add(name)
        return _name(name)


def _name(value: str) -> str:
    return f"{value}_float16"


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"cast_to_{target}", to=kind)


def _to_halve(node: NodeProto) -> bool:
    return node.op_type in HEAVY or (node.op_type in BETWEEN_CONVOLUTIONS and _in_backbone(node))


def _in_backbone(node: NodeProto) -> bool:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
    return "backbone" in scopes
