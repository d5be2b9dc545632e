"""Every error a user can meet. Each says where, what was found, why that is a problem and what to do next."""

from __future__ import annotations

from typing import Any


class PackifyError(Exception):
    """Base of all packify errors.

    Args:
        where: the node, file, argument or name at fault.
        found: what was there (with shapes or values).
        why: why that cannot work.
        fix: what to do next, if possible a line that runs.
    """

    def __init__(self, where: str, *, found: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(where, found, why, fix)
        self.where = where
        self.found = found
        self.why = why
        self.fix = fix

    def __reduce__(self) -> Any:
        """An error crosses from one process to another whole."""
        return _made, (type(self), self.where, self.found, self.why, self.fix)

    def __str__(self) -> str:
        parts = (("", self.where), ("found: ", self.found), ("why: ", self.why), ("what to do: ", self.fix))
        return "\n  ".join(label + text for label, text in parts if text)


def _made(kind: type[PackifyError], where: str, found: str, why: str, fix: str) -> PackifyError:
    return kind(where, found=found, why=why, fix=fix)


class SpecError(PackifyError, ValueError):
    """alpha, M, gamma or another argument has a value that no packed network can have."""


class SourceError(PackifyError):
    """A reference network cannot be found or built from the name that was given."""


class TraceError(PackifyError):
    """The reference cannot be recorded as a graph."""


class PackError(PackifyError):
    """A traced network cannot be slimmed or packed without breaking a law."""


class GraphBroken(PackifyError):
    """A pass of packify's own has left a graph that the next one may not take: a defect of packify's, or of a rule."""


class LawBroken(PackifyError):
    """A packed network breaks one of the laws; `where` names the node."""


class ArtefactError(PackifyError):
    """An artefact is missing, damaged, of another version, or does not fit its network."""


class ExportError(PackifyError):
    """A network cannot be written in a format, or the file does not give the network's numbers."""


class AverageWarning(UserWarning):
    """Nothing says how the members' outputs are to be averaged, so their mean is taken."""


class BudgetError(PackifyError, ValueError):
    """A limit or a sweep that cannot be understood or met."""


class DataError(PackifyError, ValueError):
    """Outputs, targets, labels or a loader that do not fit each other, or that hold nothing that can be measured."""
