"""Subtasks of an episode as LeRobot's language columns (lerobot 0.6 and later).

Every frame of an episode repeats the whole list in `language_persistent`; a reader takes the last one that
began before the frame. `language_events`, which comes with it, stays empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simscaleai.json_types import JsonDict

if TYPE_CHECKING:
    import pyarrow as pa

Subtasks = list[tuple[int, str]]
"""(first step, what has to be done from there) of an episode, in order."""


def subtask_column(subtasks: Subtasks | None, steps: int, fps: int) -> pa.Array:
    """Return the column `language_persistent` of an episode of `steps`; for None, `language_events`."""
    import pyarrow as pa

    text = pa.string()
    fields = [pa.field("role", text, nullable=False), ("content", text), ("style", text)]
    if subtasks is not None:
        fields.append(pa.field("timestamp", pa.float32(), nullable=False))
    # always missing here; LeRobot's own type is Arrow's JSON, whose storage this is
    fields += [("camera", text), ("tool_calls", pa.list_(text))]
    rows: list[JsonDict] = [
        {"role": "assistant", "content": what, "style": "subtask", "timestamp": step / fps}
        for step, what in subtasks or ()
    ]
    # equal lists compress to almost nothing, so repeating them costs no room
    return pa.array([rows] * steps, pa.list_(pa.struct(fields)))
