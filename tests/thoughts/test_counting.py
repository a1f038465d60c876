"""Numbers of thoughts against those worked out by hand."""

from dataclasses import dataclass

import pytest
import torch

from dsrl.errors import DSRLError
from dsrl.loop.metrics import add_metrics, reduce_metrics
from dsrl.thoughts import Pattern, Thought, Thoughts, spans_of, thought_metrics

PATTERN = Pattern(classes={"doubt": "w", "turn": "t"})
TEXTS = ["w.w", "", "wt", "t"]
REWARDS = torch.tensor([[1.0, 0.0], [0.5, 1.0]])  # 0.5 is not right
LENGTHS = torch.tensor([10, 2, 4, 4])


def test_spans_have_every_class():
    assert spans_of(PATTERN, TEXTS) == [
        {"doubt": [0, 1, 2, 3], "turn": []},
        {"doubt": [], "turn": []},
        {"doubt": [0, 1], "turn": [1, 2]},
        {"doubt": [], "turn": [0, 1]},
    ]


def test_an_iteration():
    found = thought_metrics(spans_of(PATTERN, TEXTS), REWARDS, LENGTHS)
    expected = {
        "thoughts/doubt/per_answer": 3 / 4,
        "thoughts/doubt/per_1000_tokens": 150.0,
        "thoughts/doubt/share": 2 / 4,
        "thoughts/doubt/right_with": 1 / 2,
        "thoughts/doubt/right_without": 1 / 2,
        "thoughts/turn/per_answer": 2 / 4,
        "thoughts/turn/per_1000_tokens": 100.0,
        "thoughts/turn/share": 2 / 4,
        "thoughts/turn/right_with": 1 / 2,
        "thoughts/turn/right_without": 1 / 2,
    }
    assert reduce_metrics(found) == pytest.approx(expected)
    assert reduce_metrics(add_metrics(found, found)) == pytest.approx(expected)  # of two ranks alike


def test_ranks_add_up():
    """Answers 0 and 1 on one rank, 2 and 3 on the other; a third has none."""
    spans = spans_of(PATTERN, TEXTS)
    parts = [thought_metrics(spans[i : i + 2], REWARDS[i // 2], LENGTHS[i : i + 2]) for i in (0, 2)]
    nothing = thought_metrics([], torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    whole = reduce_metrics(thought_metrics(spans, REWARDS, LENGTHS))
    assert nothing == {} and reduce_metrics(add_metrics(*parts, nothing)) == whole


def test_what_is_not_known_is_left_out():
    found = reduce_metrics(thought_metrics(spans_of(PATTERN, ["w", "w"]), torch.ones(1, 2), torch.tensor([1, 1])))
    assert "thoughts/doubt/right_without" not in found and "thoughts/turn/right_with" not in found
    assert (found["thoughts/doubt/right_with"], found["thoughts/turn/right_without"]) == (1.0, 1.0)
    assert found["thoughts/turn/per_answer"] == 0.0


@dataclass(kw_only=True)
class Wrong(Thoughts):
    """Finds what it is told to."""

    found: tuple

    @property
    def class_names(self):
        return ("a",)

    def split(self, text):
        return [Thought(*one) for one in self.found]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (((0, 4, "a"),), r"in a response of 3 characters; thoughts must be in order"),
        (((1, 2, "a"), (0, 1, "a")), "thoughts must be in order, without overlap"),
        (((0, 2, "a"), (1, 3, "a")), "thoughts must be in order, without overlap"),
        (((0, 1, "b"),), r"found a thought of class 'b'; its classes are \('a',\)"),
    ],
)
def test_what_a_plugin_gets_wrong(found, message):
    with pytest.raises(DSRLError, match=message):
        spans_of(Wrong(found=found), ["abc"])


def test_a_judge_that_forgets_a_response():
    class Forgets(Wrong):
        def split_all(self, texts):
            return []

    with pytest.raises(DSRLError, match="gave the thoughts of 0 responses, not of 2"):
        spans_of(Forgets(found=()), ["a", "b"])
