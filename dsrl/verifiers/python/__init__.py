"""Verifier `python`: programs that are run against tests in a sandbox."""

from dsrl.verifiers.python.verifier import Python

__all__ = ["Python"]
