"""Sampler `vllm`: an engine in a process of its own, and the way of the weights to it.

    sampler.py               the sampler: starts an engine, asks it, checks the weights that it serves
    process.py               the trainer's end of the engine's process: start, call, notice its death, end
    engine.py                what runs in that process
    weights.py               the weights on their way: buffers that both processes map
    checkpoint_tensors.py    the weights by the names that engines know
    memory.py                taking turns in a GPU's memory
    probe.py                 the log-probabilities of engine and trainer, compared
    shared.py                a tensor-parallel engine that several ranks share

vLLM itself is imported in the engine's process alone.
"""

from dsrl.samplers.vllm.sampler import VLLMSampler

__all__ = ["VLLMSampler"]
