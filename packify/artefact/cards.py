"""The model card of an artefact, `README.md`: what it is, what it costs, how good it is, how to load it, whose work it is."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import packify.artefact.example as examples
from packify.artefact.config import CARD_FILE, INDEX_FILE, WEIGHTS_FILE, Config, read_config
from packify.artefact.folder import is_own_card, path_of
from packify.artefact.loading import reference_of
from packify.artefact.weights import weights_files
from packify.budgets.cost import CONVENTION_TEXT, Cost
from packify.core.errors import ArtefactError, PackifyError, SpecError
from packify.core.method_specs import METHOD_TITLES, MethodSpec
from packify.core.spec import Spec
from packify.ensembles.recording import record
from packify.evaluation.results import CONVENTIONS, Evaluation
from packify.sources.credits import Credit, credit_of

_METRICS = {"accuracy": "accuracy", "nll": "NLL", "ece": "ECE", "brier": "Brier", "aurc": "AURC"}
_PAPER = "[Laurent et al., ICLR 2023](https://arxiv.org/abs/2210.09184)"


@dataclass(frozen=True)
class _Facts:
    """What a card is written from."""

    folder: Path
    config: Config
    title: str
    where: str
    costs: Mapping[str, Cost] | None
    credit: Credit | None
    license: str
    evaluation: Mapping[str, Any] | None
    dataset: str


def model_card(
    folder: str | Path,
    *,
    model: nn.Module | None = None,
    evaluation: Evaluation | Mapping[str, Any] | None = None,
    dataset: str = "",
    license: str = "",  # noqa: A002 - the hub's own word
    repo_id: str = "",
) -> str:
    """The text of an artefact's card, with the hub's metadata at its head.

    Args:
        folder: what `packify.save` wrote.
        model: the reference, for an artefact made from a user's own network; without it the card tells no Mult-Adds.
        evaluation: what `packify.evaluate` found, or its ``to_dict()``.
        dataset: the name of the data of the evaluation.
        license: of the artefact, by the hub's names; by default that of the published weights that its members come from.
        repo_id: ``"user/name"`` on the hub, for the line that loads it.

    Raises:
        ArtefactError: there is no artefact in the folder.
        SpecError: `evaluation` is none.
    """
    folder = path_of(folder)
    config = read_config(folder)
    missing = [file.name for file in weights_files(folder, config) if not file.is_file()]
    if missing:
        raise ArtefactError(str(folder / missing[0]), found="no such file", why="an artefact needs its weights", fix="save it again")
    credit = credit_of(config.source)
    name = "a network" if config.source is None else config.source.name.rpartition(":")[2]
    spec = config.spec
    numbers = f"{spec.method}, M {spec.num_estimators}" if isinstance(spec, MethodSpec) else _numbers(spec)
    kind = METHOD_TITLES[spec.method][0] if isinstance(spec, MethodSpec) else "a Packed-Ensemble"
    title = f"{name} as {kind} ({numbers})" if config.kind == "packed" else f"Member {config.member} of {name} ({numbers})"
    return _written(
        _Facts(
            folder,
            config,
            title[0].upper() + title[1:] if name == "a network" else title,
            f"hf-hub:{repo_id}" if repo_id else str(folder),
            _costs(folder, config, model),
            credit,
            license or (credit.weights_license if credit else ""),
            _evaluated(evaluation),
            dataset,
        )
    )


def write_card(folder: str | Path, *, force: bool = False, **facts: Any) -> Path:
    """Write the card of an artefact as its `README.md`; the arguments are those of `model_card`.

    Args:
        folder: what `packify.save` wrote.
        force: replace a card that is there.
        facts: see `model_card`.

    Raises:
        ArtefactError: there is no artefact, a card is there and `force` is not given, or the README.md is no card.
    """
    folder = path_of(folder)
    text = model_card(folder, **facts)
    target = folder / CARD_FILE
    if target.exists() and not (force and is_own_card(target)):
        raise ArtefactError(
            str(target),
            found="a card" if is_own_card(target) else "a text that packify did not write",
            why="a card may have been edited, and nothing is replaced unasked",
            fix="pass --force (force=True)" if is_own_card(target) else "move it away first",
        )
    written_beside(target, text)
    return target


def written_beside(target: Path, text: str) -> None:
    """Write a text file all at once: into a file beside it, which is then renamed."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _numbers(spec: Spec) -> str:
    return f"alpha {spec.alpha:g}, M {spec.num_estimators}, gamma {spec.gamma}"


def _costs(folder: Path, config: Config, model: nn.Module | None) -> Mapping[str, Cost] | None:
    """The networks to compare, by name: the ensemble, one member where that has a size of its own, the reference, a Deep Ensemble."""
    spec: Any = config.spec
    try:
        reference = reference_of(folder, config, model)
        example = examples.decode(config.example)
        dtype = examples.floating_dtype(example)
        recording = record(reference if dtype is None else reference.to(dtype), example, outputs=config.outputs)
        if not isinstance(spec, MethodSpec):
            return recording.budget(**spec.to_dict()).networks()
        members = spec.num_estimators
        every = recording.method_budgets(alpha=members, num_estimators=members, methods=[spec]).networks()
    except PackifyError:
        return None  # a user's own network, or a library that is not here: the card tells what the files say
    return {name: cost for name, cost in every.items() if name != "packed"}


def _evaluated(evaluation: Any) -> Mapping[str, Any] | None:
    found = evaluation.to_dict() if isinstance(evaluation, Evaluation) else evaluation
    if found is not None and not (isinstance(found, Mapping) and "accuracy" in found and "nll" in found):
        raise SpecError(
            "evaluation",
            found=f"{found!r:.120}",
            why="a card tells what packify.evaluate found",
            fix="pass packify.evaluate(packed, loader), or the file that `packify evaluate DIR --data FOLDER --json` printed",
        )
    return found


def _written(facts: _Facts) -> str:
    parts = [_head(facts), f"# {facts.title}", _what(facts), _use(facts), _cost_table(facts), _evaluation_table(facts), _credits(facts)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _head(facts: _Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult("image-classification", facts.dataset or "unnamed", facts.dataset or "unnamed", metric, facts.evaluation[metric])
        for metric in _METRICS
        if facts.evaluation is not None and isinstance(facts.evaluation.get(metric), (int, float))
    ]
    data = ModelCardData(
        library_name="packify",
        license=facts.license or None,
        base_model=(facts.credit.weights_hub_id or None) if facts.credit else None,
        tags=[getattr(facts.config.spec, "method", "packed-ensembles"), "uncertainty", "ensemble", "pytorch"],
        model_name=facts.title if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _what(facts: _Facts) -> str:
    config, spec = facts.config, facts.config.spec
    about = "" if config.source is None else f" of {config.source.kind}'s {config.source.name}"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(config.made_with.items()))
    if isinstance(spec, MethodSpec):
        title, paper = METHOD_TITLES[spec.method]
        how = f"One member of {title}" if config.kind == "member" else f"{title[0].upper() + title[1:]}"
        settings = ", ".join(f"{name} {value}" for name, value in spec.to_dict().items() if name != "method" and value != [])
        what = f"{how}{about} ({paper}): {settings}."
    elif config.kind == "member":
        what = f"One member of a Packed-Ensemble{about} ({_PAPER}): a network of its own, {float(spec.ratio):.3g} times as wide."
    else:
        what = (
            f"A Packed-Ensemble{about} ({_PAPER}): {spec.num_estimators} independent members, each {float(spec.ratio):.3g} times as wide, "
            f"in one network and one forward pass. In evaluation mode it returns their average (`{json.dumps(config.average)}`)."
        )
    return f"{what}\n\nMade with packify {config.packify}, {versions}. Input: {_inputs(config.example)}."


def _inputs(example: Any) -> str:
    if isinstance(example, dict) and "shape" in example:
        return f"{example['dtype']} of shape {'x'.join(map(str, ['b', *example['shape'][1:]]))}"
    content = next(iter(example.values()))
    items = content if isinstance(content, list) else list(content.values()) if isinstance(content, dict) else []
    return ", ".join(_inputs(item) for item in items if isinstance(item, dict)) or "no tensors"


def _use(facts: _Facts) -> str:
    source = facts.config.source
    given = "" if source is not None and source.rebuildable else ", model=network"
    lines = ["```python", "import packify", ""]
    if given:
        known = "the network that was packed" if source is None else f"what {source.name} builds"
        lines.append(f"# network: {known}; loading runs no code from an artefact")
    lines.append(f"packed = packify.load({facts.where!r}{given})")
    if facts.config.kind == "packed":
        lines += ["found = packify.uncertainty(packed, x)  # probabilities, confidence, entropy, mutual_information, ..."]
    if source is not None and source.mean is not None:
        lines.append(f"# images are normalised with mean {source.mean} and std {source.std}")
    return "## Use\n\n" + "\n".join([*lines, "```", "", "Nothing is unpickled, and no code from the hub is run."])


def _cost_table(facts: _Facts) -> str:
    size = sum(file.stat().st_size for file in weights_files(facts.folder, facts.config))
    weights = f"Weights: {size / 1e6:,.1f} MB" + (
        f" in several files ({INDEX_FILE})." if facts.config.weights_file != WEIGHTS_FILE else "."
    )
    if facts.costs is None:
        return f"## Cost\n\n{weights}"
    rows = [
        f"| {name.replace('_', ' ')} | {cost.params:,} | {cost.mult_adds:,} | {cost.total_weight_bytes / 1e6:,.1f} MB |"
        for name, cost in facts.costs.items()
    ]
    table = "\n".join(["| network | parameters | Mult-Adds | weights |", "|---|---:|---:|---:|", *rows])
    return f"## Cost\n\n{table}\n\nMult-Adds: {CONVENTION_TEXT['macs']}. {weights}"


def _evaluation_table(facts: _Facts) -> str:
    found = facts.evaluation
    if found is None:
        steps = "`packify evaluate DIR --data FOLDER --json > found.json`, then `packify card DIR --evaluation found.json --force`"
        return f"## Evaluation\n\nNot evaluated: {steps}."
    shift = found.get("shift")
    named = [(facts.dataset or "test data", found)] + ([("shifted data", shift)] if isinstance(shift, Mapping) else [])
    rows = [f"| {name} | {one.get('samples', '')} | " + " | ".join(_number(one.get(key)) for key in _METRICS) + " |" for name, one in named]
    table = ["| data | samples | " + " | ".join(_METRICS.values()) + " |", "|---|---:|" + "---:|" * len(_METRICS), *rows]
    ood = found.get("ood")
    if isinstance(ood, Mapping):
        table += ["", "| out-of-distribution by | AUROC | AUPR | FPR95 |", "|---|---:|---:|---:|"]
        table += [
            f"| {score.replace('_', ' ')} | " + " | ".join(_number(one.get(key)) for key in ("auroc", "aupr", "fpr95")) + " |"
            for score, one in ood.items()
        ]
    conventions = found.get("conventions") or "\n".join(CONVENTIONS).format(num_bins=15)
    return "\n".join(["## Evaluation", "", *table, "", conventions])


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"


def _credits(facts: _Facts) -> str:
    source, credit = facts.config.source, facts.credit
    lines = [f"Licence of this artefact: {facts.license or 'not stated (pass --license to `packify card`)'}."]
    if credit is None:
        lines.append(
            "The reference is the author's own network." if source is None else f"The reference is the author's own: {source.name}."
        )
    else:
        stated = f", licence {credit.library_license}" if credit.library_license else ""
        lines.append(f"The reference's code is {credit.library}'s{stated}.")
        lines.append(
            f"Members come from published weights: {credit.weights}"
            + (f", licence {credit.weights_license}." if credit.weights_license else ", licence not stated there.")
            if credit.weights
            else "Members did not start from published weights, as far as config.json says."
        )
    return "## Source and licence\n\n" + "\n".join(lines)
