"""Which prompts come when, on which rank: functions of (seed, iteration) and of nothing that ran before."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from dsrl.config.schema import ModelConfig
from dsrl.data import DataSource, PromptEncoder, Row
from dsrl.data.datamodule import PromptData
from dsrl.data.iteration_batches import IterationBatches, OneIteration
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer

ENCODER = PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")), max_tokens=8)


def rows_of(count):
    return [
        Row(question=f"{i}+1=", ground_truth=str(i + 1), data_source="sums", extra={"index": i}) for i in range(count)
    ]


def batches(count, batch, seed=0, shard=(0, 1)):
    return IterationBatches(rows_of(count), ENCODER, batch=batch, seed=seed, shard=shard)


def indices(prompts):
    return [prompt.extra["index"] for prompt in prompts]


def positions(prompts):
    return [prompt.position for prompt in prompts]


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 3), (7, 7), (5, 12), (1, 4)])
def test_every_row_once_a_pass_also_across_its_boundary(count, batch):
    data = batches(count, batch)
    drawn = [index for iteration in range(4 * count) for index in indices(data[iteration])]
    assert len(drawn) == 4 * count * batch
    for start in range(0, len(drawn), count):
        assert sorted(drawn[start : start + count]) == list(range(count))


def test_each_pass_has_an_order_of_its_own():
    data = batches(20, 20)
    orders = [tuple(indices(data[turn])) for turn in range(5)]
    assert len(set(orders)) == 5 and tuple(range(20)) not in orders


def test_the_prompts_of_an_iteration_depend_on_seed_and_iteration_alone():
    data = batches(10, 4)
    expected = {iteration: indices(data[iteration]) for iteration in range(9)}
    fresh = batches(10, 4)
    assert {iteration: indices(fresh[iteration]) for iteration in reversed(range(9))} == expected
    assert {iteration: indices(batches(10, 4, seed=1)[iteration]) for iteration in range(9)} != expected


def test_the_order_is_the_same_on_every_machine():
    assert [indices(batches(6, 4)[iteration]) for iteration in range(3)] == [[1, 0, 3, 4], [2, 5, 0, 3], [2, 1, 4, 5]]


@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, None])
def test_shards_partition_the_positions(ranks, seed):
    whole = batches(15, 5, seed)[2]
    shards = [batches(15, 5, seed, (rank, ranks))[2] for rank in range(ranks)]
    assert sorted((p for shard in shards for p in shard), key=lambda p: p.position) == whole
    assert max(map(len, shards)) - min(map(len, shards)) <= 1  # with 8 ranks, some have none
    for rank, shard in enumerate(shards):
        assert all((position - positions(whole)[0]) % ranks == rank for position in positions(shard))


def test_in_training_a_position_is_a_place_in_the_batch():
    assert positions(batches(10, 4)[0]) == positions(batches(10, 4)[7]) == [0, 1, 2, 3]


def test_in_validation_rows_keep_their_order_and_a_position_is_a_place_in_the_set():
    data = batches(10, 4, seed=None)
    assert [indices(data[i]) for i in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [positions(data[i]) for i in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_prompt_carries_its_row():
    chat = ({"role": "user", "content": "123456789+1="},)
    rows = [Row(question=chat, ground_truth="7", structured_ground_truth=["7"], data_source="sums", extra={"level": 3})]
    (prompt,) = IterationBatches(rows, ENCODER, batch=1, seed=0, shard=(0, 1))[0]
    assert (prompt.text, prompt.truncated, prompt.messages) == ("123456789+1=", True, chat)
    assert ENCODER.tokenizer.decode(list(prompt.token_ids)) == "56789+1="
    assert (prompt.ground_truth, prompt.data_source, prompt.extra) == ("7", "sums", {"level": 3})
    assert prompt.structured_ground_truth == prompt.raw_ground_truth == ["7"]
    (prompt,) = batches(1, 1)[0]
    assert (prompt.structured_ground_truth, prompt.raw_ground_truth) == (None, "1")
    assert (prompt.text, prompt.truncated, prompt.messages) == ("0+1=", False, None)
    assert prompt.token_ids == ENCODER.encode("0+1=")


# The data module.


@dataclass(kw_only=True)
class Sums(DataSource):
    size: int = 10
    sets: dict[str, int] = field(default_factory=dict)
    reads: int = 0

    def train_rows(self):
        self.reads += 1
        return rows_of(self.size)

    def val_sets(self):
        return {name: rows_of(size) for name, size in self.sets.items()}


def data_of(rank=None, ranks=1, encoder=ENCODER, **fields):
    data = PromptData(Sums(**fields), prompts_per_iteration=4, seed=0, encoder=encoder)
    if rank is not None:
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
    data.setup("fit")
    return data


def test_one_epoch_is_one_batch_that_of_the_epoch_set():
    loader = data_of().train_dataloader()
    assert isinstance(loader.sampler, OneIteration) and len(loader) == 1
    for iteration in (0, 3, 1):
        loader.sampler.set_epoch(iteration)  # as Lightning does, after a resume, too
        (prompts,) = loader
        assert prompts == batches(10, 4)[iteration]


def test_ranks_share_a_batch():
    first, second = (next(iter(data_of(rank, 2).train_dataloader())) for rank in (0, 1))
    assert sorted(positions(first) + positions(second)) == [0, 1, 2, 3]


def test_one_loader_a_validation_set_with_as_many_batches_on_every_rank():
    for ranks in (1, 2, 3):
        loaders = [data_of(rank, ranks, sets={"small": 3, "large": 9}).val_dataloader() for rank in range(ranks)]
        for number, size in enumerate((3, 9)):
            shares = [list(rank[number]) for rank in loaders]
            assert len({len(share) for share in shares}) == 1
            assert sorted(i for share in shares for batch in share for i in indices(batch)) == list(range(size))
    assert data_of(sets={"small": 3, "large": 9}).val_names == ["small", "large"]


def test_without_validation_sets_there_are_no_loaders():
    assert data_of().val_dataloader() == [] and data_of().val_names == []


def test_rows_are_read_once():
    data = data_of()
    data.setup("fit")
    assert data.source.reads == 1


def test_training_on_questions_of_validation_is_said(caplog):
    """As chats, or with a benchmark's instruction before them, they are the same questions."""
    data = data_of(size=10, sets={"small": 3, "large": 30})
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "7+1="}]
    data._val["chat"] = [Row(question=chat, ground_truth="8", data_source="sums")]
    data._val["other"] = [Row(question="x", ground_truth="8", data_source="sums")]
    data.train_dataloader()
    told = "data.train: %d of 10 rows ask a question of the validation set %s"
    assert caplog.messages == [told % pair for pair in ((3, "small"), (10, "large"), (1, "chat"))]


def test_no_rows_to_train_on_is_an_error():
    with pytest.raises(ConfigError, match=r"data\.train holds no rows"):
        data_of(size=0)


# Prompts that are too long, and rows in their own order.


def test_overlong_prompts_are_cut_or_left_out_and_counted(caplog):
    long = PromptEncoder(tokenizer=ENCODER.tokenizer, max_tokens=5)  # 0+1= has a BOS and four more, 10+1= five
    for overlong, kept in (("cut", 12), ("drop", 10)):
        data = data_of(size=12, overlong=overlong, sets={"held_out": 12}, encoder=long)
        with caplog.at_level("WARNING"):
            rows = data.train_dataloader().dataset.rows
        assert len(rows) == kept
        assert [len(batch) for batch in data.val_dataloader()[0]] == [4, 4, 4]
    told = "data.train: 2 of 12 prompts are longer than 5 tokens and are left out (data.overlong=drop)"
    assert [message for message in caplog.messages if "longer" in message] == [told]
    data = data_of(size=12, overlong="drop", encoder=PromptEncoder(tokenizer=ENCODER.tokenizer, max_tokens=2))
    with pytest.raises(
        ConfigError, match="data.overlong=drop leaves nothing: 12 of 12 prompts are longer than 2 tokens"
    ):
        data.train_dataloader()


def test_rows_in_their_own_order():
    data = data_of(shuffle=False).train_dataloader().dataset
    assert [indices(data[iteration]) for iteration in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert positions(data[2]) == [0, 1, 2, 3]
