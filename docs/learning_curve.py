"""Draws runs: `python docs/learning_curve.py PICTURE METRIC RUN [RUN ...]` (needs matplotlib).

The mean reward of training (lines) and of validation sets (dots), and beside it METRIC. The pictures here:

    python docs/learning_curve.py docs/img/run.png thoughts/reflection/per_answer "seed 0" "seed 1" "seed 2"
    python docs/learning_curve.py docs/img/smollm2_reasoning_gym.png response/length_mean smollm2
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

picture, metric, *folders = sys.argv[1:]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
for folder in folders:
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "reward/mean" in line]
    validation = [line for line in lines if "reward/mean" not in line]
    (curve,) = left.plot([line["reward/mean"] for line in training], alpha=0.6, label=Path(folder).name)
    averages = [key for key in validation[0] if "avg@" in key]
    for key, mark in zip(averages, "os^vD", strict=False):
        # in files of version 0.2 the number of iterations before a validation is its `iteration`
        points = [(line.get("iterations_done", line["iteration"]), line[key]) for line in validation]
        label = key.split("/")[1] if len(averages) > 1 else None
        left.plot(*zip(*points, strict=True), mark, color=curve.get_color(), markersize=4, label=label)
    right.plot([line[metric] for line in training], color=curve.get_color(), alpha=0.8)
    handoff = next((line["iteration"] for line in training if line["phase"] == 2), None)
if handoff is not None:
    for axes in (left, right):
        axes.axvspan(-0.5, handoff - 0.5, color="tab:purple", alpha=0.12)
        axes.text(handoff - 0.3, axes.get_ylim()[0], " grpo", fontsize=8, va="bottom")
left.set(title="mean reward (line: training, dots: held out)", xlabel="iteration", ylim=(0, 1))
right.set(title=metric, xlabel="iteration")
left.legend(fontsize=8)
figure.savefig(picture, dpi=110)
