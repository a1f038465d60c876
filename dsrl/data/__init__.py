"""Where prompts come from: registered sources, their tokens, and which prompts come when.

    source.py                what the loop asks of a data source
    arithmetic.py     `arithmetic`: additions, for the embedded model
    questions.py             `questions`: files, hub data sets, benchmarks and other sources, alone or mixed
    reasoning_gym.py         `reasoning_gym`: procedural tasks, drawn in a process of its own (reasoning_gym_entries.py)
    files.py hub.py          records of a file, of a data set
    mixture.py               which row comes when
    curriculum.py            which rows are passed over
    encoding.py              text to token ids
    datamodule.py            batches of prompts

rows.py reads records of any origin by one schema; benchmarks.py names some data sets.
"""

from dsrl.data import arithmetic, questions, reasoning_gym
from dsrl.data.encoding import PromptEncoder
from dsrl.data.source import DataSource, Row

__all__ = ["DataSource", "PromptEncoder", "Row", "arithmetic", "questions", "reasoning_gym"]
