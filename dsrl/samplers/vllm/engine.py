"""Run a vLLM engine: the program of the process that the sampler starts.

It answers one call at a time: (method, arguments) by ("done", result) or ("failed", message). It ends with the process
that started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from dsrl.errors import nearest

Response = tuple[list[int], list[float], str]
"""Token ids, their log-probabilities, and "stop" or "length"."""


class Engine:
    """Hold vLLM's engine and the version of the policy's weights that it serves.

    `version` is None before the first weights, and while others are loaded.
    """

    def __init__(self, config: dict[str, Any], generation_config: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Start the engine with a model's configurations and with arguments of vLLM's `EngineArgs`."""
        from vllm import LLM
        from vllm.engine.arg_utils import EngineArgs

        known = [field.name for field in dataclasses.fields(EngineArgs)]
        for name in arguments:
            if name not in known:
                raise ValueError(f"sampler.engine.{name}: vLLM's engine has no such argument.{nearest(name, known)}")
        with tempfile.TemporaryDirectory() as folder:  # weights come from the trainer, texts stay there
            Path(folder, "config.json").write_text(json.dumps(config))
            Path(folder, "generation_config.json").write_text(json.dumps(generation_config))
            self.llm = LLM(
                model=folder,
                load_format="dummy",
                skip_tokenizer_init=True,
                logprobs_mode="processed_logprobs",
                worker_extension_cls="dsrl.samplers.vllm.weights.WeightReceiver",
                disable_log_stats=True,
                **arguments,
            )
        self.version: int | None = None

    def limits(self) -> int:
        """The most tokens that prompt and response may have together."""
        return int(self.llm.llm_engine.model_config.max_model_len)

    def generate(
        self, version: int, prompts: list[list[int]], seeds: list[int], settings: dict[str, Any]
    ) -> list[list[Response]]:
        """Draw responses to prompts. Raises RuntimeError unless the weights of that version are served.

        Args:
            version: that of the weights.
            prompts: token ids of each prompt.
            seeds: one a prompt; response i is drawn with the seed plus i.
            settings: arguments of vLLM's `SamplingParams`, the number of responses among them.

        Returns:
            For each prompt its responses.
        """
        from vllm import SamplingParams as VLLMParams

        if version != self.version:
            raise RuntimeError(f"asked for weights of version {version}, the engine holds {self.version}")
        if not prompts:
            return []
        outputs = self.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            [VLLMParams(**settings, seed=seed, logprobs=0, detokenize=False) for seed in seeds],
            use_tqdm=False,
        )
        return [[_response(completion) for completion in output.outputs] for output in outputs]

    def score(self, tokens: list[int]) -> list[float]:
        """Compute the log-probabilities of all tokens but the first, at temperature 1."""
        from vllm import SamplingParams as VLLMParams

        settings = VLLMParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
        (output,) = self.llm.generate([{"prompt_token_ids": tokens}], settings, use_tqdm=False)
        return [
            float(given[token].logprob) for token, given in zip(tokens[1:], output.prompt_logprobs[1:], strict=True)
        ]

    def begin_weights(self) -> None:
        """Get ready for new weights; until `serve` none are served."""
        self.version = None
        self.llm.collective_rpc("begin_weights")

    def receive_weights(self, chunk: dict[str, Any]) -> None:
        """Load the next tensors from the shared memory."""
        self.llm.collective_rpc("receive_weights", args=(chunk,))

    def finish_weights(self) -> list[tuple[int, list[str]]]:
        """Put the new weights into use, and drop what was cached under the old ones.

        Returns, for each worker, its checksum and its missing parameters.
        """
        found: list[tuple[int, list[str]]] = self.llm.collective_rpc("finish_weights")
        self.forget()
        return found

    def forget(self) -> None:
        """Drop the cached keys and values, which belong to earlier weights."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be reset, since requests are still running")

    def serve(self, version: int) -> None:
        """Serve the weights that were loaded, under that version."""
        self.version = version

    def sleep(self, level: int) -> None:
        """Give the GPU's memory back: at level 1 the weights move to host memory, at level 2 they are dropped."""
        self.llm.sleep(level=level)
        self.version = self.version if level == 1 else None

    def wake_up(self, *tags: str) -> None:
        """Take the GPU's memory again, for what the tags name: `weights`, `kv_cache`."""
        self.llm.wake_up(tags=list(tags))


def _response(completion: Any) -> Response:
    tokens = [int(token) for token in completion.token_ids]
    logprobs = [float(given[token].logprob) for token, given in zip(tokens, completion.logprobs, strict=True)]
    return tokens, logprobs, str(completion.finish_reason)


def main(descriptor: int, folder: str) -> None:
    """Answer calls from the connection with that file descriptor until it is closed.

    `folder` is for temporary files, and is deleted at the end.
    """
    connection = Connection(descriptor)
    threading.Thread(target=_end_with, args=(os.getppid(), folder), daemon=True).start()
    engine: Engine | None = None
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            break
        try:
            if engine is None:
                engine, result = Engine(*arguments), None
            else:
                result = getattr(engine, method)(*arguments)
            answer = "done", result
        except Exception as error:
            traceback.print_exc()
            answer = "failed", f"{type(error).__name__}: {error}"
        connection.send(answer)
    _leave(folder)


def _end_with(parent: int, folder: str) -> None:
    """End this process and those it started as soon as the trainer has ended, even while the engine is at work."""
    while os.getppid() == parent:
        time.sleep(0.25)
    _leave(folder)


def _leave(folder: str) -> NoReturn:
    """End at once: vLLM's own way out takes seconds, and there is nothing to save."""
    end_group(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def end_group(leader: int) -> None:
    """Kill the processes of a group, its leader last; this process is spared.

    So are Python's resource trackers: they remove what the others left in /dev/shm, and then end by themselves.
    """
    others = set(map(int, filter(str.isdigit, os.listdir("/proc")))) - {os.getpid()}
    members = [pid for pid in others if _is_worker(pid, leader)]
    for pid in sorted(members, key=lambda pid: pid == leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_worker(pid: int, leader: int) -> bool:
    try:
        group = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[2])
        return group == leader and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False
