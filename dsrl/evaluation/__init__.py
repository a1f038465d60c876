"""What `python -m dsrl.evaluate` computes: answers to the questions of validation sets, and numbers of them.

config.py        the checked configuration
evaluation.py    questions to samples, in order on disk; then the numbers
batches.py       the questions that are sampled together
answering.py     batches to samples with one model, the batch before being checked meanwhile
workers.py       several devices: a process for each, and the next batch to whichever is free
worker.py        the program of these processes
samples.py       all samples on disk, and where an interrupted evaluation goes on
statistics.py    avg@k, pass@j and maj@k of each question; their means and bootstrap intervals
results.py       the numbers of an evaluation, as JSON, as a table, as a line
comparison.py    two evaluations, paired by question
other_model.py   the evaluation of the model that this one is compared with
"""

from dsrl.evaluation.comparison import compare
from dsrl.evaluation.config import EvaluationConfig
from dsrl.evaluation.evaluation import evaluate

__all__ = ["EvaluationConfig", "compare", "evaluate"]
