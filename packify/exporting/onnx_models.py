"""ONNX by torch's exporter, made small without its long search for patterns, and run by onnxruntime."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from packify.core.errors import ExportError
from packify.exporting.decompositions import decompose_by_tracing, decompose_in_place, rewrite_for_onnx

# A file of protocol buffers holds less than 2 GiB; larger weights lie in a file beside it.
_LARGEST = 2**31 - 2**24


def write_onnx(program: ExportedProgram, path: Path, outputs: Sequence[str], opset: int | None) -> None:
    """Write a program as an ONNX model with named outputs; beyond 2 GiB its weights are in a second file, ``NAME.data``.

    Raises:
        ExportError: the libraries of the extra `export` are not installed, or ONNX cannot hold an operator.
    """
    _libraries()
    import onnx.checker
    import onnxscript.optimizer
    from onnx_ir.passes import common

    translate = functools.partial(
        torch.onnx.export, dynamo=True, verbose=False, optimize=False, opset_version=opset, output_names=list(outputs), external_data=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rewrite_for_onnx(program)
        decompose_in_place(program)
        try:
            made: Any = translate(program)
        except torch.onnx.OnnxExporterError:
            decompose_by_tracing(program)
            made = translate(program)
        model = made.model
        _name_axes(model)
        onnxscript.optimizer.fold_constants(model, output_size_limit=_LARGEST, should_fold=_folds)
        onnxscript.optimizer.remove_unused_nodes(model)
        common.CommonSubexpressionEliminationPass()(model)
        size = sum(tensor.nbytes for tensor in program.state_dict.values()) + sum(
            tensor.nbytes for tensor in program.constants.values() if isinstance(tensor, Tensor)
        )
        made.save(str(path), external_data=size > _LARGEST)
    onnx.checker.check_model(str(path), full_check=True)  # every node's arguments, and the shapes that follow from them


# What looks at a weight otherwise: a member's part of it becomes a weight of its own, which runtimes lay out and quantise as they load.
_VIEWS = frozenset(("Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Flatten"))
_LARGEST_CONSTANT = 2**20


def _folds(node: Any) -> bool | None:
    """Whether a node of constants is computed now; None where its own rule says so."""
    if node.op_type in _VIEWS:
        return True
    shapes = [value.shape for value in node.outputs if value.shape is not None]
    sizes = (math.prod(size if isinstance(size, int) else 1 for size in shape) for shape in shapes)
    return False if max(sizes, default=0) > _LARGEST_CONSTANT else None


def _name_axes(model: Any) -> None:
    """Call the free axes of the model's inputs ``batch``, ``height`` and ``width``, and those of its outputs that are the same."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            known = str(getattr(value.shape[axis], "value", "None")) if axis < len(value.shape or ()) else "None"
            if known != "None":
                names.setdefault(known, name)
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, each in enumerate(value.shape or ()):
            symbol = str(getattr(each, "value", ""))
            if symbol in names:
                value.shape[axis] = names[symbol]


def open_onnx(path: Path) -> Callable[[Sequence[Tensor]], Mapping[str, Tensor]]:
    """A model as a function of tensors, run by onnxruntime on the CPU.

    Raises:
        ExportError: onnxruntime has no kernel for an operator in this dtype.
    """
    _libraries()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise ExportError(
            "onnxruntime",
            found=" ".join(str(error).split())[:400],
            why="the model cannot be run here, so it could not be compared",
            fix="export another dtype (float32 runs everywhere), or --no-check to write it unchecked",
        ) from error
    inputs, outputs = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]

    def run(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        found = session.run(None, {name: tensor.detach().cpu().numpy() for name, tensor in zip(inputs, tensors, strict=True)})
        return {name: torch.from_numpy(values) for name, values in zip(outputs, found, strict=True)}

    return run


def int8_weights(path: Path) -> None:
    """Quantise a model in place: the weights of matrix products as int8, their inputs while the model runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name("float.onnx")
    path.rename(whole)
    quantize_dynamic(whole, path, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})
    whole.unlink()


def missing_libraries() -> list[str]:
    """Those of the libraries that write and run ONNX models that are not installed."""
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    return missing


def _libraries() -> None:
    if missing := missing_libraries():
        raise ExportError(
            "onnx",
            found=f"{', '.join(missing)} not installed",
            why="ONNX models are written and checked by these libraries",
            fix="pip install 'packify-torch[export]', or export --to pt2",
        )
