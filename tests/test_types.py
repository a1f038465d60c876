"""The records: groups of responses put in the place of others."""

import dataclasses

import pytest
import torch

from dsrl.errors import DSRLError
from dsrl.types import Prompt, Rollouts


def rollouts(*groups):
    """Of each prompt, its responses as token sequences; the log-probability of token t is -t."""
    responses = [response for group in groups for response in group]
    width = max(map(len, responses), default=0)
    tokens = torch.tensor([[*response, *[0] * (width - len(response))] for response in responses], dtype=torch.long)
    tokens = tokens.view(len(responses), width)
    return Rollouts(
        prompts=[Prompt(position=index, text=str(group), token_ids=(1,)) for index, group in enumerate(groups)],
        tokens=tokens,
        mask=tokens > 0,
        logprobs=-tokens.float(),
        texts=[str(response) for response in responses],
        finish_reasons=["stop" if len(response) < 3 else "length" for response in responses],
    )


def test_groups_are_replaced_whole():
    old = rollouts([[1], [2, 3]], [[4, 5, 6], [7]], [[8], [9]])
    found = old.replacing([1, 2], rollouts([[1], [2]], [[3], [4, 5]]))
    expected = rollouts([[1], [2, 3]], [[1], [2]], [[3], [4, 5]])
    assert found.tokens.tolist() == [[1, 0], [2, 3], [1, 0], [2, 0], [3, 0], [4, 5]]  # as long as the longest now
    for name in ("tokens", "mask", "logprobs"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert (found.texts, found.finish_reasons) == (expected.texts, expected.finish_reasons)
    assert [prompt.text for prompt in found.prompts] == [prompt.text for prompt in expected.prompts]
    assert old.tokens[2].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: {"texts": whole.texts[:-1]},
        lambda whole: {"finish_reasons": whole.finish_reasons[:-1]},
        lambda whole: {"mask": whole.mask[:, :1]},
        lambda whole: {"logprobs": whole.logprobs[0]},
        lambda whole: {"prompts": whole.prompts * 2},
    ],
    ids=["texts", "finish_reasons", "mask", "logprobs", "prompts"],
)
def test_parts_of_other_responses_are_an_error(change):
    whole = rollouts([[1], [2, 3], [4]])
    with pytest.raises(DSRLError, match=r"rollouts of \d prompts: tokens, mask and logprobs \[N, T\] are"):
        dataclasses.replace(whole, **change(whole))


def test_longer_ones_make_room():
    found = rollouts([[1]], [[2]]).replacing([0], rollouts([[3, 4, 5]]))
    assert found.tokens.tolist() == [[3, 4, 5], [2, 0, 0]] and found.mask.sum().item() == 4
    assert found.finish_reasons == ["length", "stop"]


def test_no_groups_change_nothing():
    old = rollouts([[1]])
    assert old.replacing([], rollouts()) is old
