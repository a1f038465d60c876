"""Start the process of a vLLM engine, call it, notice its death, and end it: the trainer's side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.processes import end_of_log, how_it_ended
from dsrl.samplers.vllm.engine import end_group
from dsrl.samplers.vllm.memory import engine_settings
from dsrl.samplers.vllm.weights import Delivery, Outbox

LAUNCHER_VARIABLES = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "NODE_RANK"),
    *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK"),
}
"""Variables that a launcher sets for the trainer's ranks, and that the engine must not take for its own."""

REMEDIES = {
    "No space left": "free space in /dev/shm, where its semaphores are",
    "for the cache blocks": "raise sampler.kv_cache_gib where it is given, and on a CPU",
    "KV cache is needed": "raise sampler.kv_cache_gib, or lower sampler.max_model_len",
}
"""Parts of vLLM's error messages, and which of our options is the remedy."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Bound the time that an engine has for what it is asked to do, by an option of the sampler, from now on."""

    option: str
    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.began + self.seconds - time.monotonic())


class EngineProcess:
    """Run an engine in a process of its own, since vLLM changes the environment, threads and groups of its process.

    Every method raises DSRLError, with the end of the engine's log, if the engine's process has ended.
    """

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[Any], *, deadline: Deadline) -> None:
        """Start the engine. Raises DSRLError if it does not start.

        Args:
            environment: variables that the engine has on top of this process's own.
            arguments: those of `Engine`.
            deadline: how long to wait for it.
        """
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and closes with this object)
        self.connection, theirs = Pipe()
        inherited = {key: value for key, value in os.environ.items() if key not in LAUNCHER_VARIABLES}
        folder = tempfile.mkdtemp(prefix="dsrl-engine-")  # vLLM leaves files of its own behind
        compiled = Path(tempfile.gettempdir(), f"dsrl-kernels-{os.getuid()}")  # elsewhere: the next one has them, too
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from dsrl.samplers.vllm.engine import main; main({theirs.fileno()}, {folder!r})"],
            env={"TORCHINDUCTOR_CACHE_DIR": str(compiled), **inherited, **environment, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # an interrupt from the keyboard is the trainer's to handle
        )
        theirs.close()
        self.outbox = Outbox()
        self._finalize = weakref.finalize(self, _end, self.process, self.connection, self.outbox, folder)
        self.call("start", *arguments, deadline=deadline)

    def call(self, method: str, *arguments: Any, deadline: Deadline | None = None) -> Any:
        """Call a method of the engine and return its result. An engine that misses the deadline is ended.

        Without a deadline it waits for ever.
        """
        self._ask(method, *arguments)
        details = [argument for argument in arguments if isinstance(argument, str)]
        return self._answer(method, deadline, doing=" ".join([method, *details]))

    def generate(self, version: int, prompts: list[Any], seeds: list[int], settings: dict[str, Any]) -> list[Any]:
        """Draw responses to each prompt; see `Engine.generate`."""
        return list(self.call("generate", version, prompts, seeds, settings))

    def load(self, named_tensors: Iterable[tuple[str, Tensor]], deadline: Deadline) -> Delivery:
        """Send all weights. The engine loads a chunk while the next one is gathered.

        The iterator is used up even if the engine fails, since other ranks may take part in it.
        """
        tensors = iter(named_tensors)

        def chunk_was_loaded() -> None:
            doing = f"receive_weights, of which {self.outbox.size / 2**30:.2f} GiB were ready"
            self._answer("receive_weights", deadline, doing=doing)

        try:
            self.call("begin_weights", deadline=deadline)
            loading = False
            try:
                for chunk in self.outbox.chunks(tensors):
                    if loading:
                        loading = False
                        chunk_was_loaded()
                    self._ask("receive_weights", chunk)
                    loading = True
            finally:
                if loading:
                    chunk_was_loaded()
            workers = self.call("finish_weights", deadline=deadline)
            return Delivery(checksum=self.outbox.checksum, size=self.outbox.size, workers=workers)
        except DSRLError:
            for _ in tensors:
                pass
            raise

    def close(self) -> None:
        """End the process. It may be called twice."""
        self._finalize()

    def _ask(self, method: str, *arguments: Any) -> None:
        try:
            self.connection.send((method, arguments))
        except OSError as error:
            raise DSRLError(self._obituary(method)) from error

    def _answer(self, method: str, deadline: Deadline | None, doing: str) -> Any:
        try:
            if not self.connection.poll(None if deadline is None else deadline.left):
                assert deadline is not None
                self.close()
                raise DSRLError(
                    f"sampler vllm: the engine did not come back from: {doing}, within {deadline.option}="
                    f"{deadline.seconds:g} s; it hangs, or the option is too small" + end_of_log(self.log)
                )
            state, result = self.connection.recv()
        except (EOFError, OSError) as error:
            raise DSRLError(self._obituary(method)) from error
        if state == "failed":
            hint = "".join(f"; {remedy}" for symptom, remedy in REMEDIES.items() if symptom in result)
            raise DSRLError(f"sampler vllm: the engine could not {method}: {result}{hint}")
        return result

    def _obituary(self, method: str) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            code = None
        how = "was closed" if code is None else how_it_ended(code)
        return f"sampler vllm: the engine's process {how} when it was to {method}" + end_of_log(self.log)


def _end(process: subprocess.Popen[bytes], connection: Connection, outbox: Outbox, folder: str) -> None:
    connection.close()
    end_group(process.pid)
    process.wait()
    outbox.close()
    shutil.rmtree(folder, ignore_errors=True)


def cpu_environment(cores: Sequence[int], workers: int) -> dict[str, str]:
    """Make the engine's environment variables for these cores of a CPU, shared out over its workers."""
    share = max(1, len(cores) // workers)
    shares = [list(cores[first : first + share]) for first in range(0, share * workers, share)]
    return {
        # The engine in the process that we start itself, instead of in one more.
        "VLLM_ENABLE_V1_MULTIPROCESSING": os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
        "OMP_NUM_THREADS": str(share),
        "VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, part)) for part in shares) if all(shares) else "nobind",
    }


def gpu_environment(devices: int) -> dict[str, str]:
    """Make the engine's environment variables for the rank's own GPU and the next ones, `devices` together."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",") if given else [str(number) for number in range(torch.cuda.device_count())]
    first = torch.cuda.current_device()
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible[first : first + devices]), **engine_settings(os.environ)}


def common_environment() -> dict[str, str]:
    """Make the engine's environment variables for any device: quiet, alone, and able to import this package.

    Its log holds errors only, since its warnings are about a tokenizer and weights that it is not meant to have.
    """
    paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
    return {
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled),  # outlives the engine's folder
        "PYTHONPATH": os.pathsep.join(paths),
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": os.environ.get("VLLM_HOST_IP", "127.0.0.1"),
    }
