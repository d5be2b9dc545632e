"""The formats of exported files: how each is written, and how each is run again to be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.export import ExportedProgram

from packify.core.errors import ExportError
from packify.exporting.onnx_models import int8_weights, open_onnx, write_onnx

Format = Literal["onnx", "pt2", "aoti"]
FORMATS: tuple[Format, ...] = get_args(Format)
Runner = Callable[[Sequence[Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Wish:
    """What a file is to be.

    Attributes:
        outputs: their names.
        opset: of ONNX; None for the exporter's own choice.
        int8: weights of linear layers as int8, activations quantised while the model runs (ONNX).
    """

    outputs: tuple[str, ...]
    opset: int | None = None
    int8: bool = False


def write(kind: Format, program: ExportedProgram, path: Path, wish: Wish) -> None:
    """Write a program.

    Raises:
        ExportError: the format's library is not installed, or it cannot hold the program.
    """
    if kind == "onnx":
        write_onnx(program, path, wish.outputs, wish.opset)
        if wish.int8:
            int8_weights(path)
    elif kind == "pt2":
        torch.export.save(program, path)
    else:
        _compiled(program, path)


def open_file(kind: Format, path: Path, outputs: Sequence[str]) -> Runner:
    """The file as a function of tensors, read as another process would read it."""
    if kind == "onnx":
        return open_onnx(path)
    if kind == "pt2":
        run: Any = torch.export.load(path).module()
    else:
        run = torch._inductor.aoti_load_package(str(path))
    return lambda tensors: dict(run(*tensors))


def _compiled(program: ExportedProgram, path: Path) -> None:
    """A package of AOTInductor: the program compiled for this machine's kind of device."""
    import torch._inductor

    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:
        message = " ".join(str(error).split())
        lacking = any(word in message for word in ("compiler", "g++", "Python.h", "CppCompileError"))
        raise ExportError(
            "aoti",
            found=f"{type(error).__name__}: {message}"[:400],
            why="AOTInductor compiles with a C++ compiler, which is not here or failed"
            if lacking
            else "AOTInductor cannot compile the network",
            fix="apt-get install g++ python3-dev, or export --to pt2",
        ) from error
