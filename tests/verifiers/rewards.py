"""Reward functions as researchers write them, and one that does what such functions must not."""

import os
import re
import subprocess
import time


def accuracy_reward(completions, solution, **kwargs):
    """TRL's conversational signature: completions are chats, columns are lists of N."""
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if content == wanted else 0.0 for content, wanted in zip(contents, solution, strict=True)]


def plain_trl(prompts, completions, answer, data_source):
    return [float(completion == wanted) for completion, wanted in zip(completions, answer, strict=True)]


def sometimes(prompts, completions, **columns):
    return [None if "code" in completion else len(completion) for completion in completions]


def token_count(completions, completion_ids, **kwargs):
    return [len(ids) for ids in completion_ids]


def every_keyword(prompts, completions, trainer_state=None, log_extra=None, log_metric=None, **kwargs):
    assert (trainer_state, log_extra, log_metric) == (None, None, None)
    assert kwargs["completion_ids"] == [[1]] * len(completions)
    return [float(text == "4") for text in completions]


def needs_the_trainer(completions, trainer_state, log_metric, **kwargs):
    return [trainer_state.global_step for _ in completions]


async def later(completions, **kwargs):
    return [2.0 for _ in completions]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(solution_str == ground_truth), "acc": True}


def countdown(data_source, solution_str, ground_truth, extra_info=None):
    return float(int(solution_str) == ground_truth["target"])


def countdown_trl(completions, answer, ground_truth):
    assert answer == ground_truth
    return [countdown("", text, truth) for text, truth in zip(completions, ground_truth, strict=True)]


def dangerous(response, prompt):
    """Ours."""
    if response == "crash":
        raise RuntimeError("it broke")
    if response == "exit":
        os._exit(3)
    if response == "hang":
        time.sleep(100)
    if response == "nan":
        return float("nan")
    if response == "nothing readable":
        return "high"
    return float(response == prompt.ground_truth)


def dangerous_trl(prompts, completions, answer, **columns):
    scores = []
    for completion, wanted in zip(completions, answer, strict=True):
        if completion == "wrong length":
            continue
        scores.append(dangerous(completion, type("", (), {"ground_truth": wanted})))
    return scores


def always_broken(response, prompt):
    return prompt.no_such_thing


def by_pattern(response, prompt):
    return 1.0 if re.fullmatch(r"\d+", response) else 0.0


def no_signature(text):
    return 1.0


def columns_seen(prompts, completions, **columns):
    assert columns["level"] == ["hard"] * len(prompts), columns
    assert columns["ground_truth"] == columns["answer"]
    assert columns["extra_info"] == [{"level": "hard"}] * len(prompts)
    return [float(len(prompts))] * len(prompts)


def forks(response, prompt):
    """The copy returns, too."""
    os.fork()
    return float(response)


def leaves_processes(response, prompt):
    """A program and a fork, whose ids it writes down; `response` is the file, and what it does then."""
    file, _, then = response.partition(" ")
    program = subprocess.Popen(["sleep", "300"])
    copy = os.fork()
    if copy == 0:
        time.sleep(300)
    with open(file, "a") as ids:
        ids.write(f"{os.getpid()} {program.pid} {copy} ")
    if then == "hang":
        time.sleep(300)
    return 1.0


def short_verl(solution_str, ground_truth, method="strict"):
    assert method == "strict"
    return float(solution_str == ground_truth)


async def later_ours(response, prompt):
    return float(response == prompt.ground_truth)


async def later_verl(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(solution_str == ground_truth)}


def other_verl(model_output, ground_truth, timeout_score=0):
    return 1.0


def by_position(completions, /, **kwargs):
    return [1.0 for _ in completions]


def huge(response, prompt):
    return float(response)


def with_answer(data_source, solution_str, ground_truth):
    """As verl's: a mapping with what was extracted, nothing where nothing was."""
    if "=" not in solution_str:
        return {"score": 0.0}
    answer = solution_str.rpartition("=")[2]
    return {"score": float(answer == ground_truth), "pred": answer}
