"""What `python -m dsrl.evaluate` computes: answers to the questions of validation sets, and numbers of them.

config.py        the checked configuration
evaluation.py    questions to samples to rewards, batch by batch
samples.py       all samples on disk, and where an interrupted evaluation goes on
statistics.py    avg@k, pass@j and maj@k of each question; their means and bootstrap intervals
results.py       the numbers of an evaluation, as JSON, as a table, as a line
comparison.py    two evaluations, paired by question
"""

from dsrl.evaluation.comparison import compare
from dsrl.evaluation.config import EvaluationConfig
from dsrl.evaluation.evaluation import evaluate

__all__ = ["EvaluationConfig", "compare", "evaluate"]
