"""Evaluating networks: ensembles, packed or not, and single ones, on labelled, shifted and out-of-distribution data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from packify.core.errors import DataError
from packify.evaluation.batches import Progress, Reader, Split, batches_in
from packify.evaluation.classes import Given, checked_temperature
from packify.evaluation.measures import Kind
from packify.evaluation.prediction import Network, as_networks, in_eval_mode
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.results import Comparison
from packify.evaluation.tasks import kind_of, task_of
from packify.training.gaussian import VarianceForm


def evaluate(
    network: Network,
    loader: Iterable[Any],
    *,
    kind: Kind | None = None,
    ood: Iterable[Any] | None = None,
    shift: Iterable[Any] | None = None,
    ignore_index: int | None = None,
    num_bins: int = 15,
    top_k: int | None = None,
    outputs: Given = "logits",
    output: str | int | None = None,
    class_axis: int | None = None,
    variance: VarianceForm = "positive",
    split: Split | None = None,
    temperature: float = 1.0,
    max_scores: int = MAX_SCORES,
    progress: Progress | None = None,
) -> Any:
    """Accuracy, calibration, out-of-distribution detection and diversity of a network, in one pass over the data.

    Everything is streamed: memory does not grow with the data. All metrics are exact for up to `max_scores` distinct confidences (and
    scores); beyond that AURC, adaptive ECE and the detection of out-of-distribution samples round them, and `exact` says so.

    The network runs without gradients, in evaluation mode, on the device where it is, and has the mode it had afterwards. A packed
    network's prediction is the mean of its members' probabilities, or the mixture of their Gaussians.

    Args:
        network: a packed network, any other network (one member), or a list of networks (a Deep Ensemble).
        loader: batches of inputs and labels ``"b"``, or ``"b h w"`` for outputs ``"b k h w"``; see `split`. For several labels per sample
            they are ``"b k"`` of 0 and 1, for numbers they have the shape of the means.
        kind: ``"classification"``, ``"multilabel"`` (a sigmoid per label), ``"regression"`` (numbers, or pairs of mean and variance) or
            ``"gaussian"`` (one tensor of means and then variances). By default multilabel where ``packed.average`` is ``"sigmoid"``,
            gaussian where it is ``"gaussian"``, and classification for everything else.
        ood: batches of out-of-distribution inputs; of labels in them only `ignore_index` is read.
        shift: batches like the loader's, of shifted data.
        ignore_index: labels that do not count, such as 255 in segmentation.
        num_bins: of the ECE.
        top_k: also measure the accuracy among the k most probable classes.
        outputs: whether the network gives logits or probabilities.
        output: which of the network's outputs, where it has several: a key or a position.
        class_axis: of one member's output; by default 1 for ``"b k h w"``, else the last.
        variance: how a Gaussian head gives its variance.
        split: cuts a batch into inputs and labels; by default the last item of a tuple, or what a dict calls labels, is the labels.
        temperature: divides the ensemble's logits (see `TemperatureScaling`); members alone and OOD scores are left as they are.
        max_scores: distinct scores that are kept apart.
        progress: called with the batches done and all batches (0 where a loader has no length).

    Returns:
        `Evaluation` of classes, `LabelEvaluation` of several labels, `RegressionEvaluation` of numbers.

    Raises:
        DataError: an empty loader, labels that do not fit the outputs or are outside the classes, NaN in the outputs.
        SpecError: an option has an impossible value, or none for this kind.

    Example:
        >>> found = packify.evaluate(packed, test_loader, ood=svhn_loader)
        >>> found.accuracy, found.ece, found.ood.mutual_information.auroc
        >>> packify.evaluate(packed, test_loader, kind="gaussian", variance="softplus").nll
    """
    return compare(
        {"": network},
        loader,
        kind=kind,
        ood=ood,
        shift=shift,
        ignore_index=ignore_index,
        num_bins=num_bins,
        top_k=top_k,
        outputs=outputs,
        output=output,
        class_axis=class_axis,
        variance=variance,
        split=split,
        temperature=temperature,
        max_scores=max_scores,
        progress=progress,
    )[""]


@torch.no_grad()
def compare(
    networks: Mapping[str, Network],
    loader: Iterable[Any],
    *,
    kind: Kind | None = None,
    ood: Iterable[Any] | None = None,
    shift: Iterable[Any] | None = None,
    ignore_index: int | None = None,
    num_bins: int = 15,
    top_k: int | None = None,
    outputs: Given = "logits",
    output: str | int | None = None,
    class_axis: int | None = None,
    variance: VarianceForm = "positive",
    split: Split | None = None,
    temperature: float | Mapping[str, float] = 1.0,
    max_scores: int = MAX_SCORES,
    progress: Progress | None = None,
) -> Comparison:
    """`evaluate` for several networks, all on the same batches, each of which is read once.

    Args:
        networks: by name; each a packed network, a single one, or a list of networks.
        kind: of all networks; by default what the packed ones among them say by their average.
        temperature: one for all, or by name (1 where a name is missing).
        loader, ood, shift, ignore_index, num_bins, top_k, outputs, output, class_axis, variance, split, max_scores, progress: as for
            `evaluate`.

    Raises:
        DataError, SpecError: as for `evaluate`, and when there is no network.

    Example:
        >>> packify.compare({"single": model, "packed": packed, "Deep Ensemble": [model, *others]}, test_loader).rows()
    """
    if not networks:
        raise DataError("compare", found="no network", why="there is nothing to evaluate", fix='pass {"packed": packed, "single": model}')
    given = {name: as_networks(network) for name, network in networks.items()}
    task = task_of(
        kind_of(given.values(), output) if kind is None else kind,
        ignore_index=ignore_index,
        num_bins=num_bins,
        top_k=top_k,
        outputs=outputs,
        output=output,
        class_axis=class_axis,
        variance=variance,
        temperature=temperature,
        max_scores=max_scores,
    )
    reader = Reader(given, task, split)
    temperatures = temperature if isinstance(temperature, Mapping) else dict.fromkeys(networks, temperature)
    labelled, shifted = ({name: task.tally(checked_temperature(temperatures.get(name, 1.0))) for name in networks} for _ in range(2))
    steps = _Steps(progress, batches_in(loader, shift, ood))
    with in_eval_mode([one for several in given.values() for one in several]):
        for name, piece in reader.read(loader, "the loader", step=steps):
            labelled[name].update(piece, detect=ood is not None)
        for name, piece in reader.read(shift, "the shifted data", step=steps) if shift is not None else ():
            shifted[name].update(piece)
        for name, piece in reader.read(ood, "the out-of-distribution data", labelled=False, step=steps) if ood is not None else ():
            labelled[name].update_ood(piece)
    return Comparison(
        {
            name: tally.evaluation(shifted[name].evaluation() if shift is not None else None, with_ood=ood is not None)
            for name, tally in labelled.items()
        }
    )


class _Steps:
    """Counts batches for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
