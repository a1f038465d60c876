import json

import pytest
from rich.console import Console

from dsrl.evaluation import EvaluationConfig, evaluate


@pytest.fixture
def evaluated(tmp_path):
    """Evaluate the embedded model on few questions; returns the folder, its results, and what was printed."""

    def run(*overrides, folder="evaluation"):
        line = [*overrides]
        if not any(text.startswith("resume=") for text in line):
            line = [f"run_dir={tmp_path / folder}", *line]
        config = EvaluationConfig.of(line)
        console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
        evaluate(config, console)
        results = json.loads((config.run_dir / "results.json").read_text())
        return config.run_dir, results, console.export_text()

    return run
