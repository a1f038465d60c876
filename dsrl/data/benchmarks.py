"""Name the benchmarks of mathematical reasoning as papers do, with their place on the hub and their columns.

Numbers of questions: aime24 30, aime25 30, amc23 40, math500 500, gsm8k 1319, olympiadbench 674, minerva 272.
"""

from __future__ import annotations

from collections.abc import Mapping

PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system prompt of arXiv 2604.14142 for training and evaluation, unless `data.system_prompt` is given."""

BENCHMARKS: Mapping[str, Mapping[str, str]] = {
    "aime24": {"path": "HuggingFaceH4/aime_2024", "split": "train", "question": "problem", "answer": "answer"},
    "aime25": {"path": "math-ai/aime25", "split": "test", "question": "problem", "answer": "answer"},
    "amc23": {"path": "math-ai/amc23", "split": "test", "question": "question", "answer": "answer"},
    "math500": {"path": "HuggingFaceH4/MATH-500", "split": "test", "question": "problem", "answer": "answer"},
    "gsm8k": {
        "path": "openai/gsm8k",
        "config": "main",
        "split": "test",
        "question": "question",
        "answer": "answer",
        "answer_after": "####",
    },
    "olympiadbench": {
        "path": "math-ai/olympiadbench",
        "split": "test",
        "question": "question",
        "answer": "final_answer",
    },
    "minerva": {"path": "math-ai/minervamath", "split": "test", "question": "question", "answer": "answer"},
}
"""The parameters of each benchmark, as an entry of `data.val` would give them (see `dsrl.data.questions`)."""
