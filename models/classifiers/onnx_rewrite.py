"""A network in OpenVINO's operations, rewritten where its compiler or a vote wants it: by value the same function."""

from __future__ import annotations

from typing import Any

from ..graph import load_openvino

__all__ = ("group_norms_rewritten", "last_operation", "without_probabilities")

# What may stand between an operation and the output: it moves no number to another class. A cast to whole numbers makes
# another function of it all the same.
PLAIN = {"Reshape", "Squeeze", "Unsqueeze", "Convert", "Identity"}


def last_operation(output: Any, *, floats: bool = False) -> Any:
    """The node that computes what comes out. floats: a cast to whole numbers is such a one."""
    node = output.get_node()
    while node.get_type_name() in PLAIN and (not floats or node.get_output_element_type(0).is_real()):
        node = node.input_value(0).get_node()
    return node


def without_probabilities(output: Any) -> tuple[Any, str]:
    """(the output before a softmax over the classes, or a sigmoid, at the network's end; its name, "" for none).

    Either keeps the order of the classes, but rounds: a softmax small numbers to one, a sigmoid the large ones to 1.
    """
    opset, node = load_openvino().opset13, last_operation(output, floats=True)
    if node.get_type_name() == "Sigmoid":
        return node.input_value(0), "sigmoid"
    if node.get_type_name() != "Softmax":
        return output, ""
    shape = node.output(0).get_partial_shape()
    axis = int(node.get_attributes()["axis"])
    axis += len(shape) if axis < 0 else 0
    others = [size for at, size in enumerate(shape) if at not in (0, axis)]
    if axis == 0 or any(size.is_dynamic or size.get_length() != 1 for size in others):
        return output, ""  # over a batch, or a map: no answer of one sample by class
    flat = opset.reshape(node.input_value(0), opset.constant([0, -1], dtype="int64"), special_zero=True)
    return flat.output(0), "softmax"


def group_norms_rewritten(model: Any) -> None:
    """In place: GroupNormalization as MVN over the groups' own rows.

    OpenVINO's compiler ends the process where the operator's answer and another's are summed (seen in 2026.4).
    """
    openvino = load_openvino()
    opset = openvino.opset13
    for node in model.get_ops():
        if node.get_type_name() != "GroupNormalization":
            continue
        data, scale, bias = (node.input_value(at) for at in range(3))
        attributes = node.get_attributes()
        groups = opset.constant([0, int(attributes["num_groups"]), -1], dtype="int64")
        rows = opset.reshape(data, groups, special_zero=True)  # (N, G, the group's values)
        even = opset.mvn(rows, opset.constant([2], dtype="int64"), True, float(attributes["epsilon"]), "inside_sqrt")
        back = opset.reshape(even, opset.shape_of(data), special_zero=False)
        ones = [1] * (len(data.get_partial_shape()) - 2)
        column = opset.constant([1, -1, *ones], dtype="int64")
        scaled = opset.multiply(back, opset.reshape(scale, column, special_zero=False))
        normed = opset.add(scaled, opset.reshape(bias, column, special_zero=False))
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(normed.output(0))
    model.validate_nodes_and_infer_types()
