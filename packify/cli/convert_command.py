"""`packify convert`: a name to a packed network on disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.options import (
    Alpha,
    DropOutput,
    FactoryArgs,
    Force,
    FreeOutput,
    Gamma,
    GammaPolicyOption,
    InChans,
    InputSize,
    Json,
    MinChannels,
    ModelArgument,
    NumClasses,
    NumEstimators,
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
    model: ModelArgument,
    alpha: Alpha,
    num_estimators: NumEstimators,
    gamma: Gamma = 1,
    gamma_policy: GammaPolicyOption = "paper",
    min_channels_per_group: MinChannels = 64,
    round_to: RoundTo = 1,
    unused: UnusedOption = "drop",
    num_classes: NumClasses = None,
    in_chans: InChans = None,
    input_size: InputSize = None,
    arg: FactoryArgs = None,
    free_output: FreeOutput = None,
    drop_output: DropOutput = None,
    seed: Seed = 0,
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
    """Convert a network into a Packed-Ensemble and write it as an artefact: config.json and model.safetensors."""
    from packify.core.spec import Spec

    spec = Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to, unused, constants)
    with steps(5, quiet or json) as step:
        with step("import", "importing torch"):
            import torch

            from packify import artefact, sources

        kind, plain = sources.parse_name(model)
        target = artefact.check_target(out or Path(f"{sources.label(kind, plain)}-{spec.label}"), force)
        size = None if input_size is None else sources.parse_input_size(input_size)
        args = dict(map(sources.parse_argument, arg or ()))
        with step("build", f"building {model}"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reference = sources.resolve(model, num_classes=num_classes, in_chans=in_chans, input_size=size, args=args)
            example = reference.example()
        options: dict[str, Any] = spec.to_dict()
        with step("pack", f"slimming and packing {model}"):
            import packify

            recording = packify.record(reference.model, example, outputs=output_choices(free_output, drop_output))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", packify.AverageWarning)  # the report says it
                packed = recording.pack(**options, seed=seed, init=init, inputs=inputs, average=average)
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


def shapes(example: Any) -> str:
    """The shapes of an example's tensors: ``2x3x224x224``."""
    import torch
    from torch.utils import _pytree

    tensors = [leaf for leaf in _pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor)]
    return ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)
