from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from packify.cli import app


def test_ops() -> None:
    plain = CliRunner().invoke(app, ["ops"])
    assert plain.exit_code == 0, plain.output
    assert "conv2d" in plain.stdout
    document: dict[str, Any] = json.loads(CliRunner().invoke(app, ["ops", "--json"]).stdout)
    assert "conv2d" in {name for names in document["families"].values() for name in names}
    assert sum(map(len, document["families"].values())) == document["operators"]
