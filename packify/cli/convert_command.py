"""`packify convert`: a name to a packed network on disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.members import (
    AlphaOrFiles,
    CountOrFiles,
    Members,
    MemberSeedsOption,
    Pretrained,
    WeightsOption,
    packed_members,
    spec_of,
    start_of,
)
from packify.cli.methods import (
    PACKED_ONLY,
    Layers,
    MethodOption,
    Norms,
    Repetitions,
    Rho,
    Scale,
    convert_by,
    deep_numbers,
    given,
    method_spec,
)
from packify.cli.options import (
    DropOutput,
    FactoryArgs,
    Force,
    FreeOutput,
    Gamma,
    GammaPolicyOption,
    GroupsOption,
    HeadsOption,
    InChans,
    InputSize,
    Json,
    MinChannels,
    ModelArgument,
    NumClasses,
    Out,
    Quiet,
    RoundTo,
    Seed,
    UnusedOption,
    output_choices,
)

Inputs = Annotated[
    Literal["shared", "independent"],
    typer.Option("--inputs", help="One input for all members, or one each (M times the batch, member-major)."),
]
Average = Annotated[
    Literal["probs", "sigmoid", "mean", "gaussian", "none"] | None,
    typer.Option(
        "--average",
        help="What eval mode returns: log of the mean softmax, logit of the mean sigmoid, the mean, a Gaussian mixture, or all members.",
        show_default="by the output",
    ),
]
Init = Annotated[
    Literal["scheme", "reset"],
    typer.Option("--init", help="Draw initial weights as the network's own code does, or by each layer type's own reset."),
]
Constants = Annotated[
    Literal["follow", "keep"],
    typer.Option("--constants", help="What becomes of numbers that the network's code computed from a width."),
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the check of the laws.")]


# Above this many Mult-Adds per sample the laws are checked in float32: float64 would take most of a minute.
_LARGE = 10**9


def convert(
    context: typer.Context,
    model: ModelArgument,
    alpha: AlphaOrFiles = None,
    num_estimators: CountOrFiles = None,
    gamma: Gamma = 1,
    method: MethodOption = "packed",
    scale: Scale = None,
    rho: Rho = None,
    batch_repetitions: Repetitions = None,
    norms: Norms = None,
    layers: Layers = None,
    gamma_policy: GammaPolicyOption = "paper",
    min_channels_per_group: MinChannels = 64,
    round_to: RoundTo = 1,
    unused: UnusedOption = "drop",
    heads: HeadsOption = "scale",
    groups: GroupsOption = "keep",
    num_classes: NumClasses = None,
    in_chans: InChans = None,
    input_size: InputSize = None,
    arg: FactoryArgs = None,
    free_output: FreeOutput = None,
    drop_output: DropOutput = None,
    members: Members = None,
    weights: WeightsOption = None,
    pretrained: Pretrained = False,
    seed: Seed = 0,
    member_seeds: MemberSeedsOption = "own",
    init: Init = "scheme",
    constants: Constants = "follow",
    inputs: Inputs = "shared",
    average: Average = None,
    no_verify: NoVerify = False,
    out: Out = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a network into a Packed-Ensemble, or another ensemble (--method), and write it: config.json and model.safetensors."""
    own = {"scale": scale, "rho": rho, "batch_repetitions": batch_repetitions, "norms": norms, "layers": layers}
    shared = method_spec(method, num_estimators, seed, given(context, *PACKED_ONLY, *(("inputs",) if method == "mimo" else ())), **own)
    if shared is not None:
        convert_by(
            shared,
            model=model,
            wanted=_wanted(num_classes, in_chans, input_size, arg),
            pretrained=pretrained,
            outputs=output_choices(free_output, drop_output),
            seed=seed,
            inputs=None if method == "mimo" else inputs,
            average=average,
            no_verify=no_verify,
            out=out,
            force=force,
            json=json,
            quiet=quiet,
        )
        return
    if method == "deep":
        alpha, num_estimators = deep_numbers(alpha, num_estimators, gamma, members)
    start = start_of(weights, members, pretrained)
    policies = {"gamma_policy": gamma_policy, "min_channels_per_group": min_channels_per_group, "round_to": round_to}
    spec = spec_of(alpha, num_estimators, gamma, members, **policies, unused=unused, constants=constants, heads=heads, groups=groups)
    with steps(5, quiet or json) as step:
        with step("import", "importing torch and its libraries"):
            import torch

            from packify import artefact, sources
            from packify.execution.defaults import DEEP_STRATEGY

            kind, plain = sources.parse_name(model)
            sources.import_library(kind)
        target = artefact.check_target(out or Path(f"{sources.label(kind, plain)}-{spec.label}"), force)
        with step("build", f"building {model}"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reference = sources.resolve(model, **_wanted(num_classes, in_chans, input_size, arg), pretrained=pretrained)
            example = reference.example()
        options: dict[str, Any] = spec.to_dict()
        with step("pack", f"slimming and packing {model}"):
            import packify

            outputs = output_choices(free_output, drop_output)
            recording = packify.record(reference.model, example, outputs=outputs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", packify.AverageWarning)  # the report says it
                common: dict[str, Any] = {"inputs": inputs, "average": average}
                drawn: dict[str, Any] = {"seed": seed, "member_seeds": member_seeds, "weights": start, "init": init}
                packed = (
                    recording.pack(**options, **drawn, **common) if members is None else packed_members(recording, members, outputs, common)
                )
            if method == "deep":
                packed.strategy = DEEP_STRATEGY
            costs = recording.budget(**options)
        with step("verify", "checking the laws"):
            from packify.laws.verification import verify

            large = costs.packed.mult_adds > _LARGE
            verification = None if no_verify else verify(packed, dtype=torch.float32 if large else torch.float64)
        with step("write", f"writing {target}"):
            written = artefact.save(packed.eval(), target, source=reference.source, force=force)
    from packify.cli.conversion import Conversion, show

    found = Conversion(model, shapes(example), costs, packed.report, verification, written, step.seconds)
    if json:
        print_json(found.to_dict())
    elif quiet:
        stdout().print(str(written), soft_wrap=True)
    else:
        show(stdout(), found)


def _wanted(num_classes: int | None, in_chans: int | None, input_size: str | None, arg: list[str] | None) -> dict[str, Any]:
    """What is asked of the reference."""
    from packify import sources

    size = None if input_size is None else sources.parse_input_size(input_size)
    return {"num_classes": num_classes, "in_chans": in_chans, "input_size": size, "args": dict(map(sources.parse_argument, arg or ()))}


def shapes(example: Any) -> str:
    """The shapes of an example's tensors: ``2x3x224x224``."""
    import torch
    from torch.utils import _pytree

    tensors = [leaf for leaf in _pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor)]
    return ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)
