"""Data: records of a file to rows, rows to prompts, and which prompts come when.

A row (`Row`) is one record with a question and its ground truth; a prompt (`dsrl.types.Prompt`) is what the model reads
of the question.

    source.py                  what the loop asks of every data source (`DataSource`, `Row`)
    arithmetic.py, retry.py    `arithmetic`, `retry`: questions of the embedded worlds (dsrl.worlds), by world_source.py
    questions.py               `questions`: files, data sets, benchmarks.py and other sources, alone or mixed
    reasoning_gym.py           `reasoning_gym`: procedural tasks, drawn by the program reasoning_gym_entries.py
    record_set.py              an entry that holds records: files.py, delimited.py (.csv, .tsv), hub.py
    rows.py                    how records become rows: chats.py, last_turn.py, beside_text.py, columns.py
    mixture.py                 which row comes when
    curriculum.py              which rows are passed over
    encoding.py, prompts.py    from questions to token ids and prompts
    askable.py                 looks at all prompts before anything is sampled; first_prompt.py shows one
    iteration_batches.py       the prompts of each iteration, and others in their place (datamodule.py: for Lightning)
"""

from dsrl.data import arithmetic, questions, reasoning_gym, retry
from dsrl.data.encoding import PromptEncoder
from dsrl.data.prompts import prompt_of, prompts_of
from dsrl.data.questions import Questions
from dsrl.data.source import DataSource, Row

__all__ = [
    "DataSource",
    "PromptEncoder",
    "Questions",
    "Row",
    "arithmetic",
    "prompt_of",
    "prompts_of",
    "questions",
    "reasoning_gym",
    "retry",
]
