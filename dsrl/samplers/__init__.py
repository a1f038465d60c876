"""Samplers: prompts -> rollouts, and weights back to the sampler."""

from dsrl.samplers.hf import HFSampler
from dsrl.samplers.sampler import Sampler
from dsrl.samplers.vllm.sampler import VLLMSampler

__all__ = ["HFSampler", "Sampler", "VLLMSampler"]
