"""Progress of a run of reinforcement learning, in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from simscaleai.errors import printable
from simscaleai.rl.agents.agent import Agent
from simscaleai.terminal import can_draw

_LINE_SECONDS = 10.0


class RLProgress:
    """A progress bar, or a line every ten seconds if the output is no terminal; a context manager."""

    def __init__(self, agent: Agent, shown: bool) -> None:
        self._console = Console(stderr=True, quiet=not shown)  # stdout is for results
        self._total = agent.config.total_timesteps
        # {metric: format}, chosen by the agent
        self._formats = {
            key: text for group in agent.metric_groups for key, text in group.progress.items()
        }
        self._evaluation = ""
        self._last_line = time.perf_counter()
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            # metrics may have brackets in their names, which rich would take for markup
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            disable=not (shown and can_draw(self._console)),
        )
        self._task = self._bar.add_task(
            agent.name, total=self._total, completed=agent.timesteps, text=""
        )

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
        """Print a line."""
        self._console.print(printable(text), highlight=False, soft_wrap=True, markup=False)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the step and the metrics of the newest update."""
        parts = [f"{metrics['steps_per_second']:,.0f} steps/s"]
        if "episode_reward" in metrics:  # not in an update without the end of an episode
            parts.append(f"return {metrics['episode_reward']:.1f}")
        if metrics.get("diverged"):
            parts.append(f"{metrics['diverged']:.0f} unstable episodes")
        parts += [
            text.format(metrics[key]) for key, text in self._formats.items() if key in metrics
        ]
        parts.append(self._evaluation)
        text = "  ".join(part for part in parts if part)
        self._bar.update(self._task, completed=step, text=text)
        now = time.perf_counter()
        if self._bar.disable and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            self.say(f"{step:,}/{self._total:,} steps  {text}")

    def evaluated(self, evaluation: Mapping[str, float]) -> None:
        """Show the newest evaluation."""
        self._evaluation = f"success {evaluation['success_rate']:.0%}"
