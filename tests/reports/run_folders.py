"""Run folders made by hand, with numbers that tests know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "objective": {"name": "nsr_prerl", "space": "marginal", "keep": "negative", "kl": {"coefficient": 0.0}},
    "phase2": {"objective": {"name": "grpo", "space": "conditional"}, "start": 3, "lr": 1e-4},
    "model": {"name": "tiny", "dtype": "float32"},
    "data": {"name": "arithmetic", "val_size": 100},
    "verifier": {"name": "exact"},
    "optimizer": {"lr": 1e-4},
    "iterations": 6,
    "prompts_per_iteration": 2,
    "responses_per_prompt": 2,
    "seed": 0,
}


def sample(iteration: int, response: str = "1+2=?3", **fields: Any) -> dict[str, Any]:
    """A line of samples.jsonl."""
    given = {
        "iteration": iteration,
        "phase": 1,
        "objective": "nsr_prerl",
        "prompt": "1+2=",
        "response": response,
        "extracted_answer": "3",
        "ground_truth": "3",
        "reward": 1.0,
        "components": {},
        "length": 6,
        "finish_reason": "stop",
        "data_source": "arithmetic",
        "thoughts": {"reflection": [response.index("?"), response.index("?") + 1] if "?" in response else []},
    }
    return given | fields


def with_tokens(line: dict[str, Any]) -> dict[str, Any]:
    """The line with its tokens: each a letter, of log-probability -0.5 after the question and -2 without it. The first
    is pulled down in P(y), and the second is clipped."""
    tokens = list(line["response"])
    numbers = {"conditional": [-0.5] * len(tokens), "marginal": [-2.0] * len(tokens)}
    moved = {
        "changes": {"conditional": [0.01] * len(tokens), "marginal": [-0.02] * len(tokens)},
        "pulls": {"marginal": [-0.5, *[0.0] * (len(tokens) - 1)]},
        "clipped": {"marginal": [1]},
    }
    return line | {"tokens": tokens, "logprobs": numbers, "entropies": numbers} | moved


def iteration(at: int, reward: float, **fields: Any) -> dict[str, Any]:
    """A line of metrics.jsonl: phase 2 begins with iteration 3."""
    phase, objective = (1, "nsr_prerl") if at < 3 else (2, "grpo")
    times = {"time/sample": 2.0, "time/update": 1.0, "time/iteration": 4.0}
    numbers = {"reward/mean": reward, "loss": 0.1, "lr": 1e-4, "grad_norm": 0.5, "tokens/sampled": 100.0}
    return {"iteration": at, "phase": phase, "objective": objective, **numbers, **times, **fields}


def validation(done: int, average: float, pass_2: float) -> dict[str, Any]:
    """A line of a validation with k=2."""
    set_name = "val/arithmetic"
    return {
        "iteration": done,
        f"{set_name}/avg@2": average,
        f"{set_name}/pass@1": average,
        f"{set_name}/pass@2": pass_2,
    }


def warning(at: int, monitor: str, *, phase: int = 1) -> dict[str, Any]:
    """A line of warnings.jsonl."""
    said = {"figure": f"{monitor}: figure", "why": "Why \x1b[31m it matters.", "remedy": "What to do."}
    return {"iteration": at, "phase": phase, "monitor": monitor, "action": "warn", "metric": "x", "value": 0.1, **said}


def write_lines(path: Path, lines: list[Any]) -> None:
    """Write a file of JSON lines; a text among them as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")


def evaluation_folder(folder: Path, rewards: dict[str, list[float]], sources: dict[str, str] | None = None) -> Path:
    """An evaluation of the set `math`: of each question its rewards, and its data source, `math` unless it is given."""
    folder.mkdir(parents=True)
    lines = []
    for number, (prompt, own) in enumerate(rewards.items()):
        for index, reward in enumerate(own):
            response = f"{folder.name} answers {prompt} {'rightly' if reward else 'wrongly'}, {index}"
            asked = {"set": "math", "question": number, "sample": index, "prompt": prompt}
            source = (sources or {}).get(prompt, "math")
            lines.append(sample(0, response, reward=reward, data_source=source) | asked)
    for line in lines:
        for key in ("iteration", "phase", "objective"):
            del line[key]
    write_lines(folder / "samples.jsonl", lines)
    average = sum(map(sum, rewards.values())) / len(lines)
    (folder / "results.json").write_text(json.dumps({"results": {"math": {"k": 2, "avg@2": average}}}))
    (folder / "config.yaml").write_text("k: 2\n")
    return folder


def run_folder(folder: Path, *, rewards: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), **config: Any) -> Path:
    """A run of two phases with a validation before it and one after it, and two responses of each iteration."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | config, sort_keys=False))
    lines = [iteration(at, reward) for at, reward in enumerate(rewards)]
    write_lines(folder / "metrics.jsonl", [validation(0, 0.2, 0.3), *lines, validation(len(rewards), 0.6, 0.8)])
    samples = [
        sample(
            at,
            phase=line["phase"],
            question=at % 2,
            response_number=number,
            reward=float(number),
            prompt=f"{at % 2}+2=",
        )
        for at, line in enumerate(lines)
        for number in (0, 1)
    ]
    write_lines(folder / "samples.jsonl", [with_tokens(line) for line in samples])
    start = {
        "iteration": 0,
        "command": "python train.py objective=nsr_prerl +phase2=grpo",
        "versions": {"torch": "2.13"},
    }
    write_lines(folder / "starts.jsonl", [start])
    return folder
