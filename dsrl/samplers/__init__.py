"""Samplers: prompts to rollouts, from the policy's current weights.

    sampler.py     what the loop asks of every sampler (`Sampler`)
    hf.py          `hf`: a decoding loop around the policy's own forward
    decoding.py    what makes that loop cheap: keys and values in place, attention without copies
    replay.py      `replay`: what another run recorded, in the place of new responses
    vllm/          `vllm`: an engine in a process of its own, which gets the weights after every update
    contract.py    checks that every sampler must pass, also for the tests of a plugin

docs/sampling.md compares them, and shows how to use one alone and how to write one.
"""

from dsrl.samplers.hf import HFSampler
from dsrl.samplers.replay import ReplaySampler
from dsrl.samplers.sampler import Sampler
from dsrl.samplers.vllm.sampler import VLLMSampler

__all__ = ["HFSampler", "ReplaySampler", "Sampler", "VLLMSampler"]
