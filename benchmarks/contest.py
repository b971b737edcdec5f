"""The other caches as rows of a table: each checked on the case, and timed if it answers at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.check import faults, function
from benchmarks.peers import Peer, why_not
from benchmarks.tables import duration, ratio
from benchmarks.timing import Row, Timing


@dataclass(slots=True)
class Contest:
    """Rows of other caches, what is wrong with each, and those that cannot take part.

    Args:
        rows: what to time.
        notes: by the names of rows.
        refused: the names and the reasons of the others.
    """

    rows: list[Row] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def cells(self, found: dict[str, Timing]) -> list[list[str]]:
        """Return the name, the time, the ratio and the note of each row, those without times last.

        Args:
            found: what came out, for more rows than these perhaps.
        """
        timed = [
            [name, duration(timing.seconds), ratio(timing.ratio), self.notes.get(name, "")]
            for name, timing in found.items()
        ]
        return timed + [[name, "", "", why] for name, why in self.refused.items()]


def enter(
    candidates: Iterable[Peer],
    answer: Any,
    ask: Callable[[Any], Callable[[], Any]],
    *,
    needs_hit: bool = True,
    tools: bool = False,
) -> Contest:
    """Put a function behind each of *candidates*, and ask it once.

    Args:
        candidates: the caches.
        answer: what the function returns.
        ask: makes a row's call of a function behind a cache.
        needs_hit: whether a cache without hits cannot take part.
        tools: whether the function takes tools as well.
    """
    contest = Contest()
    for peer in candidates:
        try:
            wrong = faults(peer.wrap, answer, awaited=peer.awaited)
            if needs_hit and any("no hit" in fault for fault in wrong):
                contest.refused[peer.title] = "; ".join(wrong)
                continue
            made = function(answer, awaited=peer.awaited, copied=needs_hit, tools=tools)
            call = ask(peer.wrap(made))
            asyncio.run(call()) if peer.awaited else call()
        except Exception as error:
            contest.refused[peer.title] = why_not(error)
        else:
            contest.notes[peer.title] = "; ".join(wrong)
            contest.rows.append(Row(name=peer.title, call=call, awaited=peer.awaited))
    return contest
