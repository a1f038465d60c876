"""What a person sees: why a phase began, and the summary."""

import re

from dsrl.runs.lines import read_lines


def test_a_run_says_why_a_phase_began_and_what_sampling_it_changes(fit, capsys):
    begins = "phase2.start={name: threshold, metric: response/length_mean, above: 1}"
    module = fit("objective=nsr_prerl", "+phase2=grpo", begins, "phase2.sampling.temperature=0.8", "validation.every=2")
    shown = " ".join(capsys.readouterr().out.split())
    iterations = [line for line in rows(module) if "phase" in line]
    length = iterations[0]["response/length_mean"]
    reason = f"response/length_mean is {length:.4g}, above 1"
    assert f"phase 2: grpo from iteration 1, lr 0.0001, sampling.temperature 1.0 → 0.8, since {reason}" in shown
    assert [line.get("handoff_reason") for line in iterations] == [None, reason, None, None]
    assert re.search(r"first prompt \(\d+ tokens\): \| <bos>\d+\+\d+= ", shown)
    assert " left" in shown and "tok/s" in shown
    assert all(text in shown for text in ("best of phase 1, nsr_prerl", "handoff to grpo", "best of phase 2, grpo"))


def rows(module):
    return read_lines(module.config.run_dir / "metrics.jsonl")
