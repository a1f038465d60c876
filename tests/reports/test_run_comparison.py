"""Runs side by side: what is one configuration, and how configurations compare."""

import pytest
from run_folders import run_folder

from dsrl.reports.comparison import compared, configurations_of, differences_of, mean_curves, responses_to_reach
from dsrl.reports.reading import read_run

GRPO = {"objective": {"name": "grpo"}, "phase2": None}


@pytest.fixture
def runs(tmp_path):
    """Seeds 0 and 1 of two phases, then of grpo alone, whose reward is lower by 0.1 and 0.2."""
    rewards = {0: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1: (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}
    folders = [run_folder(tmp_path / f"two{seed}", rewards=own, seed=seed) for seed, own in rewards.items()]
    for (seed, own), less in zip(rewards.items(), (0.1, 0.2), strict=True):
        lower = tuple(value - less for value in own)
        folders.append(run_folder(tmp_path / f"one{seed}", rewards=lower, seed=seed, run_dir=f"runs/{seed}", **GRPO))
    return [read_run(folder) for folder in folders]


def test_seeds_and_folders_make_no_other_configuration(runs):
    groups = configurations_of(runs)
    assert [(own.label, own.runs) for own in groups] == [("nsr_prerl → grpo", [0, 1]), ("grpo", [2, 3])]


def test_a_run_without_config_is_by_itself(runs):
    runs[1].config = {}
    assert [own.runs for own in configurations_of(runs)] == [[0], [1], [2, 3]]


def test_differences_name_the_keys_and_the_values(runs):
    found = dict(differences_of([runs[0], runs[2]]))
    assert found["objective.name"] == ["nsr_prerl", "grpo"]
    assert found["phase2.start"] == [3, None]
    assert not {"seed", "run_dir", "phase2", "model.name"} & found.keys()


def test_a_mean_curve_has_the_interval_over_seeds(runs):
    curve = mean_curves(runs, configurations_of(runs)[0])["reward/mean"]
    assert curve["x"] == [0, 1, 2, 3, 4, 5]
    assert curve["mean"] == pytest.approx([0.15, 0.25, 0.35, 0.45, 0.55, 0.65])
    assert curve["high"][0] - curve["mean"][0] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert mean_curves(runs, configurations_of(runs)[0])["val/arithmetic/avg@2"]["x"] == [0, 6]


def test_final_rewards_are_compared_by_seed(runs):
    row = compared(runs, configurations_of(runs))[0]
    assert row["measure"] == "reward, last 5 iterations"
    first, second = row["cells"]
    assert (first["mean"], second["mean"]) == (pytest.approx(0.45), pytest.approx(0.3))
    assert second["difference"] == pytest.approx(-0.15)
    assert second["difference_half"] == pytest.approx(12.706 * 0.05, rel=1e-3)  # of -0.1 and -0.2


def test_responses_to_a_level_count_those_of_the_iterations_up_to_it(runs):
    assert responses_to_reach(runs[0], 0.3) == 16  # iterations 1, 2 and 3 have 0.3 on average; 4 responses in each
    assert responses_to_reach(runs[0], 0.9) is None
    row = compared(runs, configurations_of(runs))[-1]
    assert row["measure"] == "responses until reward 0.285"
    assert [cell["mean"] for cell in row["cells"]] == [14, 20]
