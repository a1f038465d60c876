"""`model=PATH` of an evaluation: a run folder, a checkpoint, a Hugging Face folder or a hub name, spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsrl.config.command_line import read, text_of
from dsrl.config.renamed import in_todays_words
from dsrl.errors import ConfigError
from dsrl.runs.resume import newest_checkpoint
from dsrl.storage.checkpoint_files import read_checkpoint

FITTING = {"arithmetic": "exact", "retry": "exact", "reasoning_gym": "reasoning_gym"}
"""Data sources whose questions need a verifier of their own; all others are mathematics."""
OWN_QUESTIONS = {"retry": "retry"}
"""Models with questions of their own, which are asked where no data is given; all others are asked additions."""
ASKED_ALIKE = ("system_prompt", "template", "max_prompt_tokens")
"""What a model that was trained with it is asked with on other data, too."""


def spelled_for_evaluation(
    overrides: Sequence[str], known_models: Sequence[str], questions: str = "data.val"
) -> list[str]:
    """Write `model=PATH` as `model=hf model.name=PATH`, and add the verifier that fits where none is named.

    Questions are those of data.val, or of data.train; then they are answered as in training.

    Where the model comes from a run, the run says what the command line leaves open: the model's settings, how long its
    answers may be, which thoughts are counted in them, and, unless `data` is given, the data and the verifier. Raises
    ConfigError for a path that is none of these.
    """
    parsed = read(overrides)
    if swept := [override.input_line for override in parsed if override.is_sweep_override()]:
        raise ConfigError("\n".join(f"{text}: one value is needed; a list is written [a,b]" for text in swept))
    given = {override.key_or_group: override.value() for override in parsed}
    others = [text for text, override in zip(overrides, parsed, strict=True) if override.key_or_group != "model"]
    trains = questions == "data.train"
    data_given = "data" in given or questions in given
    spelled: list[str] = []
    model = given.get("model", "tiny")
    if not isinstance(model, str) or not model:
        raise ConfigError(f"model={text_of(model)}: must be a run, a checkpoint, a folder or a name")
    if model in known_models:
        spelled.append(f"model={model}")
    else:
        settings, checkpoint, run = _found(model)
        spelled += ["model=hf", *_values("model", settings)]
        if checkpoint is not None:
            spelled.append(f"checkpoint={text_of(str(checkpoint))}")
        if run:
            sampling = {key: run["sampling"][key] for key in ("max_new_tokens", "stop")}
            spelled += _values(
                "sampling", {**sampling, "temperature": run["sampling" if trains else "validation"]["temperature"]}
            )
            if not trains and "thoughts" in run and "thoughts" not in given:
                spelled.append(f"thoughts={text_of(run['thoughts'])}")
        if run and not data_given:
            spelled += _part("data", run["data"], leave_out=("val" if trains else "train",))
            if "verifier" not in given:
                spelled += _part("verifier", run["verifier"])
            return [*spelled, *others]
        if run:
            spelled += _values("data", {key: run["data"][key] for key in ASKED_ALIKE if key in run["data"]})
    if "data" not in given:
        spelled.append("data=questions")  # whatever the model brings along
    own = OWN_QUESTIONS.get(model, "arithmetic")
    if not data_given:
        spelled.append(f"{questions}={own}")
    if "verifier" not in given:
        asked = given.get(questions, given.get("data")) if data_given else own
        spelled.append(f"verifier={_fitting_verifier(asked if isinstance(asked, list) else [asked], questions)}")
    return [*spelled, *others]


def _fitting_verifier(entries: Sequence[Any], key: str) -> str:
    """Find the verifier of the questions that `key` asks. Raises ConfigError where they need different ones."""
    named = [entry.get("name", entry.get("path")) if isinstance(entry, Mapping) else entry for entry in entries]
    fitting = {str(name): FITTING.get(str(name), "math") for name in named}
    if len({*fitting.values()}) > 1:
        needs = ", ".join(f"{verifier} for {name}" for name, verifier in fitting.items())
        raise ConfigError(
            f"{key} asks what different verifiers check ({needs}): evaluate them one by one, or choose one by "
            "verifier=NAME (by_source takes another for each data source)"
        )
    return next(iter(fitting.values()), "math")


def _found(model: str) -> tuple[dict[str, Any], Path | None, dict[str, Any]]:
    """Find the model's settings, the checkpoint that holds its weights, and the configuration of the run that it comes
    from; None and empty where there is none.
    """
    path = Path(model).expanduser()
    if path.suffix == ".ckpt":
        if not path.exists():
            raise ConfigError(f"model={model}: no such checkpoint")
        run: Any = in_todays_words(read_checkpoint(path)["dsrl"]["config"])
        return run["model"], path, run
    if (path / "config.yaml").is_file() and not (path / "config.json").is_file():
        run = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
        if not isinstance(run, dict) or "validation" not in run:
            raise ConfigError(
                f"model={model}: its config.yaml is not that of a run; an evaluation goes on by resume={model}"
            )
        run = in_todays_words(run)
        if (path / "hf" / "config.json").is_file():  # adapters are merged into it
            settings = {key: value for key, value in run["model"].items() if key != "lora"}
            return {**settings, "name": str(path / "hf")}, None, run
        checkpoint = newest_checkpoint(path / "checkpoints")
        if checkpoint is None:
            raise ConfigError(f"model={model}: the run has written no model and no checkpoint yet")
        return run["model"], checkpoint, run
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigError(f"model={model}: the folder holds neither a run (config.yaml) nor a model (config.json)")
    if not path.is_dir() and model.count("/") != 1:
        raise ConfigError(
            f"model={model}: no such run, checkpoint or folder; a name on the hub is written owner/name "
            "(one without an owner is given by model=hf model.name=NAME)"
        )
    return {"name": model}, None, {}


def _part(kind: str, spec: Any, leave_out: Sequence[str] = ()) -> Iterator[str]:
    """Write a part's choice and its parameters as overrides."""
    name, parameters = (spec, {}) if isinstance(spec, str) else (spec["name"], spec)
    yield f"{kind}={name}"
    yield from _values(kind, {key: value for key, value in parameters.items() if key not in ("name", *leave_out)})


def _values(section: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{section}.{key}={text_of(value)}" for key, value in values.items())
