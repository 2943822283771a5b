"""What a run of reinforcement learning shows while it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from simscaleai.errors import printable
from simscaleai.progress import can_draw
from simscaleai.rl.settings import RLConfig

_LINE_SECONDS = 10.0


class RLProgress:
    """A progress bar, or a line now and then where the output is no terminal; a context manager."""

    def __init__(self, config: RLConfig, start_step: int, main: bool) -> None:
        shown = config.show_progress and main
        self._console = Console(stderr=True, quiet=not shown)
        self._total = config.ppo.total_timesteps
        self._evaluation = ""
        self._spoken = time.perf_counter()
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            disable=not (shown and can_draw(self._console)),
        )
        self._task = self._bar.add_task("PPO", total=self._total, completed=start_step, text="")

    def __enter__(self) -> RLProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Tell the user one thing."""
        self._console.print(printable(text), highlight=False, soft_wrap=True, markup=False)

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show where the run is."""
        parts = [f"{numbers['steps_per_second']:,.0f} steps/s"]
        if "episode_reward" in numbers:
            parts.append(f"return {numbers['episode_reward']:.1f}")
        if numbers.get("diverged"):
            parts.append(f"{numbers['diverged']:.0f} unstable episodes")
        parts += [f"KL {numbers['approx_kl']:.3f}", self._evaluation]
        text = "  ".join(part for part in parts if part)
        self._bar.update(self._task, completed=step, text=text)
        now = time.perf_counter()
        if self._bar.disable and now - self._spoken > _LINE_SECONDS:
            self._spoken = now
            self.say(f"{step:,}/{self._total:,} steps  {text}")

    def evaluated(self, evaluation: Mapping[str, Any]) -> None:
        """Show the newest evaluation from now on."""
        self._evaluation = f"success {evaluation['success_rate']:.0%}"
