"""Verifier `python`: runs the code of a response against the tests of its row, in a sandbox.

In the trainer's process:

    python.py          the verifier: which code, which tests, which reward
    cases.py           tests, in the forms that data sets have
    fingerprint.py     what stands for an output, and is compared (in both processes)

In a worker's process, which imports nothing of dsrl:

    python_handler.py  runs the code once for each test
    sandbox.py         what the code sees, reaches and may use: namespaces, a root of its own, limits
    seccomp.py         the system calls that it is refused
"""

from dsrl.verifiers.python.python import Python

__all__ = ["Python"]
