"""Slices take the place of sequences and give the same parts."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.deploy.graph import operators
from engine.deploy.sequences import without_sequences


def split_graph(tmp_path, sizes, index, *, axis):
    """Part ``index`` of x (6, 6) split along an axis."""
    nodes = [
        helper.make_node("Constant", [], ["index"], value=numpy_helper.from_array(np.array(index, dtype=np.int64))),
        helper.make_node("SplitToSequence", ["x", "sizes"], ["parts"], axis=axis),
        helper.make_node("SequenceAt", ["parts", "index"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "split", [x], [y], [numpy_helper.from_array(np.array(sizes, dtype=np.int64), "sizes")])
    path = tmp_path / "split.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(("sizes", "index"), [([1, 2, 3], 0), ([1, 2, 3], 1), ([1, 2, 3], 2), (2, 0), (2, 2), (4, 1)])
def test_a_part_is_the_same_part(tmp_path, sizes, index, axis):
    path = split_graph(tmp_path, sizes, index, axis=axis)
    x = np.arange(36, dtype=np.float32).reshape(6, 6)
    answers = []
    for change in (lambda _: None, without_sequences):
        change(path)
        answers.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0])
    np.testing.assert_array_equal(*answers)
    assert operators(path) == {"Constant", "Slice"}
