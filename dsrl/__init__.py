"""dsrl: reinforcement learning of language models in two spaces, P(y|x) and P(y).

The way of the data, and where each step lives:

    prompts              dsrl/data          sources of questions; tokens; which prompts come when
    -> rollouts          dsrl/samplers      G responses per prompt, from the policy
    -> rewards           dsrl/verifiers     checked by program
    -> advantages, keep  dsrl/objectives    what a reward is worth, which samples count
    -> log-probabilities dsrl/models/policy.py     of the response, in the objective's space
    -> loss              dsrl/objectives    surrogate and aggregate
    -> optimizer step    dsrl/loop/module.py     the loop, on one screen
    -> next phase        dsrl/callbacks     PhaseScheduler: Policy Reincarnation

Every replaceable part is registered by kind and name (dsrl/registry.py):

    from dsrl import register, build, names
"""

from dsrl.registry import build, names, register

__all__ = ["build", "names", "register"]
__version__ = "0.1.0"
