"""One registry for every replaceable part, and the one form in which a part is chosen.

    @register("keep", "longest")
    def longest(rewards, advantages, *, share: float = 0.5): ...

A part is chosen by its name, `keep=longest`, or, with parameters beside the name, `keep={name: longest, share: 0.2}`.
The parameters of a class are its dataclass fields, those of a function its keyword-only arguments.

    parts.py        kinds and names: register, names, build
    parameters.py   the typed parameters of a part, and the values given for them
    weighted.py     several parts with a weight each
    plugins.py      the modules that register: built-in parts, entry points, DSRL_PLUGINS
"""

from dsrl.registry.parts import (
    KINDS,
    build,
    config_schema,
    find,
    full_spec,
    names,
    parse_spec,
    register,
    registered_parts,
)
from dsrl.registry.plugins import load_plugins
from dsrl.registry.weighted import build_weighted

__all__ = [
    "KINDS",
    "build",
    "build_weighted",
    "config_schema",
    "find",
    "full_spec",
    "load_plugins",
    "names",
    "parse_spec",
    "register",
    "registered_parts",
]
