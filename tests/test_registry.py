"""The registry: names, parameters, plugins, and what each mistake is told."""

import dataclasses
import importlib
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from omegaconf import MISSING, OmegaConf

from dsrl import build, names, register, registry
from dsrl.errors import ConfigError, DSRLError, nearest
from dsrl.objectives import KL, PolicyGradient
from dsrl.objectives.presets import GRPO
from dsrl.registry import config_schema, full_spec, load_plugins, registered_parts

pytestmark = pytest.mark.usefixtures("own_registry")


def tail(rewards, advantages, *, count: int, share: float = 0.5, mode: str | None = None):
    return count, share, mode


def needy(rewards, advantages, *, count: int):
    return count


def other_tail(rewards, advantages):
    return 0


# Names


def test_names_are_sorted_and_include_what_is_built_in():
    found = names("aggregate")
    assert found == sorted(found)
    assert {"constant", "seq_mean_token_mean", "seq_mean_token_sum", "token_mean"} <= set(found)
    assert {"marginal", "conditional"} <= set(names("space"))
    assert {"ppo_clip", "reinforce", "gspo", "cispo"} <= set(names("surrogate"))


def test_register_returns_the_part_itself():
    assert register("keep", "tail")(tail) is tail
    assert "tail" in names("keep")
    assert "tail" not in names("advantage")


@pytest.mark.parametrize(
    "call", [lambda: register("objectve", "x"), lambda: names("objectve"), lambda: build("objectve", "x")]
)
def test_unknown_kind(call):
    with pytest.raises(
        ConfigError, match="unknown kind 'objectve'; kinds are objective, space.*Did you mean 'objective'"
    ):
        call()


def test_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(ConfigError) as error:
        build("keep", "negativ")
    message = str(error.value)
    assert message.startswith("unknown keep 'negativ'; registered are ")
    assert all(name in message for name in ("all", "negative", "nonzero", "positive"))
    assert message.endswith("Did you mean 'negative'?")


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ConfigError) as error:
        build("keep", "qqqqqq")
    assert "Did you mean" not in str(error.value)


def test_nearest():
    assert nearest("grop", ["grpo", "rloo"]) == " Did you mean 'grpo'?"
    assert nearest("zzz", ["grpo", "rloo"]) == ""


def test_config_error_is_a_value_error_for_people_and_a_dsrl_error_for_the_command_line():
    assert issubclass(ConfigError, ValueError) and issubclass(ConfigError, DSRLError)


# Duplicates


def test_a_second_owner_of_a_name_is_refused_and_both_are_named():
    register("keep", "tail")(tail)
    with pytest.raises(ConfigError) as error:
        register("keep", "tail")(other_tail)
    message = str(error.value)
    assert "keep 'tail' is registered twice" in message
    assert f"{__name__}.tail" in message and f"{__name__}.other_tail" in message
    assert build("keep", {"name": "tail", "count": 3})(None, None) == (3, 0.5, None)


def test_a_built_in_name_cannot_be_taken():
    with pytest.raises(ConfigError, match=rf"dsrl.objectives.presets.GRPO and by {__name__}"):

        @register("objective", "grpo")
        @dataclass(kw_only=True)
        class Mine(PolicyGradient):
            pass


def test_the_same_name_in_another_kind_is_fine():
    register("keep", "tail")(tail)
    register("advantage", "tail")(other_tail)
    assert build("advantage", "tail") is other_tail


def test_one_part_may_have_two_names():
    register("keep", "one")(other_tail)
    register("keep", "two")(other_tail)
    assert build("keep", "one") is build("keep", "two")


def test_reloading_replaces(tmp_path, monkeypatch):
    module = tmp_path / "reloaded_plugin.py"
    module.write_text("from dsrl import register\n@register('keep', 'reloaded')\ndef reloaded(r, a): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plugin = importlib.import_module("reloaded_plugin")
    assert build("keep", "reloaded")(0, 0) == 1
    module.write_text("from dsrl import register\n@register('keep', 'reloaded')\ndef reloaded(r, a): return 22\n")
    importlib.reload(plugin)
    assert build("keep", "reloaded")(0, 0) == 22


# What cannot be registered


def test_a_class_must_be_a_dataclass():
    with pytest.raises(ConfigError, match="verifier 'plain': .*Plain must be a dataclass"):

        @register("verifier", "plain")
        class Plain:
            pass


def test_no_parameter_may_be_called_name():
    with pytest.raises(ConfigError, match="a parameter cannot be called 'name'"):

        @register("verifier", "named")
        @dataclass
        class Named:
            name: str = "x"

    with pytest.raises(ConfigError, match="a parameter cannot be called 'name'"):

        @register("keep", "named")
        def named(rewards, advantages, *, name: str = "x"):
            return rewards


def test_a_default_that_dataclass_would_ignore_is_refused():
    """`space = "marginal"` on a subclass is overwritten by the base's default in __init__, in silence."""
    with pytest.raises(ConfigError, match="space would be ignored; give it a type"):

        @register("objective", "untyped")
        @dataclass(kw_only=True)
        class Untyped(GRPO):
            space = "marginal"

    with pytest.raises(ConfigError, match="space would be ignored.*put @dataclass"):

        @register("objective", "undecorated")
        class Undecorated(GRPO):
            space: str = "marginal"


def test_what_dataclass_honours_is_accepted():
    @register("objective", "deep")
    @dataclass(kw_only=True)
    class Deep(GRPO):
        surrogate: Any = field(default_factory=lambda: {"name": "cispo"})

    @register("objective", "deeper")
    @dataclass(kw_only=True)
    class Deeper(Deep):
        surrogate: Any = "reinforce"

    @register("objective", "method_only")
    class MethodOnly(Deeper):
        def kept(self, rewards, advantages):
            return advantages > 1

    @register("condition", "slots")
    @dataclass(slots=True, kw_only=True)
    class Slots:
        above: float = 0.5

    assert build("objective", "deep").surrogate == {"name": "cispo"}
    assert build("objective", "deeper").surrogate == "reinforce"
    assert build("objective", "method_only").surrogate == "reinforce"
    assert build("condition", {"name": "slots", "above": 1}).above == 1.0


# Parameters


def test_keyword_only_parameters_of_a_function():
    register("keep", "tail")(tail)
    assert build("keep", {"name": "tail", "count": 2, "share": 1, "mode": "x"})(None, None) == (2, 1.0, "x")
    assert build("keep", "tail", count=2)(None, None) == (2, 0.5, None)
    assert build("keep", {"name": "tail", "count": 2}, count=5)(None, None) == (5, 0.5, None)
    share = build("keep", {"name": "tail", "count": "7", "share": "0.25"})(None, None)
    assert share == (7, 0.25, None) and type(share[0]) is int


def test_missing_parameter():
    register("keep", "tail")(tail)
    with pytest.raises(ConfigError, match="^keep 'tail' needs a value for count$"):
        build("keep", "tail")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"count": 1, "shrae": 0.2},
            "keep 'tail' has no parameter 'shrae'; its parameters are count, share, mode. Did .*'share'",
        ),
        ({"count": 1, "rewards": 0.2}, "has no parameter 'rewards'"),
        ({"count": 1.5}, "keep 'tail': count=1.5 is not of type int"),
        ({"count": "many"}, "keep 'tail': count='many' is not of type int"),
        ({"count": None}, "keep 'tail': count=None is not of type int"),
        ({"count": 1, "share": True}, "share=True is not of type float"),
        ({"count": 1, "share": [1]}, r"share=\[1\] is not of type float"),
    ],
)
def test_unknown_and_ill_typed_parameters(parameters, message):
    register("keep", "tail")(tail)
    with pytest.raises(ConfigError, match=message):
        build("keep", {"name": "tail", **parameters})


def test_a_part_without_parameters_says_so():
    with pytest.raises(ConfigError, match="keep 'all' has no parameter 'share'; it takes no parameters"):
        build("keep", {"name": "all", "share": 1})


@pytest.mark.parametrize("spec", [None, True, 3, 0.5, ["all"], ("all",)])
def test_what_is_no_spec_is_refused(spec):
    with pytest.raises(ConfigError, match=r"keep must be a name or {name: ..., parameter: value}, not "):
        build("keep", spec)


def test_a_mapping_needs_a_name():
    with pytest.raises(ConfigError, match="has no name; write {name: ..., parameter: value}"):
        build("keep", {"share": 0.5})


def test_what_is_built_is_taken_as_it_is_but_takes_no_parameters():
    assert build("keep", tail) is tail
    objective = build("objective", "grpo")
    assert build("objective", objective) is objective
    with pytest.raises(ConfigError, match="already built and takes no coefficient"):
        build("objective", objective, coefficient=2.0)


def test_a_spec_is_not_changed_by_building():
    spec = {"name": "dapo", "surrogate": {"name": "ppo_clip", "clip_high": 0.3}}
    build("objective", spec, coefficient=2.0)
    assert spec == {"name": "dapo", "surrogate": {"name": "ppo_clip", "clip_high": 0.3}}


def test_from_omegaconf():
    spec = OmegaConf.create({"name": "dapo", "surrogate": {"name": "ppo_clip", "clip_high": 0.3}, "coefficient": 2})
    objective = build("objective", spec)
    assert (objective.coefficient, objective.surrogate) == (2.0, {"name": "ppo_clip", "clip_high": 0.3})
    assert type(objective.surrogate) is dict and type(objective.coefficient) is float


@pytest.mark.parametrize("kl", [{"coefficient": 0.1}, {"coefficient": "0.1"}, KL(coefficient=0.1)])
def test_a_nested_dataclass(kl):
    assert build("objective", "grpo", kl=kl).kl == KL(coefficient=0.1)


def test_a_nested_dataclass_is_checked():
    with pytest.raises(ConfigError, match="objective 'grpo': kl has no parameter 'estimatr'.*Did you mean 'estimator'"):
        build("objective", "grpo", kl={"estimatr": "k2"})
    with pytest.raises(ConfigError, match="kl: coefficient='big' is not of type float"):
        build("objective", "grpo", kl={"coefficient": "big"})
    with pytest.raises(ConfigError, match="kl=3 is not of type KL"):
        build("objective", "grpo", kl=3)


def test_an_error_of_the_part_names_the_part():
    @register("condition", "picky")
    @dataclass(kw_only=True)
    class Picky:
        above: float = 0.0

        def __post_init__(self):
            if self.above > 1:
                raise ValueError("above must be at most 1")

    with pytest.raises(ConfigError, match="condition 'picky': above must be at most 1"):
        build("condition", {"name": "picky", "above": 2})


def test_types_that_a_config_cannot_hold_are_left_to_the_part():
    @register("keep", "typed")
    def typed(rewards, advantages, *, mode: Literal["a", "b"] = "a", cuts: Sequence[float] = (0.5,), scale=None):
        return mode, cuts, scale

    assert build("keep", {"name": "typed", "mode": "b", "cuts": [1.0], "scale": 3})(0, 0) == ("b", [1.0], 3)
    assert OmegaConf.structured(config_schema("keep", "typed")()).mode == "a"


# Schemas


def test_schema_of_a_function():
    register("keep", "tail")(tail)
    made = config_schema("keep", "tail")
    config = OmegaConf.structured(made)
    assert [f.name for f in dataclasses.fields(made)] == ["name", "count", "share", "mode"]
    assert (config.name, config.share, config.mode) == ("tail", 0.5, None)
    assert OmegaConf.is_missing(config, "count") and MISSING == "???"
    config.count = 3
    assert build("keep", config)(None, None) == (3, 0.5, None)


def test_schema_finds_what_is_unknown_or_ill_typed():
    config = OmegaConf.structured(config_schema("objective", "dapo"))
    assert (config.name, config.surrogate.clip_high, config.kl.estimator) == ("dapo", 0.28, "k3")
    for key, value in (("coeficient", 1.0), ("coefficient", "big"), ("kl.coef", 1.0), ("kl.coefficient", "big")):
        with pytest.raises((ValueError, AttributeError, KeyError)):
            OmegaConf.update(config, key, value)
    config.kl.coefficient = 0.2
    config.keep = {"name": "negative"}
    objective = build("objective", config)
    assert (objective.kl, objective.keep) == (KL(coefficient=0.2), {"name": "negative"})


@pytest.mark.parametrize("kind", ["objective", "advantage", "keep", "surrogate", "aggregate", "space"])
def test_every_built_in_part_has_a_schema_that_builds_it_again(kind):
    for name in names(kind):
        config = OmegaConf.structured(config_schema(kind, name))
        assert config.name == name
        rebuilt, plain = build(kind, config), build(kind, name)
        if kind == "objective":
            assert rebuilt == plain
        else:
            assert getattr(rebuilt, "func", rebuilt) is plain


def test_schemas_do_not_share_their_defaults():
    one, two = (OmegaConf.structured(config_schema("objective", "mixed")) for _ in range(2))
    one.objectives.grpo.weight = 9.0
    made = config_schema("objective", "mixed")
    made().objectives["grpo"]["weight"] = 9.0
    assert made().objectives["grpo"]["weight"] == 1.0
    assert two.objectives.grpo.weight == 1.0
    assert build("objective", "mixed").objectives["grpo"]["weight"] == 1.0


def test_full_spec():
    register("keep", "tail")(tail)
    assert full_spec("keep", "all") == "all"
    assert full_spec("surrogate", "ppo_clip") == {
        "name": "ppo_clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "dual_clip": 10.0,
    }
    given = full_spec("surrogate", {"name": "ppo_clip", "clip_high": 0.28})
    assert given == {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0}
    assert full_spec("keep", {"name": "tail", "count": 2}) == {"name": "tail", "count": 2, "share": 0.5, "mode": None}
    assert full_spec("keep", "tail") == {"name": "tail", "share": 0.5, "mode": None}
    register("keep", "needy")(needy)
    assert full_spec("keep", {"name": "needy", "count": 2}) == {"name": "needy", "count": 2}
    with pytest.raises(ConfigError, match="unknown keep 'tial'"):
        full_spec("keep", "tial")


# Plugins

PLUGIN = """
from dsrl import register

@register("keep", "{name}")
def {name}(rewards, advantages, *, share: float = 0.5):
    return share
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder on sys.path; what is loaded from it is forgotten afterwards."""
    load_plugins()
    monkeypatch.setattr(registry.plugins, "_loaded", set(registry.plugins._loaded))
    monkeypatch.setattr(registry.plugins, "_failed", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("DSRL_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def distribution(folder, name, entry_points):
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[dsrl.plugins]\n" + entry_points)


def test_plugins_by_variable_and_by_entry_point(plugins, monkeypatch, capsys):
    """A module and a callable by entry point, two packages with an entry of the same name, two modules by variable."""
    for name in ("by_module", "by_variable", "by_second_variable", "same_one", "same_two"):
        (plugins / f"plugin_{name}.py").write_text(PLUGIN.format(name=name))
    body = "print('called')\n" + PLUGIN.format(name="by_callable")
    (plugins / "plugin_by_callable.py").write_text("def setup():\n" + textwrap.indent(body, "    "))
    distribution(plugins, "first", "module = plugin_by_module\nobjectives = plugin_same_one\n")
    distribution(plugins, "second", "callable = plugin_by_callable:setup\nobjectives = plugin_same_two\n")
    monkeypatch.setenv("DSRL_PLUGINS", " plugin_by_variable, plugin_by_second_variable,")
    expected = ["by_callable", "by_module", "by_second_variable", "by_variable", "same_one", "same_two"]
    for _ in range(2):
        assert [name for name in names("keep") if name.startswith(("by_", "same_"))] == expected
    assert capsys.readouterr().out == "called\n"
    assert build("keep", {"name": "by_module", "share": 0.2})(None, None) == 0.2
    assert build("keep", "by_callable")(None, None) == 0.5


def test_an_unknown_name_makes_plugins_load(plugins, monkeypatch):
    (plugins / "plugin_late.py").write_text(PLUGIN.format(name="late"))
    monkeypatch.setenv("DSRL_PLUGINS", "plugin_late")
    assert build("keep", "late")(None, None) == 0.5


def test_a_plugin_may_ask_for_names_while_it_loads(plugins, monkeypatch, capsys):
    (plugins / "plugin_asks.py").write_text("from dsrl import names\nprint('all' in names('keep'))\n")
    monkeypatch.setenv("DSRL_PLUGINS", "plugin_asks")
    names("keep")
    assert capsys.readouterr().out == "True\n"


def refusal(name):
    with pytest.raises(ConfigError) as error:
        build("keep", name)
    return str(error.value)


def test_a_failing_entry_point_breaks_nothing_that_does_not_use_it(plugins, caplog):
    (plugins / "plugin_broken.py").write_text("1 / 0\n")
    distribution(plugins, "broken", "oops = plugin_broken\n")
    label = "plugin dsrl.plugins:oops = plugin_broken failed to load: ZeroDivisionError: division by zero"
    for _ in range(2):
        assert "all" in names("keep")
        assert label in refusal("mine")
    assert [record.getMessage().startswith(label) for record in caplog.records] == [True]


def test_what_comes_before_the_failure_can_be_used(plugins, monkeypatch):
    taken = PLUGIN.format(name="double").replace('"double"', '"all"')
    (plugins / "plugin_double.py").write_text(PLUGIN.format(name="first") + taken)
    monkeypatch.setenv("DSRL_PLUGINS", "plugin_double")
    assert "first" in names("keep")
    assert ("keep 'all' is registered twice: by dsrl.objectives.keep.keep_all and by plugin_double.double") in refusal(
        "nothing"
    )


def test_a_plugin_that_does_not_exist(plugins, monkeypatch):
    monkeypatch.setenv("DSRL_PLUGINS", "no_such_plugin")
    for _ in range(2):
        with pytest.raises(ConfigError, match="DSRL_PLUGINS:no_such_plugin failed to load: No module named"):
            names("keep")


@pytest.mark.parametrize("name", ["a/b", "a b", "", "a=b", "a,b", "${a}"])
def test_a_name_that_no_command_line_can_hold_is_refused(name):
    with pytest.raises(ConfigError, match="a name is made of letters, digits, _ and -"):
        register("keep", name)(other_tail)


def test_a_field_that_no_configuration_can_hold_is_refused():
    with pytest.raises(ConfigError, match="verifier 'held': field 'weights' is not Optional"):

        @register("verifier", "held")
        @dataclass(kw_only=True)
        class Held:
            weights: dict[str, float] = None


def test_loading_twice_is_the_same_as_once():
    load_plugins()
    before = {kind: list(parts) for kind, parts in registered_parts.items()}
    load_plugins()
    assert {kind: list(parts) for kind, parts in registered_parts.items()} == before
