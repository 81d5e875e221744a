"""Errors say what happened, whether it took effect, and what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from chatlab import errors
from chatlab.errors import ChatlabError, InvalidInput, SendFailed, SendUncertain, WaitTimeout

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ChatlabError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_an_effect_and_keeps_what_it_was_given(
    kind: type[ChatlabError],
) -> None:
    error = kind("It broke.")
    assert error.what == "It broke."
    assert error.effect, "says nothing about whether the operation took effect"
    assert str(error).splitlines() == [
        line for line in ("It broke.", error.effect, error.todo) if line
    ]
    full = kind("It broke.", "An effect.", "A thing to do.")
    assert str(full) == "It broke.\nAn effect.\nA thing to do."


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_copying_and_pickling(kind: type[ChatlabError]) -> None:
    error = kind("It broke.", "An effect.", "A thing to do.")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is kind
        assert str(other) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_the_name_and_three_lines(kind: type[ChatlabError]) -> None:
    lines = kind("It broke.", "An effect.", "A thing to do.")._render_traceback_()
    assert lines == [f"{kind.__name__}: It broke.", "An effect.", "A thing to do."]


def test_a_time_out_and_bad_input_are_also_what_python_calls_them() -> None:
    assert issubclass(WaitTimeout, TimeoutError)
    assert issubclass(InvalidInput, ValueError)


def test_definite_and_uncertain_are_never_confused() -> None:
    assert not issubclass(SendUncertain, SendFailed)
    assert not issubclass(SendFailed, SendUncertain)
    assert "may or may not" in SendUncertain("x").effect


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([ │├└─]*)(\w+)", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}
