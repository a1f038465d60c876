"""The processes of verifiers whose checks may hang, crash or take all memory: math, reasoning_gym, python, function.

In the trainer's process:

    pooled_verifier.py  the base class of these verifiers
    pool.py             starts workers, asks them, replaces those that are lost

In a worker's process, which imports nothing of dsrl:

    program.py          reads requests, keeps the limits, and answers by the `reply` function of a handler
    *_handler.py        the handler of each verifier; that of `python` is in verifiers/python, beside its sandbox
"""
