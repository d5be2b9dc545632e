from __future__ import annotations

from dataclasses import replace

from packify.artefact.agreement import disagreements, metadata_of
from packify.artefact.config import Config
from packify.core.spec import Spec

_CONFIG = Config(
    kind="packed",
    member=None,
    source=None,
    spec=Spec(2, 4),
    example={"shape": [2, 3], "dtype": "float32"},
    inputs="shared",
    average="probs",
    outputs={},
    training=False,
    made_with={},
    structure_sha256="0" * 64,
    weights_sha256="0" * 64,
    packify="0.1.0",
)


def test_a_file_says_every_field_of_the_spec() -> None:
    spec = Spec(2, 4, 2, "uniform")
    found = metadata_of(spec, "shared")
    assert found.keys() == {"format", "inputs", *spec.to_dict()}
    told = {"alpha": "2.0", "num_estimators": "4", "gamma": "2", "gamma_policy": "uniform", "min_channels_per_group": "64", "round_to": "1"}
    assert found.items() >= {"format": "pt", "inputs": "shared", **told}.items()


def test_what_was_saved_together_agrees() -> None:
    assert disagreements(_CONFIG, metadata_of(_CONFIG.spec, "shared")) == []
    assert disagreements(replace(_CONFIG, spec=Spec(2.0, 4)), metadata_of(Spec(2, 4), "shared")) == []


def test_every_difference_is_told() -> None:
    said = disagreements(_CONFIG, metadata_of(Spec(3.5, 4, 2), "independent"))
    assert said == [
        "alpha: 2.0 in config.json, 3.5 in model.safetensors",
        "gamma: 1 in config.json, 2 in model.safetensors",
        "inputs: shared in config.json, independent in model.safetensors",
    ]


def test_a_file_of_another_tool_says_nothing() -> None:
    assert disagreements(_CONFIG, None) == []
    assert disagreements(_CONFIG, {"format": "pt", "alpha_of_another_tool": "7"}) == []


def test_what_a_stranger_wrote_is_cut_short() -> None:
    assert len(disagreements(_CONFIG, {"alpha": "9" * 10_000})[0]) < 120
