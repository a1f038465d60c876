"""What a person sees: hints, why a phase began, the summary."""

import io

import pytest
from rich.console import Console

from dsrl.runs.lines import read_lines
from dsrl.runs.progress import hints
from dsrl.runs.summary import summary_table

WELL = {"response/truncated": 0.5, "group/all_wrong": 0.9, "group/all_right": 0.0}


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({}, []),
        (
            {"response/truncated": 0.68},
            ["68% of the responses were cut off at sampling.max_new_tokens=16"],
        ),
        ({"group/all_wrong": 1.0}, ["every response is wrong"]),
        ({"group/all_right": 1.0}, ["every response is right"]),
        ({"reward/failed": 0.0, "reward/mine/failed": 0.81}, ["the reward function failed on 81.0% of the responses"]),
    ],
)
def test_hints_say_what_explains_an_iteration_without_signal(metrics, told):
    found = hints({**WELL, **metrics}, 16)
    assert [text[: len(begin)] for text, begin in zip(found.values(), told, strict=True)] == told
    assert all(text.endswith(f"({key})") for key, text in found.items())


def drawn(table):
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def test_the_summary_has_each_phase_before_at_its_end_and_at_its_best():
    rewards = [0.1, 0.2, 0.3, 0.4, 0.5]
    lines = [
        {"iteration": iteration, "phase": 1 + (iteration > 1), "objective": "grpo", "reward/mean": reward}
        for iteration, reward in enumerate(rewards)
    ]
    lines += [
        {"iteration": done - 1, "iterations_done": done, "val/x/avg@2": value, "val/x/pass@2": 1.0}
        for done, value in ((0, 0.11), (2, 0.22), (3, 0.44), (5, 0.33))
    ]
    *_, one, two, _ = drawn(summary_table(lines)).splitlines()
    assert [cell.strip() for cell in one.split("│")[1:-1]] == [
        "1 grpo",
        "0 to 1",
        "0.100 → 0.200",
        "0.110 → 0.220",
        "0.220 after 2",
    ]
    assert [cell.strip() for cell in two.split("│")[1:-1]] == [
        "2 grpo",
        "2 to 4",
        "0.300 → 0.500",
        "0.220 → 0.330",
        "0.440 after 3",
    ]
    assert summary_table([line for line in lines if "reward/mean" not in line]) is None


def test_a_run_says_why_a_phase_began_and_what_sampling_it_changes(fit, capsys):
    begins = "phase2.start={name: threshold, metric: response/length_mean, above: 1}"
    module = fit("objective=nsr_prerl", "+phase2=grpo", begins, "phase2.sampling.temperature=0.8", "validation.every=2")
    shown = " ".join(capsys.readouterr().out.split())
    iterations = [line for line in rows(module) if "phase" in line]
    length = iterations[0]["response/length_mean"]
    reason = f"response/length_mean is {length:.4g}, above 1"
    assert f"phase 2: grpo from iteration 1, lr 0.0001, sampling.temperature 1.0 → 0.8, since {reason}" in shown
    assert [line.get("handoff_reason") for line in iterations] == [None, reason, None, None]
    assert " left" in shown and "tok/s" in shown
    assert "by phase" in shown and "2 grpo" in shown


def rows(module):
    return read_lines(module.config.run_dir / "metrics.jsonl")


def test_what_holds_on_is_said_once(fit, capsys):
    fit("sampling.max_new_tokens=4", "validation.every=0", "iterations=3")
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("were cut off at sampling.max_new_tokens=4") == 1
