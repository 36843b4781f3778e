"""Matches the parameters of a saved optimizer to those of the program by name, in any order.

A parameter is written "name dtype shape", such as "model.weight float32 10x3". Its name is "?" if no tracked module has
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.errors import ANOTHER_NAME, ResumeRefused


def match(
    part: str, stored: Sequence[Sequence[str]], own: Sequence[Sequence[str]]
) -> list[tuple[int, list[int]]] | None:
    """For each group of the program: the number of the stored group, and the stored positions of its parameters.

    None if the order is the same.
    """
    if [list(group) for group in stored] == [list(group) for group in own]:
        return None
    advice = (
        "The parameters that it updates are fixed for a run: "
        f"build it as before, or begin a new run under {ANOTHER_NAME}."
    )
    names = [[entry.split(" ")[0] for entry in group] for group in stored]
    mine = [[entry.split(" ")[0] for entry in group] for group in own]
    flat, flat_mine = [name for group in names for name in group], [name for group in mine for name in group]
    if "?" in flat or "?" in flat_mine or len(set(flat)) < len(flat):
        _check_positions(part, stored, own, advice)
        return None
    if missing := sorted(set(flat) ^ set(flat_mine)):
        where = (
            "the checkpoint and not in this program" if missing[0] in flat else "this program and not in the checkpoint"
        )
        raise ResumeRefused(f"{part} updates {missing[0]} in {where}. {advice}")
    forms = dict(zip(flat, (entry for group in stored for entry in group), strict=True))
    for entry in (entry for group in own for entry in group):
        if forms[entry.split(" ")[0]] != entry:
            raise ResumeRefused(
                f"{part} updates {forms[entry.split(' ')[0]]} in the checkpoint and {entry} in this program. {advice}"
            )
    places = {name: index for index, name in enumerate(flat)}
    found = []
    for group in mine:
        number = next((index for index, theirs in enumerate(names) if set(theirs) == set(group)), None)
        if number is None:
            raise ResumeRefused(
                f"{part} has its parameters in other groups than in the checkpoint: no stored group holds exactly "
                f"{', '.join(group[:3])}{', ...' if len(group) > 3 else ''}. {advice}"
            )
        found.append((number, [places[name] for name in group]))
    return found


def name_of(entry: str) -> str:
    """The name in "name dtype shape"; "?" if no tracked module has the parameter."""
    return entry.split(" ", maxsplit=1)[0]


def forms_of(groups: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Dtype and shape of each parameter, by group."""
    return [[entry.split(" ")[1:] for entry in group] for group in groups]


def _check_positions(part: str, stored: Sequence[Sequence[str]], own: Sequence[Sequence[str]], advice: str) -> None:
    """Check that parameters without names have the same dtypes and shapes in the same order."""
    sizes = [[len(group) for group in groups] for groups in (stored, own)]
    if sizes[0] != sizes[1]:
        raise ResumeRefused(
            f"{part} has groups of {sizes[0]} parameters in the checkpoint and of {sizes[1]} in this program. {advice}"
        )
    for number, (theirs, mine) in enumerate(zip(stored, own, strict=True)):
        for index, (one, other) in enumerate(zip(theirs, mine, strict=True)):
            (name, *form), (own_name, *own_form) = one.split(" "), other.split(" ")
            if form == own_form and name == own_name:
                continue
            why = "Track the model, too, so that parameters are known by their names."
            if form == own_form and own_name == "?":
                why = (
                    "Its module has other parameters now: a load_state_dict() that replaces them (assign=True) leaves "
                    "the optimizer with the old "
                    "ones. Build the optimizer after track(model=...), and track it in a call of its own."
                )
            raise ResumeRefused(
                f"Parameter {index} of group {number} of {part} is {one.replace('? ', '')} in the checkpoint and "
                f"{other.replace('? ', '')} in this program. {advice} {why}"
            )


def reorder(
    state: Mapping[str, Any], places: Sequence[tuple[int, list[int]]], groups: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """An optimizer's state with its parameters in the order of this program."""
    stored = [index for group in state["param_groups"] for index in group["params"]]
    known = set(stored)
    new: dict[Any, Any] = {key: value for key, value in state["state"].items() if key not in known}
    made, count = [], 0
    for (number, where), own in zip(places, groups, strict=True):
        for index, place in enumerate(where, start=count):
            if stored[place] in state["state"]:
                new[index] = state["state"][stored[place]]
        group = {**state["param_groups"][number], "params": list(range(count, count + len(where)))}
        group.pop("param_names", None)
        made.append(group | ({"param_names": own["param_names"]} if "param_names" in own else {}))
        count += len(where)
    return {**state, "state": new, "param_groups": made}
