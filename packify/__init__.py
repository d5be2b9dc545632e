"""packify: any PyTorch network as a Packed-Ensemble, M slim members in one network and one forward pass."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from packify.core.version import __version__

if TYPE_CHECKING:
    from packify.artefact.calibrating import load_calibration as load_calibration
    from packify.artefact.calibrating import save_calibration as save_calibration
    from packify.artefact.cards import model_card as model_card
    from packify.artefact.cards import write_card as write_card
    from packify.artefact.hub import push_to_hub as push_to_hub
    from packify.artefact.loading import load as load
    from packify.artefact.saving import save as save
    from packify.artefact.saving import save_member as save_member
    from packify.budgets.cost import Budget as Budget
    from packify.budgets.fitting import Fit as Fit
    from packify.budgets.sweeping import Sweep as Sweep
    from packify.core.errors import ArtefactError as ArtefactError
    from packify.core.errors import AverageWarning as AverageWarning
    from packify.core.errors import BudgetError as BudgetError
    from packify.core.errors import CompileWarning as CompileWarning
    from packify.core.errors import DataError as DataError
    from packify.core.errors import ExportError as ExportError
    from packify.core.errors import LawBroken as LawBroken
    from packify.core.errors import PackError as PackError
    from packify.core.errors import PackifyError as PackifyError
    from packify.core.errors import SourceError as SourceError
    from packify.core.errors import SpecError as SpecError
    from packify.core.errors import TraceError as TraceError
    from packify.core.report import Report as Report
    from packify.core.spec import Spec as Spec
    from packify.distributed.checkpoints import load_checkpoint as load_checkpoint
    from packify.distributed.checkpoints import save_checkpoint as save_checkpoint
    from packify.distributed.consolidation import consolidate as consolidate
    from packify.distributed.distributing import DistributedEnsemble as DistributedEnsemble
    from packify.distributed.distributing import distribute as distribute
    from packify.ensembles.checkpoints import load_members as load_members
    from packify.ensembles.method_shortcuts import batch_ensemble as batch_ensemble
    from packify.ensembles.method_shortcuts import deep_ensemble as deep_ensemble
    from packify.ensembles.method_shortcuts import masksembles as masksembles
    from packify.ensembles.method_shortcuts import mimo as mimo
    from packify.ensembles.parts import join as join
    from packify.ensembles.parts import part as part
    from packify.ensembles.recording import Recording as Recording
    from packify.ensembles.recording import record as record
    from packify.ensembles.shortcuts import budget as budget
    from packify.ensembles.shortcuts import fit as fit
    from packify.ensembles.shortcuts import pack as pack
    from packify.ensembles.shortcuts import sweep as sweep
    from packify.ensembles.state_dicts import load_weights as load_weights
    from packify.ensembles.submodules import SubmodulesBudget as SubmodulesBudget
    from packify.ensembles.submodules import budget_submodules as budget_submodules
    from packify.ensembles.submodules import extract_submodules as extract_submodules
    from packify.ensembles.submodules import pack_submodule as pack_submodule
    from packify.ensembles.submodules import pack_submodules as pack_submodules
    from packify.ensembles.trained import pack_members as pack_members
    from packify.evaluation.calibration import Calibration as Calibration
    from packify.evaluation.comparison import compare as compare
    from packify.evaluation.comparison import evaluate as evaluate
    from packify.evaluation.conformal import ConformalSets as ConformalSets
    from packify.evaluation.label_results import LabelEvaluation as LabelEvaluation
    from packify.evaluation.measures import Uncertainty as Uncertainty
    from packify.evaluation.measures import uncertainty as uncertainty
    from packify.evaluation.plots import plot_evaluation as plot_evaluation
    from packify.evaluation.regression_results import RegressionEvaluation as RegressionEvaluation
    from packify.evaluation.results import Comparison as Comparison
    from packify.evaluation.results import Evaluation as Evaluation
    from packify.evaluation.temperature import TemperatureScaling as TemperatureScaling
    from packify.exporting.exporter import Export as Export
    from packify.exporting.exporter import export as export
    from packify.laws.signals import Signal as Signal
    from packify.laws.signals import signal as signal
    from packify.laws.verification import Verification as Verification
    from packify.laws.verification import verify as verify
    from packify.nn.graph_network import MemberNetwork as MemberNetwork
    from packify.nn.packed_network import PackedNetwork as PackedNetwork
    from packify.nn.shared_network import SharedNetwork as SharedNetwork
    from packify.ops.rule import Rule as Rule
    from packify.sources.resolving import load_reference as load_reference
    from packify.training.clipping import clip_grad_norm_ as clip_grad_norm_
    from packify.training.gaussian import GaussianNLL as GaussianNLL
    from packify.training.gaussian import RegressionUncertainty as RegressionUncertainty
    from packify.training.gaussian import gaussian_mixture as gaussian_mixture
    from packify.training.independent import IndependentBatchSampler as IndependentBatchSampler
    from packify.training.independent import IndependentCollate as IndependentCollate
    from packify.training.losses import EnsembleLoss as EnsembleLoss
    from packify.training.losses import repeat_targets as repeat_targets
    from packify.training.mimo_batches import mimo_batch as mimo_batch
    from packify.training.optimiser_groups import parameter_groups as parameter_groups

# The module that holds each public name. It is imported on first use, so that `packify --help` does not wait for torch.
_MODULES = {
    "packify.artefact.cards": "model_card write_card",
    "packify.artefact.hub": "push_to_hub",
    "packify.artefact.calibrating": "load_calibration save_calibration",
    "packify.artefact.loading": "load",
    "packify.artefact.saving": "save save_member",
    "packify.budgets.cost": "Budget",
    "packify.budgets.fitting": "Fit",
    "packify.budgets.sweeping": "Sweep",
    "packify.training.losses": "EnsembleLoss repeat_targets",
    "packify.training.clipping": "clip_grad_norm_",
    "packify.training.optimiser_groups": "parameter_groups",
    "packify.training.mimo_batches": "mimo_batch",
    "packify.training.gaussian": "GaussianNLL RegressionUncertainty gaussian_mixture",
    "packify.training.independent": "IndependentBatchSampler IndependentCollate",
    "packify.evaluation.measures": "Uncertainty uncertainty",
    "packify.evaluation.comparison": "compare evaluate",
    "packify.evaluation.results": "Comparison Evaluation",
    "packify.evaluation.label_results": "LabelEvaluation",
    "packify.evaluation.regression_results": "RegressionEvaluation",
    "packify.evaluation.calibration": "Calibration",
    "packify.evaluation.plots": "plot_evaluation",
    "packify.evaluation.temperature": "TemperatureScaling",
    "packify.evaluation.conformal": "ConformalSets",
    "packify.exporting.exporter": "Export export",
    "packify.distributed.checkpoints": "load_checkpoint save_checkpoint",
    "packify.distributed.consolidation": "consolidate",
    "packify.distributed.distributing": "DistributedEnsemble distribute",
    "packify.core.errors": "ArtefactError AverageWarning BudgetError CompileWarning DataError ExportError LawBroken PackError "
    "PackifyError SourceError SpecError TraceError",
    "packify.core.report": "Report",
    "packify.core.spec": "Spec",
    "packify.ensembles.checkpoints": "load_members",
    "packify.ensembles.method_shortcuts": "batch_ensemble deep_ensemble masksembles mimo",
    "packify.ensembles.parts": "join part",
    "packify.ensembles.recording": "Recording record",
    "packify.ensembles.shortcuts": "budget fit pack sweep",
    "packify.ensembles.state_dicts": "load_weights",
    "packify.ensembles.submodules": "SubmodulesBudget budget_submodules extract_submodules pack_submodule pack_submodules",
    "packify.ensembles.trained": "pack_members",
    "packify.laws.signals": "Signal signal",
    "packify.laws.verification": "Verification verify",
    "packify.nn.graph_network": "MemberNetwork",
    "packify.nn.packed_network": "PackedNetwork",
    "packify.nn.shared_network": "SharedNetwork",
    "packify.ops.rule": "Rule",
    "packify.sources.resolving": "load_reference",
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  the keys of that table are strings


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'packify' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
