"""What every verifier does: rewards in the order of the rollouts, named components, errors in the user's words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dsrl.errors import ConfigError, DSRLError
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers import Verifier, column_of, compute_rewards, extracted_answers_of, ground_truth_of
from dsrl.verifiers.verifier import check_verifier, close_all


@dataclass(kw_only=True)
class Length(Verifier):
    """Scores what no two responses share."""

    def score_one(self, response: str, prompt: Prompt) -> float:
        return len(response) + 10 * prompt.position


@dataclass(kw_only=True)
class Plain:
    """As one from outside: .score alone."""

    rewards: Tensor

    def score(self, rollouts: Rollouts) -> Tensor:
        return self.rewards


def test_rewards_line_up_with_prompts_and_responses(make_rollouts) -> None:
    rollouts = make_rollouts([["a", "aa", "aaa"], ["", "aaaa", "a"]], ["x", "y"])
    rewards, components = compute_rewards(Length(), rollouts)
    assert rewards.dtype == torch.float32
    assert rewards.tolist() == [[1, 2, 3], [10, 14, 11]]
    assert components == {}


def test_components_come_with_the_rewards(make_rollouts) -> None:
    class Doubled(Length):
        def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
            length = self.score(rollouts)
            return 2 * length, {"length": length.double()}

    rewards, components = compute_rewards(Doubled(), make_rollouts([["a", "aa"]], ["x"]))
    assert rewards.tolist() == [[2, 4]]
    assert components["length"].tolist() == [[1, 2]]
    assert components["length"].dtype == torch.float32


def test_score_alone_is_enough(make_rollouts) -> None:
    rewards, components = compute_rewards(Plain(rewards=torch.tensor([[1, 0]])), make_rollouts([["a", "b"]], ["x"]))
    assert rewards.tolist() == [[1.0, 0.0]]
    assert rewards.dtype == torch.float32
    assert components == {}


def test_what_a_verifier_has_beside_score_is_used_without_the_base_class(make_rollouts) -> None:
    class More(Plain):
        closed = 0

        def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
            return self.rewards, {"part": self.rewards / 2}

        def extract_answer(self, response: str) -> str:
            return response.upper()

        def check(self) -> list[str]:
            return ["a file is missing"]

        def close(self) -> None:
            self.closed += 1

    plain, more, rollouts = (
        Plain(rewards=torch.ones(1, 2)),
        More(rewards=torch.ones(1, 2)),
        make_rollouts([["a ", "b"]], [""]),
    )
    assert compute_rewards(more, rollouts)[1]["part"].tolist() == [[0.5, 0.5]]
    assert (extracted_answers_of(plain, rollouts), extracted_answers_of(more, rollouts)) == (["a", "b"], ["A ", "B"])
    assert (check_verifier(plain), check_verifier(more)) == ([], ["a file is missing"])
    close_all([plain, more])
    assert more.closed == 1


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (torch.zeros(2), r"Plain: rewards must be a tensor \[B, G\] = \[1, 2\], not \[2\]"),
        ([[0.0, 1.0]], "not list"),
        (torch.tensor([[0.0, float("nan")]]), "not all finite"),
    ],
)
def test_what_a_verifier_may_not_return(make_rollouts, rewards, message: str) -> None:
    with pytest.raises(DSRLError, match=message):
        compute_rewards(Plain(rewards=rewards), make_rollouts([["a", "b"]], ["x"]))


def test_scores_that_are_too_few_are_refused(make_rollouts) -> None:
    class Short(Length):
        def score_all(self, responses, prompts) -> list[float]:
            return [0.0]

    with pytest.raises(DSRLError, match="Short: 1 scores for 2 responses"):
        Short().score(make_rollouts([["a", "b"]], ["x"]))


def test_ground_truth_is_stripped_and_a_missing_one_names_the_row(make_rollouts) -> None:
    stripped, missing = make_rollouts([["a"], ["a"]], [" 42\n", "  "]).prompts
    assert ground_truth_of(stripped) == "42"
    with pytest.raises(ConfigError, match=r"row of data source 'set' has no ground truth.*'question 1'"):
        ground_truth_of(missing)


@pytest.mark.parametrize("structured", [{"target": 24}, [{"input": "1", "output": "2"}]])
def test_a_ground_truth_with_parts_is_not_compared_as_text(make_rollouts, structured) -> None:
    prompt = dataclasses.replace(make_rollouts([["x"]], ["text"]).prompts[0], structured_ground_truth=structured)
    with pytest.raises(ConfigError, match="is not text but .*verifier=function can read it. Its question begins"):
        ground_truth_of(prompt)
    listed = dataclasses.replace(prompt, structured_ground_truth=["1", "2"], ground_truth="1, 2")
    assert ground_truth_of(listed) == "1, 2"


def test_a_component_may_be_not_applicable_but_no_name_of_the_whole(make_rollouts) -> None:
    class Named(Length):
        name = "part"
        value = float("nan")

        def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
            length = self.score(rollouts)
            return length, {self.name: torch.full_like(length, self.value)}

    verifier, rollouts = Named(), make_rollouts([["a"]], ["x"])
    assert compute_rewards(verifier, rollouts)[1]["part"].isnan().all()
    verifier.value = float("inf")
    with pytest.raises(DSRLError, match="part are not all finite"):
        compute_rewards(verifier, rollouts)
    verifier.name, verifier.value = "mean", 1.0
    with pytest.raises(DSRLError, match="a component cannot be called mean"):
        compute_rewards(verifier, rollouts)


def test_a_column_is_the_rows_or_its_extra_infos() -> None:
    extra = {"level": 3, "extra_info": {"level": 4, "hint": "x"}}
    prompt = Prompt(position=0, text="?", token_ids=(1,), data_source="set", extra=extra)
    assert (column_of(prompt, "level"), column_of(prompt, "hint")) == (3, "x")
    with pytest.raises(ConfigError, match="'set' has no column 'tests'; it has level, extra_info, level, hint"):
        column_of(prompt, "tests")
