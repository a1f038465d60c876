"""Probes: what an iteration shows before and after its update. `dsrl.probes.alignment` registers the built-in one.

    alignment.py    probe `alignment`: do P(y) and P(y|x) learn the same? Chooses levels, names metrics
    logits.py       level 0: both gradients in logits, token by token; forward passes alone
    gradients.py    level 1: gradients of objectives on halves of the prompts
    directions.py   what these say of each other: cosines, norms, reliability, held-out gain
    samples.py      level 2: each response's gradients in both spaces, and their inner product
    products.py     inner products of gradients that are never written out
    step.py         level 3: what the step that was taken did to log-probabilities
    groups.py       the groups of parameters, layer by layer
    by_prompt.py    sums of each prompt, their means over prompts, and intervals

The base class, and the way a run calls a probe, are in `dsrl.loop.probe`.
"""
