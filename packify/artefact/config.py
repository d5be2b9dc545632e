"""`config.json`: what an artefact says about itself, as a checked, frozen value. Its text may come from anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import packify.artefact.example as examples
from packify.capture.outputs import OutputChoice
from packify.core.errors import ArtefactError, DataError, SourceError, SpecError
from packify.core.method_specs import METHOD_SPECS, MethodSpec
from packify.core.spec import Spec
from packify.evaluation.calibration import Calibration
from packify.nn.averaging import AVERAGES
from packify.sources import Source

FORMAT = 4
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_FILE = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
CARD_FILE = "README.md"

LIBRARIES = ("torch", "torchvision", "timm")

Kind = Literal["packed", "member"]

_MAX_BYTES = 4 * 2**20
_MAX_MEMBERS = 2**16
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,60}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AVERAGES = AVERAGES
_INPUTS = ("shared", "independent")
_FIELDS = {
    "format",
    "packify",
    "kind",
    "member",
    "source",
    "spec",
    "example",
    "inputs",
    "average",
    "outputs",
    "training",
    "other_mode",
    "frozen",
    "resized",
    "execution",
    "made_with",
    "structure_sha256",
    "weights_file",
    "weights_sha256",
}
# What is left out where there is none.
_OPTIONAL: dict[str, Any] = {"calibration": {}}
# What fields that an older format does not have stand for there.
_SINCE: dict[str, tuple[int, Any]] = {
    "outputs": (2, {}),
    "other_mode": (3, []),
    "frozen": (3, None),
    "resized": (3, {}),
    "execution": (4, {}),
    "weights_file": (3, WEIGHTS_FILE),
}


@dataclass(frozen=True)
class Config:
    """Everything about an artefact except its tensors.

    Attributes:
        kind: ``"packed"`` for a whole network, ``"member"`` for one member of it.
        member: which member, if it is one.
        source: where the reference came from; None when it was passed as a module.
        spec: alpha, M and gamma; or the settings of a method whose members share weights, which say its name.
        example: the inputs it was recorded with, as `packify.artefact.example` writes them.
        inputs: ``"shared"`` or ``"independent"``.
        average: how each output is averaged.
        outputs: outputs that are ``"free"`` or ``"drop"``, by path.
        training: whether it was in train mode when saved.
        made_with: versions of the libraries at work when it was saved.
        structure_sha256: names, shapes and recorded code of the packed network, without dtypes.
        weights_sha256: of the whole file `weights_file`.
        packify: the version of packify that wrote it.
        other_mode: the modules that were in evaluation mode while the network trained, or the other way round.
        frozen: the parameters that took no gradient; None in older formats, where the reference says.
        resized: layers that every member was given a new head in place of, and their output features: ``{"fc": 37}``.
        execution: how it is run, see `packify.artefact.execution`.
        weights_file: ``"model.safetensors"``, or the index of several shards.
        calibration: what was fitted on held-out data for it.
    """

    kind: Kind
    member: int | None
    source: Source | None
    spec: Spec | MethodSpec
    example: dict[str, Any]
    inputs: Literal["shared", "independent"]
    average: Any
    outputs: dict[str, str]
    training: bool
    made_with: dict[str, str]
    structure_sha256: str
    weights_sha256: str
    packify: str
    other_mode: tuple[str, ...] = ()
    frozen: tuple[str, ...] | None = ()
    resized: Mapping[str, int] = field(default_factory=dict)
    weights_file: str = WEIGHTS_FILE
    calibration: Calibration = field(default_factory=Calibration)
    execution: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of `config.json`."""
        values = {
            "format": FORMAT,
            "packify": self.packify,
            "kind": self.kind,
            "member": self.member,
            "source": None if self.source is None else self.source.to_dict(),
            "spec": self.spec.to_dict(),
            "example": self.example,
            "inputs": self.inputs,
            "average": self.average,
            "outputs": self.outputs,
            "training": self.training,
            "other_mode": list(self.other_mode),
            "frozen": None if self.frozen is None else list(self.frozen),
            "resized": dict(self.resized),
            "execution": dict(self.execution),
            "made_with": self.made_with,
            "structure_sha256": self.structure_sha256,
            "weights_file": self.weights_file,
            "weights_sha256": self.weights_sha256,
            **({"calibration": self.calibration.to_dict()} if self.calibration != Calibration() else {}),
        }
        return json.dumps(values, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = CONFIG_FILE) -> Config:
        """The inverse of `to_json`, for a text that anybody may have written.

        Raises:
            ArtefactError: not JSON, not an object, of a newer format, or a field is missing, unknown or out of range.
        """
        try:
            values: Any = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _damaged(where, f"{type(error).__name__}: {error}", "it is no JSON document") from error
        if not isinstance(values, dict):
            raise _damaged(where, f"a {type(values).__name__}", "an artefact's config.json holds an object")
        _check_format(values.get("format"), values.get("packify"), where)
        values = {**{name: default for name, (since, default) in _SINCE.items() if values["format"] < since}, **_OPTIONAL, **values}
        fields = _FIELDS | _OPTIONAL.keys()
        if set(values) != fields:
            missing, unknown = sorted(fields - set(values)), sorted(set(values) - fields)
            raise _damaged(
                where, f"missing fields: {missing}; unknown fields: {unknown}"[:400], f"format {FORMAT} has exactly its own fields"
            )
        kind, member = values["kind"], values["member"]
        spec = _spec(values["spec"], where, values["format"])
        _require(kind in get_args(Kind), where, "kind", kind)
        _require(member is None if kind == "packed" else _is_index(member, spec.num_estimators), where, "member", member)
        _require(values["inputs"] in _INPUTS, where, "inputs", values["inputs"])
        _require(_is_average(values["average"]), where, "average", values["average"])
        _require(_are_outputs(values["outputs"]), where, "outputs", values["outputs"])
        _require(isinstance(values["training"], bool), where, "training", values["training"])
        _require(_are_names(values["other_mode"]), where, "other_mode", values["other_mode"])
        _require(values["frozen"] is None or _are_names(values["frozen"]), where, "frozen", values["frozen"])
        _require(_are_sizes(values["resized"]), where, "resized", values["resized"])
        _require(isinstance(values["execution"], dict), where, "execution", values["execution"])
        _require(_are_versions(values["made_with"]), where, "made_with", values["made_with"])
        _require(values["weights_file"] in (WEIGHTS_FILE, INDEX_FILE), where, "weights_file", values["weights_file"])
        for name in ("structure_sha256", "weights_sha256"):
            _require(isinstance(values[name], str) and _SHA256.fullmatch(values[name]) is not None, where, name, values[name])
        examples.decode(values["example"])
        try:
            source = None if values["source"] is None else Source.from_dict(values["source"])
        except SourceError as error:
            raise _damaged(f"{where}: source", error.found, error.why) from error
        try:
            calibration = Calibration.from_dict(values["calibration"])
        except (DataError, SpecError) as error:
            raise _damaged(f"{where}: calibration", error.found, error.why) from error
        return cls(
            kind=kind,
            member=member,
            source=source,
            spec=spec,
            example=values["example"],
            inputs=values["inputs"],
            average=values["average"],
            outputs=values["outputs"],
            training=values["training"],
            made_with=values["made_with"],
            structure_sha256=values["structure_sha256"],
            weights_sha256=values["weights_sha256"],
            weights_file=values["weights_file"],
            packify=values["packify"],
            other_mode=tuple(values["other_mode"]),
            frozen=None if values["frozen"] is None else tuple(values["frozen"]),
            resized=values["resized"],
            calibration=calibration,
            execution=values["execution"],
        )


def read_config(folder: str | Path) -> Config:
    """The checked `config.json` of an artefact.

    Raises:
        ArtefactError: there is no artefact in that folder, or its config cannot be read.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        why = "there is no such folder" if not path.parent.is_dir() else f"the folder holds no {CONFIG_FILE}"
        raise ArtefactError(str(folder), found="no artefact", why=why, fix="pass a folder that `packify convert` or packify.save wrote")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise _damaged(str(path), f"{size} bytes", f"a config.json has at most {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(str(path), str(error), "it is no UTF-8 text") from error
    except OSError as error:
        raise ArtefactError(str(path), found=str(error), why="the file cannot be read", fix="check its permissions") from error
    return Config.from_json(text, str(path))


def _check_format(found: object, written_by: object, where: str) -> None:
    _require(type(found) is int and found >= 1, where, "format", found)
    _require(_is_version(written_by), where, "packify", written_by)
    if isinstance(found, int) and found > FORMAT:
        raise ArtefactError(
            where,
            found=f"format {found}, written by packify {written_by}",
            why=f"this packify reads up to format {FORMAT}",
            fix="pip install --upgrade packify-torch",
        )


def _spec(values: Any, where: str, written_in: int) -> Spec | MethodSpec:
    _require(isinstance(values, dict), where, "spec", values)
    if "method" in values:
        return _method_spec(values, where)
    if written_in == 1:  # what forward never reads was kept
        values = {"unused": "keep", **values}
    try:
        spec = Spec.from_dict({"constants": "keep", **values} if isinstance(values, dict) else values)  # what wrote none kept them all
    except (SpecError, TypeError, OverflowError) as error:
        found = error.found if isinstance(error, SpecError) else str(error)
        raise _damaged(f"{where}: spec", f"{found:.200}", "a spec holds alpha, M, gamma and their policies") from error
    _require(max(spec.alpha, spec.num_estimators, spec.gamma) <= _MAX_MEMBERS, where, "spec", values)
    return spec


def _method_spec(values: dict[str, Any], where: str) -> MethodSpec:
    kind = METHOD_SPECS.get(values["method"]) if isinstance(values["method"], str) else None
    if kind is None:
        raise _damaged(f"{where}: spec.method", f"{values['method']!r:.120}", f"the methods are {', '.join(METHOD_SPECS)}")
    try:
        spec = kind.from_dict(values)
    except (SpecError, TypeError, OverflowError) as error:
        found = error.found if isinstance(error, SpecError) else str(error)
        raise _damaged(f"{where}: spec", f"{found:.200}", f"it holds the settings of {kind.method}") from error
    _require(spec.num_estimators <= _MAX_MEMBERS, where, "spec", values)
    return spec


def _is_index(value: object, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _is_average(value: object, nesting: int = 0) -> bool:
    if nesting > 16:
        return False
    if isinstance(value, dict):
        return all(_is_average(item, nesting + 1) for item in value.values())
    if isinstance(value, list):
        return all(_is_average(item, nesting + 1) for item in value)
    return value is None or value in _AVERAGES


def _are_outputs(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(path, str) and how in get_args(OutputChoice) for path, how in value.items())


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) and type(size) is int and size > 0 for name, size in value.items())


def _are_versions(value: object) -> bool:
    # They end up in a suggested `pip install` line, so only known libraries and real versions will do.
    return isinstance(value, dict) and value.keys() <= set(LIBRARIES) and all(_is_version(text) for text in value.values())


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _require(holds: bool, where: str, field: str, found: object) -> None:
    if not holds:
        raise _damaged(f"{where}: {field}", f"{found!r:.120}", "the field has a value that packify never writes")


def _damaged(where: str, found: str, why: str) -> ArtefactError:
    return ArtefactError(where, found=found, why=why, fix="the file was damaged or edited: get a fresh copy of the artefact")
