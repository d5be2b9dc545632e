"""Which function makes the network of which method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from packify.core.method_specs import BatchEnsembleSpec, MasksemblesSpec, MethodSpec, MimoSpec
from packify.ensembles.methods.batch_ensemble import make_batch_ensemble
from packify.ensembles.methods.masksembles import make_masksembles
from packify.ensembles.methods.member import Source
from packify.ensembles.methods.mimo import make_mimo
from packify.nn.shared_network import SharedNetwork

Make = Callable[..., SharedNetwork]

MAKERS: Mapping[type[MethodSpec], Make] = {
    BatchEnsembleSpec: make_batch_ensemble,
    MasksemblesSpec: make_masksembles,
    MimoSpec: make_mimo,
}
"""The functions by the types of the settings."""


def make(spec: MethodSpec, source: Source, *, seed: int = 0, inputs: str | None = None, average: Any = None) -> SharedNetwork:
    """The network of the method that the spec is of.

    Args:
        spec: the method's settings.
        source: what it starts from.
        seed: of what members differ by.
        inputs: ``"shared"`` or ``"independent"``; by default what the method is trained with.
        average: how outputs are averaged.

    Raises:
        SpecError, PackError: as the method does.
    """
    return MAKERS[type(spec)](spec, source, seed=seed, inputs=inputs or _INPUTS.get(type(spec), "shared"), average=average)


_INPUTS: Mapping[type[MethodSpec], str] = {MimoSpec: "independent"}
