"""Whose part it is: what goes wrong in a part that dsrl does not bring is told in its name, with its file and line."""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from dsrl.errors import DSRLError
from dsrl.registry.parts import registered_parts
from dsrl.registry.plugins import OWN

INSTALLED = {*map(str, (Path(sys.prefix), Path(sys.base_prefix))), *sysconfig.get_paths().values()}
"""Folders of Python and of what is installed; a plugin that is installed is known by what it registers."""
SHOWN = 4
"""Lines of a traceback that a message holds."""


class PartError(DSRLError):
    """Ends a run for what a registered part, or a callback, did: it raised, or returned what it must not."""


def label_of(part: Any, kind: str = "") -> str:
    """Name a part for messages: `objective 'mine' (parts.py:12)`; by its own name where it is not registered.

    Args:
        part: a registered class or function, an instance or `functools.partial` of one, or any other object.
        kind: its kind, where it may be unregistered.
    """
    owner = _made_of(part)
    known = _registered().get(owner)
    name = f"{known[0]} '{known[1]}'" if known else f"{kind} {owner.__qualname__}".strip()
    return f"{name}{_place(owner)}"


def blamed(error: BaseException) -> DSRLError | None:
    """Tell an exception in the name of the part in whose code it was raised, with the notes that it has.

    Returns:
        The error to show in its place: itself, where it is a message of dsrl; None where it was raised in code of dsrl
        or of a library, by no part.
    """
    if isinstance(error, DSRLError):
        return error
    frames = list(_foreign(error.__traceback__))
    if not frames or not isinstance(error, Exception):
        return None
    owner = next((found for frame, _ in reversed(frames) if (found := _owner(frame)) is not None), None)
    frame, line = frames[-1]
    label = owner or frame.f_code.co_qualname + _position(frame.f_code.co_filename, line)
    said = f"{label} failed: {type(error).__name__}: {error}".rstrip(": ")
    told = PartError("\n".join([said, *map(_line, frames[-SHOWN:])]))
    for note in getattr(error, "__notes__", []):
        told.add_note(note)
    return told


def blaming(call: Callable[..., Any], *arguments: Any, owner: Any) -> Any:
    """Call a function; what a part raises in it is raised as PartError, in its name.

    Args:
        call: the function.
        arguments: its arguments.
        owner: the part that is asked, which is named where no line of the traceback is another's.
    """
    try:
        return call(*arguments)
    except Exception as error:
        told = blamed(error)
        if isinstance(told, PartError) or not is_foreign(owner):
            raise (told or error) from (None if told is error else error)
        what = str(error) if isinstance(error, DSRLError) else f"{type(error).__name__}: {error}".rstrip(": ")
        raise PartError(f"{label_of(owner)} failed: {what}") from error


def call_part(owner: Any, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function or method of a part. Raises PartError where it does not take what it is given."""
    try:
        return function(*arguments)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # raised by the call itself
            raise PartError(f"{label_of(owner, kind)} cannot be called with what it is given: {error}") from error
        raise


def is_foreign(part: Any) -> bool:
    """Whether a part, or the class or function that it is made of, is not dsrl's own."""
    return not _made_of(part).__module__.startswith("dsrl.")


def _made_of(part: Any) -> Any:
    made = part.func if isinstance(part, functools.partial) else part
    return made if inspect.isroutine(made) or inspect.isclass(made) else type(made)


def _registered() -> dict[Any, tuple[str, str]]:
    """The kind and name of every registered class and function."""
    return {part: (kind, name) for kind, parts in registered_parts.items() for name, part in parts.items()}


def _foreign(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of code that is neither dsrl's nor of a library, with their lines, outermost first."""
    theirs = {_source(part) for part in _registered() if not part.__module__.startswith("dsrl.")}
    for frame, line in traceback.walk_tb(trace):
        file = frame.f_code.co_filename
        installed = file.startswith("<") or any(file.startswith(folder) for folder in INSTALLED)
        if file in theirs or not (installed or file.startswith(OWN)):
            yield frame, line


def _owner(frame: FrameType) -> str | None:
    """Name the part that a frame runs in: the one it is a method of, or the function that it is."""
    known = _registered()
    owner = frame.f_locals.get("self", frame.f_locals.get("cls"))
    kind = owner if inspect.isclass(owner) else type(owner)
    if owner is not None and kind in known:
        return label_of(kind)
    if owner is not None and any(base.__module__.startswith("lightning.") for base in kind.__mro__):
        return f"callback {kind.__qualname__}{_place(kind)}"
    found = (part for part in known if getattr(inspect.unwrap(part), "__code__", None) is frame.f_code)
    return next(map(label_of, found), None)


def _source(part: Any) -> str | None:
    """The file of a part; None where it was typed into an interpreter, or its module is no longer there."""
    try:
        return inspect.getsourcefile(part)
    except TypeError:
        return None


def _place(part: Any) -> str:
    try:
        return _position(str(_source(part)), inspect.getsourcelines(part)[1])
    except (OSError, TypeError):
        return ""


def _position(file: str, line: int) -> str:
    return f" ({file}:{line})"


def _line(place: tuple[FrameType, int]) -> str:
    frame, number = place
    code = frame.f_code
    return f"  {code.co_filename}:{number} in {code.co_name}: {linecache.getline(code.co_filename, number).strip()}"
