"""Every example runs to its end, with small sizes, and does what it says."""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = [
    "iterations=2",
    "prompts_per_iteration=4",
    "responses_per_prompt=4",
    "validation.every=0",
    "logger=none",
]
TWO_PHASES = [*SMALL, "phase2.start=1"]


@pytest.fixture
def example(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs an example as a script does, in a folder of its own; what it prints."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_ten_lines(example) -> None:
    assert len((EXAMPLES / "ten_lines.py").read_text().splitlines()) <= 11
    lines = example("ten_lines.py", *TWO_PHASES).splitlines()
    assert [line.split()[:2] for line in lines if line[:1].isdigit()] == [["0", "nsr_prerl"], ["1", "grpo"]]


def test_my_objective(example) -> None:
    printed = example("my_objective.py", *TWO_PHASES)
    assert "0 slips kept " in printed and "1 grpo kept 1.00" in printed


def test_my_verifier(example) -> None:
    assert "[1.0, 0.25, 0.0]" in example("my_verifier.py", *SMALL)


def test_own_trainer(example) -> None:
    printed = example("own_trainer.py", *TWO_PHASES)
    assert "iteration 0: phase 1, reward " in printed and "iteration 1: phase 2, reward " in printed


def test_loss_alone(example) -> None:
    first, last = (float(text) for text in example("loss_alone.py").replace(",", "").split() if text[:1].isdigit())
    assert first < 0.6 and last > 0.9


class Judging(BaseHTTPRequestHandler):
    """An API like OpenAI's; its model takes what asks a question for a reflection."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        said = "Reflection." if asked.endswith("?") else "I would say: execution"
        answer = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def judge_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judging)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_my_judge(judge_url) -> None:
    scope = runpy.run_path(str(EXAMPLES / "my_judge.py"), run_name="examples.my_judge")
    texts = ["2 + 2 = 5.\n\nIs it?\n\nNo, 4.", "4", ""]
    found = scope["Judge"](url=judge_url).split_all(texts)
    assert [[(texts[i][s:e], name) for s, e, name in own] for i, own in enumerate(found)] == [
        [("2 + 2 = 5.", "execution"), ("Is it?", "reflection"), ("No, 4.", "execution")],
        [("4", "execution")],
        [],
    ]


def test_the_notebook(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "train_and_plot.ipynb", as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    validates = ["validation.every=1", "data.val_size=2"]
    parameters.source = f"overrides = {[*TWO_PHASES[:3], 'phase2.start=1', *validates]}"
    folder = {"metadata": {"path": str(tmp_path)}}
    runner = client.NotebookClient(notebook, timeout=900, resources=folder)
    runner.execute(env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert (tmp_path / "runs").is_dir()
