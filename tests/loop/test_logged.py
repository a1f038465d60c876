"""Which responses are logged, and what their tokens are as text."""

from types import SimpleNamespace

import pytest
import torch

from dsrl.config.compose import compose
from dsrl.loop.logged import logged_rows, token_texts
from dsrl.models.loading import load_tokenizer
from dsrl.types import Prompt, Rollouts


def rollouts(prompts, size):
    none = torch.zeros(prompts * size, 0)
    return Rollouts(
        prompts=[Prompt(position=position, text="", token_ids=()) for position in range(prompts)],
        tokens=none.long(),
        mask=none.bool(),
        logprobs=none,
        texts=[""] * len(none),
        finish_reasons=["stop"] * len(none),
    )


@pytest.mark.parametrize(
    ("prompts", "size", "count", "rows"),
    [
        (4, 2, 4, [0, 1, 4, 5]),  # the groups of the first and of the third prompt
        (4, 2, 3, [0, 1, 4]),  # the second group is cut short
        (4, 8, 2, [0, 1]),
        (2, 2, 100, [0, 1, 2, 3]),
        (2, 2, 0, []),
        (0, 0, 4, []),  # a rank without prompts
    ],
)
def test_logged_responses_are_whole_groups_over_the_whole_batch(prompts, size, count, rows):
    assert logged_rows(rollouts(prompts, size), count) == rows


def test_the_texts_of_tokens_add_up_to_the_response():
    tokenizer = load_tokenizer(compose([]).model)
    ids = tokenizer("12+3=#15").input_ids
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == tokenizer.decode(ids)


class Bytes(SimpleNamespace):
    """A tokenizer whose tokens are the bytes of UTF-8."""

    def decode(self, ids, **options):
        return bytes(ids).decode("utf-8", "replace")


def test_a_character_of_several_tokens_is_the_text_of_its_last():
    assert token_texts(Bytes(), list("aé€b😀".encode())) == ["a", "", "é", "", "", "€", "b", "", "", "", "😀"]


def test_tokens_that_are_no_characters_are_shown_as_such():
    texts = token_texts(Bytes(), [0x61, *[0xFF] * 9, 0x62])
    assert "".join(texts) == "a" + "\N{REPLACEMENT CHARACTER}" * 9 + "b"
