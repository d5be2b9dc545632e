"""The lowest versions that pyproject.toml allows, as pip's constraints: ``torch==2.11`` for ``torch>=2.11``."""

import re
import sys
import tomllib
from pathlib import Path

_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*>=\s*(?P<version>[0-9][0-9A-Za-z.]*)")


def lower_bounds(pyproject: str) -> list[str]:
    """One constraint for every requirement of the project and its extras.

    Raises:
        SystemExit: a requirement has no lower bound, or more than one.
    """
    project = tomllib.loads(pyproject)["project"]
    requirements = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    constraints = []
    for requirement in requirements:
        if re.match(rf"{re.escape(project['name'])}\[", requirement):
            continue  # an extra of the project's own, listed itself
        bound = _BOUND.fullmatch(requirement)
        if bound is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no single lower bound, name>=version")
        constraints.append(f"{bound['name']}=={bound['version']}")
    return constraints


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.write("\n".join(lower_bounds(text)) + "\n")
