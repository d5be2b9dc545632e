"""`packify.export`: a network as one file, compared with torch before it gets its name."""

from __future__ import annotations

import contextlib
import copy
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from packify.artefact.folder import not_written
from packify.artefact.leftovers import clear_leftovers, own_workplace
from packify.core import nested
from packify.core.errors import ExportError, SpecError
from packify.execution.defaults import strategy_of_files
from packify.execution.strategies import AUTO, require_known
from packify.exporting.comparison import Comparison, compare
from packify.exporting.deployment import Deployment
from packify.exporting.diagnosis import place_of_operator
from packify.exporting.formats import FORMATS, Format, Wish, open_file, write
from packify.exporting.programs import foreign_operators, program_of, tidy
from packify.nn.packed_network import PackedNetwork

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "pt2"}
_BATCHES = (1, 2, 5)
_OPSETS = (18, 23)


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        path: of the file.
        format: ``"onnx"``, ``"pt2"`` or ``"aoti"``.
        inputs: name, dtype and shape of every input, ``"b"`` where any batch size will do.
        outputs: the same of every output.
        comparisons: with torch, at three batch sizes; empty where nothing was compared.
        file_bytes: of the file.
        nodes: of the program that was written.
        notes: what whoever runs the file must know.
        seconds: by step.
        strategy: how a packed network's members are run in the file.
    """

    path: Path
    format: Format
    inputs: dict[str, str]
    outputs: dict[str, str]
    comparisons: tuple[Comparison, ...]
    file_bytes: int
    nodes: int
    notes: tuple[str, ...]
    seconds: dict[str, float]
    strategy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        return asdict(self) | {"path": str(self.path)}


def export(
    network: nn.Module,
    path: str | Path,
    *,
    to: Format | None = None,
    example_inputs: Any = None,
    batch: int | Literal["dynamic"] = "dynamic",
    resolution: Literal["fixed", "dynamic"] = "fixed",
    outputs: Sequence[str] = ("mean", "uncertainty"),
    average: Any = None,
    dtype: str | None = None,
    fuse: bool = False,
    strategy: str | None = None,
    quantise: Literal["int8"] | None = None,
    opset: int | None = None,
    check: bool = True,
    force: bool = False,
) -> Export:
    """Write a network as one file that runs without packify, with its prediction and uncertainty as named outputs.

    Args:
        network: a packed network, a member or any other network; it is not changed. What is exported is evaluation mode.
        path: of the file. It gets this name only when it was written whole and compared with torch.
        to: ``"onnx"``, ``"pt2"`` (torch.export) or ``"aoti"`` (a package of AOTInductor, for this kind of machine); by default what
            the suffix says.
        example_inputs: what the network takes, for one that does not know: a tensor, a tuple or a dict; shapes and dtypes are read.
        batch: ``"dynamic"``, or the one batch size of the file.
        resolution: ``"dynamic"``: any height and width of images ``"b c h w"``, where the network's code allows it.
        outputs: ``"mean"``, ``"members"``, ``"uncertainty"``, see `Deployment` for the names that they give.
        average: of each output, for a network that does not say.
        dtype: ``"fp16"`` or ``"bf16"``: the network's own; inputs and outputs stay float32.
        fuse: of a packed network: fold batch norms into the layers before them, as ``packed.fuse()`` does.
        strategy: how a packed network's members are run in the file, one of `packify.execution.strategies`; left out, the network's own if
            one was chosen, else in turn on a CPU where a member has enough to do, see `strategy_of_files`.
        quantise: ``"int8"``: weights of matrix products as int8 (ONNX). The loss is told, not judged.
        opset: of ONNX.
        check: run the file and compare it with torch at three batch sizes (three inputs where the batch is fixed).
        force: replace a file that is there.

    Raises:
        ExportError: a node that the format cannot hold (with its name and the user's line), a file that does not give what torch gives,
            or one that is there already.
        SpecError: an argument cannot be.
    """
    began = time.perf_counter()
    target, kind = _target(path, to, force)
    _check(network, batch, resolution, dtype, quantise, opset, kind)
    way = _strategy(network, strategy, fuse)
    free = resolution == "dynamic"
    deployment = _deployed(network, example_inputs, outputs, average, dtype, fuse)
    sizes = _BATCHES if batch == "dynamic" else (batch,) * 3
    batches = [_inputs(deployment, size, seed, seed * free) for seed, size in enumerate(sizes)]
    if free:
        _check_larger(deployment, batches[-1])
    traced = _inputs(deployment, 2 if batch == "dynamic" else batch, 0)
    with run_by(deployment.network, way):
        program = program_of(deployment, traced, batch == "dynamic", free)
    with torch.no_grad():
        named = deployment(*traced)
    if kind == "onnx":
        tidy(program)
    nodes = len(program.graph.nodes)
    seconds = {"trace": time.perf_counter() - began}
    with own_workplace(target) as place:
        try:
            place.part.mkdir()
            fresh = place.part / target.name
            began = time.perf_counter()
            _written(kind, program, fresh, Wish(tuple(named), opset, quantise == "int8"), deployment, traced)
            seconds["write"] = time.perf_counter() - began
            began = time.perf_counter()
            found: tuple[Comparison, ...] = ()
            if check:
                found = compare(open_file(kind, fresh, list(named)), deployment, batches, deployment.dtype, judge=quantise is None)
            seconds["compare"] = time.perf_counter() - began
            files = sorted(place.part.iterdir(), key=lambda one: one.name == target.name)  # the file itself comes last
            size = sum(file.stat().st_size for file in files)
            for file in files:  # somebody else may have written one meanwhile
                _refuse_taken(target.with_name(file.name), force)
            for file in files:
                file.replace(target.with_name(file.name))
        except OSError as error:
            raise not_written(target, error) from error
        finally:
            shutil.rmtree(place.part, ignore_errors=True)
    foreign = foreign_operators(program)
    return Export(
        target,
        kind,
        _described(dict(zip(deployment.input_names, traced, strict=True)), batch, free),
        _described(named, batch),
        found,
        size,
        nodes,
        tuple(f"{name} is not torch's own: import its library before the file is loaded" for name in foreign),
        {name: round(value, 3) for name, value in seconds.items()},
        way,
    )


@contextlib.contextmanager
def run_by(network: Any, strategy: str) -> Iterator[None]:
    """A packed network with another strategy, for all its parts, as long as the block lasts; nothing for other networks."""
    if not strategy:
        yield
        return
    before, parts = network.strategy, network.strategies
    try:
        network.strategy = strategy
        yield
    finally:
        network.strategy, network.strategies = before, parts


def _check_larger(deployment: Deployment, larger: Sequence[Tensor]) -> None:
    try:
        with torch.no_grad():
            deployment(*larger)
    except Exception as error:
        raise ExportError(
            "resolution",
            found=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300],
            why=f"the network itself does not take images of {' x '.join(map(str, larger[0].shape[2:]))}",
            fix="export for one resolution: leave out --resolution dynamic (resolution='fixed')",
        ) from error


def _strategy(network: nn.Module, wished: str | None, fuse: bool) -> str:
    """The strategy by which a network is traced; empty for one that has no members."""
    if isinstance(network, PackedNetwork):
        if wished:
            return require_known(wished, network.suited_strategies)
        return strategy_of_files(network) if network.strategy == AUTO else network.strategy
    if wished or fuse:
        raise SpecError(
            "strategy" if wished else "fuse",
            found=f"a {type(network).__name__}",
            why="a packed network has members to run and batch norms that are known",
            fix="leave it out",
        )
    return ""


def _target(path: str | Path, to: str | None, force: bool) -> tuple[Path, Format]:
    target = Path(path).expanduser()
    kind = to or _SUFFIXES.get(target.suffix)
    if kind not in FORMATS:
        raise SpecError(
            "to", found=repr(to) if to else f"a file called {target.name}", why=f"formats are {', '.join(FORMATS)}", fix='pass to="onnx"'
        )
    if kind == "aoti" and target.suffix != ".pt2":
        raise SpecError(
            "path", found=target.name, why="a package of AOTInductor is called .pt2", fix=f"pass {target.with_suffix('.pt2').name}"
        )
    if not target.parent.is_dir():
        raise ExportError(str(target), found=f"no folder {target.parent}", why="the file is written there", fix=f"mkdir -p {target.parent}")
    clear_leftovers(target)
    _refuse_taken(target, force)
    try:
        with own_workplace(target):  # whether it can be written is known before minutes of work
            pass
    except OSError as error:
        raise not_written(target, error) from error
    return target, kind


def _refuse_taken(target: Path, force: bool) -> None:
    if target.is_dir():
        raise ExportError(str(target), found="a folder", why="an export is one file", fix="choose another name: --out FILE")
    if target.exists() and not force:
        raise ExportError(
            str(target),
            found="it exists already",
            why="nothing is replaced unasked",
            fix="choose another name, or pass --force (force=True)",
        )


def _check(network: Any, batch: Any, resolution: Any, dtype: Any, quantise: Any, opset: Any, kind: Format) -> None:
    if not isinstance(network, nn.Module):
        raise SpecError("network", found=f"a {type(network).__name__}", why="an nn.Module is exported", fix="pass packify.load(DIR)")
    if batch != "dynamic" and (type(batch) is not int or batch < 1):
        raise SpecError("batch", found=repr(batch), why="it is dynamic, or a number of samples", fix='pass batch="dynamic" or batch=1')
    if resolution not in ("fixed", "dynamic"):
        raise SpecError("resolution", found=repr(resolution), why="it is fixed or dynamic", fix='pass resolution="dynamic"')
    if opset is not None and (type(opset) is not int or not _OPSETS[0] <= opset <= _OPSETS[1] or kind != "onnx"):
        why = f"ONNX files are written in the opsets {_OPSETS[0]} to {_OPSETS[1]}"
        raise SpecError("opset", found=f"{opset!r} for {kind}", why=why, fix='leave it out, or pass opset=20 with to="onnx"')
    if dtype is not None and dtype not in _DTYPES:
        raise SpecError("dtype", found=repr(dtype), why=f"dtypes are {', '.join(_DTYPES)}", fix='pass dtype="fp16"')
    if quantise is not None and (quantise != "int8" or kind != "onnx" or dtype not in (None, "fp32")):
        raise SpecError(
            "quantise",
            found=f"{quantise!r} for {kind} in {dtype or 'the own dtype'}",
            why="onnxruntime quantises float32 networks to int8",
            fix='pass quantise="int8" with to="onnx" alone',
        )
    if isinstance(network, PackedNetwork) and batch == "dynamic" and not network.batched:
        raise ExportError(
            "batch",
            found="a network that takes the batch size of its example alone",
            why="its code computes with the batch size",
            fix=f"export for one batch size: --batch {_first_size(network.example_inputs)}",
        )


def _first_size(example: Any) -> int:
    return next((int(leaf.shape[0]) for leaf in nested.leaves(example) if isinstance(leaf, Tensor) and leaf.dim()), 1)


def _deployed(network: nn.Module, example: Any, outputs: Sequence[str], average: Any, dtype: str | None, fuse: bool) -> Deployment:
    example = network.example_inputs if example is None and isinstance(network, PackedNetwork) else example
    if example is None:
        raise SpecError(
            "example_inputs",
            found="none",
            why="only a packed network knows what it takes",
            fix="pass example_inputs=torch.randn(2, 3, 224, 224)",
        )
    scattered = any(not tensor.is_contiguous() for tensor in network.parameters())  # channels last, which a pt2 archive warns of
    if dtype is not None or scattered or any(module.training for module in network.modules()):
        network = copy.deepcopy(network).eval()
        network = network.to(_DTYPES[dtype]) if dtype is not None else network
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()
    network = network.fuse() if fuse and isinstance(network, PackedNetwork) else network
    deployment = Deployment(network, example, outputs, average).eval()
    if not deployment.tensors:
        raise SpecError("example_inputs", found="no tensor", why="a file computes from tensors", fix="pass the network's inputs")
    return deployment


def _inputs(deployment: Deployment, batch: int, seed: int, larger: int = 0) -> list[Tensor]:
    """Random inputs of a batch size: normal numbers, zeros and ones for whole numbers; images higher than the example, and wider."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in deployment.tensors:
        like = deployment.leaves[index]
        shape = (batch, *like.shape[1:]) if like.dim() else ()
        if larger and like.dim() == 4:
            shape = (*shape[:2], shape[2] + 64 * larger, shape[3] + 32 * larger)
        if like.is_floating_point():
            dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
            found.append(torch.randn(shape, generator=generator, dtype=dtype))
        else:
            found.append(torch.randint(0, 2, shape, generator=generator).to(like.dtype))
    device = next((tensor.device for tensor in (*deployment.network.parameters(), *deployment.network.buffers())), torch.device("cpu"))
    return [tensor.to(device) for tensor in found]


def _written(kind: Format, program: Any, path: Path, wish: Wish, deployment: Deployment, traced: Sequence[Tensor]) -> None:
    try:
        write(kind, program, path, wish)
    except ExportError:
        raise
    except OSError:
        raise
    except Exception as error:
        said = " ".join(str(one) for one in _chain(error))
        place, operator = place_of_operator(deployment, traced, said)
        raise ExportError(
            place or operator or f"the network as {kind}",
            found=operator or f"{type(error).__name__}: {_plain(str(error))}",
            why=f"{kind} cannot hold that operator",
            fix="export --to pt2, which holds every operator of torch, or exchange that part of the network",
        ) from error


def _plain(message: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())[:400]


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _described(tensors: dict[str, Tensor], batch: int | str, free: bool = False) -> dict[str, str]:
    """``{"input0": "float32 b 3 224 224"}``; an output's batch axis is the one that has the traced size."""
    found = {}
    for name, tensor in tensors.items():
        axis = 1 if name.endswith("members") else 0
        sizes = ["b" if batch == "dynamic" and position == axis else str(size) for position, size in enumerate(tensor.shape)]
        if free and tensor.dim() == 4:
            sizes[2:] = ["h", "w"]
        found[name] = " ".join([str(tensor.dtype).removeprefix("torch."), *sizes])
    return found
