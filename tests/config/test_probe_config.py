"""How a probe is chosen, and what is refused before anything is loaded."""

import pytest

from dsrl.config.compose import compose
from dsrl.config.help import help_text
from dsrl.errors import ConfigError
from dsrl.probes.alignment import Alignment


def test_a_run_has_none_unless_it_is_chosen():
    assert compose().probe is None
    probe = compose(["+probe=alignment", "probe.every=5", "probe.levels=[0,3]"]).probe
    assert isinstance(probe, Alignment) and (probe.every, probe.levels) == (5, [0, 3])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+probe=alignment", "probe.every=0"], "probe: every=0: must be at least 1 iteration"),
        (["+probe=alignment", "probe.levels=[4]"], r"probe: levels=\[4\]: allowed are some of 0, 1, 2, 3"),
        (["+probe=alignment", "probe.levels=[]"], r"probe: levels=\[\]: allowed are some of 0, 1, 2, 3"),
        (["+probe=alignment", "probe.groups=layers"], "probe: groups=layers: allowed are kinds, blocks"),
        (["+probe=alignment", "probe.known_share=0"], r"probe: known_share=0.0: must be in \(0, 1\]"),
        (["+probe=alignment", "probe.samples=0"], "probe: samples=0: must be at least 1"),
        (["+probe=alignment", "probe.evry=1"], "unknown key 'probe.evry'. Did you mean 'probe.every'"),
        (["+probe=alignement"], "probe=alignement: no such probe; there are .*Did you mean 'alignment'"),
        (["probe=alignment"], r"probe=alignment: probe is not set yet; write \+probe=NAME"),
        (["probe.every=5"], r"probe.every=5: there is no probe; add one by \+probe=NAME"),
        (["+probe.every=5"], r"probe.every: there is no probe; add one by \+probe=NAME"),
        (
            ["+probe=alignment", "probe.levels=[0,2]", "trainer=fsdp", "trainer.devices=2"],
            r"probe.levels=\[0, 2\]: level 2 runs each rank by itself.*trainer=fsdp deals them out; leave 2 out",
        ),
        (
            ["+probe=alignment", "probe.levels=[2]", "trainer.compile=true"],
            r"probe.levels=\[2\]: level 2 looks into blocks, and trainer.compile=true; leave 2 out",
        ),
    ],
)
def test_what_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


def test_help_lists_it():
    text = help_text(["+probe=alignment"])
    assert "\nProbes (+probe=NAME, probe.every=N)\n  probe " in text and "\nprobe=alignment" in text
    assert "probe.known_share                  0.5                      P(y) can know a token" in text
