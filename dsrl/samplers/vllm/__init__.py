"""Sampler `vllm`: an engine in a process of its own, and the way of the weights to it."""

from dsrl.samplers.vllm.sampler import VLLMSampler

__all__ = ["VLLMSampler"]
