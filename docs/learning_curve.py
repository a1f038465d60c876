"""Draws docs/img/run.png from run folders: `python docs/learning_curve.py RUN [RUN ...]` (needs matplotlib)."""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
for folder in sys.argv[1:]:
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "reward/mean" in line]
    validation = [
        (line["iteration"], next(v for k, v in line.items() if "avg@" in k))
        for line in lines[:]
        if "reward/mean" not in line
    ]
    (curve,) = left.plot([line["reward/mean"] for line in training], alpha=0.6, label=Path(folder).name)
    left.plot(*zip(*validation, strict=True), "o", color=curve.get_color(), markersize=4)
    right.plot([line["response/reflections"] for line in training], color=curve.get_color(), alpha=0.8)
    handoff = next((line["iteration"] for line in training if line["phase"] == 2), None)
if handoff is not None:
    for axes in (left, right):
        axes.axvspan(-0.5, handoff - 0.5, color="tab:purple", alpha=0.12)
        axes.text(handoff - 0.3, axes.get_ylim()[0], " grpo", fontsize=8, va="bottom")
left.set(title="right answers (line: training, dots: held out)", xlabel="iteration", ylim=(0, 1))
right.set(title="reconsiderations an answer", xlabel="iteration")
left.legend(fontsize=8)
figure.savefig(Path(__file__).parent / "img" / "run.png", dpi=110)
