"""packify: any PyTorch network as a Packed-Ensemble, M slim members in one network and one forward pass."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from packify.version import __version__

if TYPE_CHECKING:
    from packify.artefact import load as load
    from packify.artefact import save as save
    from packify.artefact import save_member as save_member
    from packify.budgets import Budget as Budget
    from packify.budgets import Fit as Fit
    from packify.budgets import Planner as Planner
    from packify.budgets import Sweep as Sweep
    from packify.budgets import budget as budget
    from packify.budgets import fit as fit
    from packify.budgets import sweep as sweep
    from packify.convert import pack as pack
    from packify.convert import pack_members as pack_members
    from packify.convert import pack_submodule as pack_submodule
    from packify.ensemble import PackedNetwork as PackedNetwork
    from packify.errors import (
        ArtefactError as ArtefactError,
    )
    from packify.errors import (
        BudgetError as BudgetError,
    )
    from packify.errors import (
        LawBroken as LawBroken,
    )
    from packify.errors import (
        PackError as PackError,
    )
    from packify.errors import (
        PackifyError as PackifyError,
    )
    from packify.errors import (
        SourceError as SourceError,
    )
    from packify.errors import (
        SpecError as SpecError,
    )
    from packify.errors import (
        TraceError as TraceError,
    )
    from packify.laws import Verification as Verification
    from packify.laws import verify as verify
    from packify.network import MemberNetwork as MemberNetwork
    from packify.report import Report as Report
    from packify.rules.rule import Rule as Rule
    from packify.sources import load_reference as load_reference
    from packify.spec import Spec as Spec

# Public name to the module that holds it. Loaded on first use, so that `packify --help` does not wait for torch.
_PUBLIC = {
    "pack": "packify.convert",
    "pack_members": "packify.convert",
    "pack_submodule": "packify.convert",
    "PackedNetwork": "packify.ensemble",
    "MemberNetwork": "packify.network",
    "verify": "packify.laws",
    "Verification": "packify.laws",
    **dict.fromkeys(("Budget", "Fit", "Planner", "Sweep", "budget", "fit", "sweep"), "packify.budgets"),
    "save": "packify.artefact",
    "save_member": "packify.artefact",
    "load": "packify.artefact",
    "load_reference": "packify.sources",
    "Spec": "packify.spec",
    "Report": "packify.report",
    "Rule": "packify.rules.rule",
    **dict.fromkeys(
        ("PackifyError", "SpecError", "SourceError", "TraceError", "PackError", "LawBroken", "ArtefactError", "BudgetError"),
        "packify.errors",
    ),
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  the keys of that table are strings


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'packify' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
