"""A walk through a dungeon, by the same rules as its certificate, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator

from outlast_recipes.dungeon.dungeon import Dungeon, Thing
from outlast_recipes.dungeon.embedding import STEP
from outlast_recipes.dungeon.mission import NODE_LABELS, Edge
from outlast_recipes.dungeon.repair import WALKED
from outlast_recipes.dungeon.rules import Holding, Rules, pair
from outlast_recipes.dungeon.tiles import DOOR_SLOTS, HEIGHT, OPPOSITE, STAIR, TILES, WIDTH, Side, doors_of

CLOSED = {
    "k": "The door is locked. A small key opens it.",
    "K": "The door is locked. The boss key opens it.",
    "I": "The door does not move. The key item opens it.",
    "S": "The door does not move. A switch opens it.",
    "S1": "The door does not move. A switch opens it.",
    "b": "The wall sounds hollow. A bomb would open it.",
    "l": "The shutter is closed.",
    "s": "A window: one sees the next room, and cannot pass.",
}
_SIGNS = {"-": " ", "F": "·", "W": "█", "B": "▒", "M": "&", "P": "~", "O": ":", "I": "o", "S": ">", "D": " "}
_LOCKS = {"k": "k", "K": "K", "I": "I", "S": "S", "S1": "S", "b": "?", "l": "=", "s": '"'}


class Game:
    """A player in a dungeon.

    Attributes:
        room, row, column: where the player is.
        won: whether the player is at a goal.
        steps: rooms entered so far.
    """

    def __init__(self, dungeon: Dungeon) -> None:
        self.dungeon = dungeon
        self.room = dungeon.graph.start
        self.won = False
        self.steps = 0
        self._entered = {self.room}
        self._rules = Rules(dungeon.graph)
        self._everything = Holding(frozenset(dungeon.graph.nodes), self._rules.locks)
        self._done: set[Thing] = set()
        self._opened: frozenset[frozenset[str]] = frozenset()
        begin = next(thing for thing in dungeon.things if thing.label == "s")
        self.row, self.column = begin.row, begin.column
        self._done.add(begin)

    def left(self, room: str) -> Iterator[Thing]:
        """The things of a room that are not done; a goal does not count."""
        return (
            thing
            for thing in self.dungeon.things
            if thing.room == room and thing not in self._done and thing.label != "t"
        )

    def inventory(self) -> str:
        """What the player carries, in words."""
        taken, keys = {thing.label for thing in self._done}, self._keys()
        rest = [name for label, name in (("K", "boss key"), ("I", "key item")) if label in taken]
        if self.dungeon.graph.bombs or "i" in taken:
            rest.append("bombs")
        return ", ".join([f"{keys} small key{'' if keys == 1 else 's'}", *rest])

    def move(self, side: Side) -> str:
        """One tile towards a side, or through a door. Returns what happened, or ""."""
        row, column = self.row + STEP[side][0], self.column + STEP[side][1]
        if (self.row, self.column) in DOOR_SLOTS[side] and side in doors_of(self.dungeon.rooms[self.room]):
            return self._through(side)
        if not (0 <= row < HEIGHT and 0 <= column < WIDTH) or self.dungeon.rooms[self.room][row, column] not in WALKED:
            return ""
        self.row, self.column = row, column
        return self._step_on()

    def descend(self) -> str:
        """Take the stairs that the player stands on. Returns what happened."""
        if self.dungeon.rooms[self.room][self.row, self.column] != STAIR:
            return "There are no stairs here."
        below = next(stairs for stairs in self.dungeon.layout.stairs if self.room in stairs)
        edge = self._edge(next(iter(below - {self.room})))
        return self._enter(edge, None) if edge is not None else "The stairs lead nowhere from this side."

    def view(self) -> list[str]:
        """The room as 16 lines of 11 signs."""
        lines = [[_SIGNS[TILES[tile]] for tile in row] for row in self.dungeon.rooms[self.room]]
        for edge in self.dungeon.graph.leaving[self.room]:
            side = self.dungeon.layout.side(self.room, edge.target)
            reason = self._reason(edge)
            if side is not None and reason is not None and frozenset(edge[:2]) not in self.dungeon.layout.stairs:
                for row, column in DOOR_SLOTS[side]:
                    lines[row][column] = _LOCKS[reason]
        for thing in self.dungeon.things:
            if thing.room == self.room and thing not in self._done:
                lines[thing.row][thing.column] = "*" if thing.label == "t" else thing.label[0]
        lines[self.row][self.column] = "@"
        return ["".join(line) for line in lines]

    def around(self) -> list[str]:
        """The map so far: @ the player's room, # rooms that were entered."""
        rows, columns = self.dungeon.layout.size
        lines = [["."] * columns for _ in range(rows)]
        for room in self._entered:
            row, column = self.dungeon.layout.cells[room]
            lines[row][column] = "@" if room == self.room else "#"
        return [" ".join(line) for line in lines]

    def _step_on(self) -> str:
        here = [
            thing
            for thing in self.dungeon.things
            if thing[0] == self.room and thing[2:] == (self.row, self.column) and thing not in self._done
        ]
        self._done.update(here)
        told = []
        for thing in here:
            name = NODE_LABELS[thing.label]
            told.append(
                {"e": "A monster is defeated.", "m": "The mini-boss is defeated.", "b": "The boss is defeated."}.get(
                    thing.label, f"Done: {name}." if thing.label in ("p", "S", "S1") else f"Found: {name}."
                )
            )
            self.won = self.won or thing.label == "t"
        return " ".join(told)

    def _edge(self, target: str) -> Edge | None:
        return next((edge for edge in self.dungeon.graph.leaving[self.room] if edge.target == target), None)

    def _reason(self, edge: Edge) -> str | None:
        """The label that closes a passage now, or None. `k`: a small key would open it."""
        never = self._rules.reason(edge, self._everything)
        if never is not None:
            return never
        taken = {thing.label for thing in self._done}
        switches = {"S", "S1", "p"} & {label for labels in self.dungeon.graph.nodes.values() for label in labels}
        closed = {
            "K": "K" not in taken,
            "I": "I" not in taken,
            "b": not self.dungeon.graph.bombs and "i" not in taken,
            "l": any(self.left(self.room)),
            "k": pair(edge) not in self._opened,
        }
        for label, fallbacks in (("S", ("S", "p")), ("S1", ("S1", "S", "p"))):
            closed[label] = next((each for each in fallbacks if each in switches), "") not in taken
        return next((label for label in closed if label in edge.labels and closed[label] and label != "k"), None) or (
            "k" if "k" in edge.labels and closed["k"] else None
        )

    def _keys(self) -> int:
        return sum(thing.label == "k" for thing in self._done) - len(self._opened)

    def _through(self, side: Side) -> str:
        layout = self.dungeon.layout
        edge = next(
            (
                each
                for each in self.dungeon.graph.leaving[self.room]
                if layout.side(self.room, each.target) == side and frozenset(each[:2]) not in layout.stairs
            ),
            None,
        )
        if edge is None:
            return "The door does not open from this side."
        reason, told = self._reason(edge), ""
        if reason == "k" and self._keys() > 0:
            self._opened |= {pair(edge)}
            reason, told = self._reason(edge), "A small key opens the door. "
        if reason is not None:
            return told + CLOSED[reason]
        return told + self._enter(edge, side)

    def _enter(self, edge: Edge, side: Side | None) -> str:
        self.room = edge.target
        self.steps += 1
        self._entered.add(self.room)
        if side is None:
            stair = next(zip(*(self.dungeon.rooms[self.room] == STAIR).nonzero(), strict=True))
            self.row, self.column = int(stair[0]), int(stair[1])
        else:
            self.row, self.column = DOOR_SLOTS[OPPOSITE[side]][(len(DOOR_SLOTS[side]) - 1) // 2]
        return f"Room {self.room}. {self._step_on()}".strip()
