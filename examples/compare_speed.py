"""How fast a packed network runs against the same members under torch.func.vmap and one after the other, interleaved in one run.

python examples/compare_speed.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from cifar import resnet18
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import packify


def contenders(packed: packify.PackedNetwork, x: Tensor, *, backward: bool) -> dict[str, Callable[[], None]]:
    """The three ways to run the members on one batch, and the single reference-sized network, as functions without arguments."""
    singles = [packed.extract(member).train(backward) for member in range(packed.num_estimators)]
    packed.train(backward)
    parameters, buffers = stack_module_state(singles)  # type: ignore[arg-type]
    skeleton = packed.extract(0).train(backward)

    def one(values: dict[str, Tensor], state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        out: Tensor = functional_call(skeleton, (values, state), (inputs,))
        return out

    def run_packed() -> None:
        finish(packed.members(x), packed)

    def run_vmap() -> None:
        out = vmap(one, in_dims=(0, 0, None), randomness="different")(parameters, buffers, x)
        if backward:
            torch.autograd.grad(out.square().sum(), [value for value in parameters.values() if value.requires_grad])

    def run_in_turn() -> None:
        for single in singles:
            finish(single(x), single)

    def finish(out: Tensor, network: nn.Module) -> None:
        if backward:
            network.zero_grad(set_to_none=True)
            out.square().sum().backward()

    return {"packed": run_packed, "vmap": run_vmap, "in turn": run_in_turn}


def measure(functions: dict[str, Callable[[], None]], rounds: int, device: torch.device, *, backward: bool) -> dict[str, float]:
    """Median seconds of each function, the functions taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            with torch.set_grad_enabled(backward):
                function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Time both directions and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    torch.manual_seed(0)
    reference = resnet18().to(device)
    x = torch.randn(settings.batch, 3, 32, 32, device=device)
    packed = packify.pack(reference, x, alpha=2, num_estimators=4, gamma=1)
    for backward in (False, True):
        functions = contenders(packed, x, backward=backward)
        reference.train(backward)

        def single(backward: bool = backward) -> None:
            out = reference(x)
            if backward:
                reference.zero_grad(set_to_none=True)
                out.square().sum().backward()

        medians = measure({"reference": single, **functions}, settings.rounds, device, backward=backward)
        ratios = ", ".join(f"{name} {value / medians['in turn']:.2f}" for name, value in medians.items())
        print(f"{'forward + backward' if backward else 'forward'}, batch {settings.batch}, relative to the members in turn: {ratios}")


if __name__ == "__main__":
    main()
