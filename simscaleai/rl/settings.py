"""Settings of a run of reinforcement learning, as in the YAML file of `simscale rl --config`.

name: reach
env_name: reach
num_envs: 128
agent: {name: ppo, total_timesteps: 300000, n_steps: 16}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from simscaleai.config import load_config
from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.rl.agents.agent import Agent, AgentConfig, agent_settings, resolve_agent
from simscaleai.rl.agents.ppo_config import PPOConfig
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.folder import check_path_in_file, is_run_name


@dataclass
class RLConfig(Converted):
    """Settings of a run.

    Attributes:
      name: the run's folder is `runs/<name>`; without one it is `checkpoints/<agent>_<env_name>`.
      env_name: the environment; see `list_envs`.
      env: fields of `SimConfig` that differ from its defaults; there are no cameras.
      reward: "default", "sparse", or {term: weight}; see `Task.set_reward`.
      num_envs: environments that step together, in each process.
      num_threads: threads that simulate; 0 is one for each core.
      torch_threads: threads of PyTorch on a CPU. More than one wait for work on the cores that simulate,
        and cost more than networks of this size gain by them.
      seed: decides everything.
      device: of the networks; "cpu", "cuda", "auto".
      agent: {"name": one of `list_agents()`, setting: value}; for "ppo" see `PPOConfig`, for "cem"
        `CEMConfig`. What is not given has the agent's default for a run; its `seed` is the one above.
      ppo: settings of PPO, a mapping or a `PPOConfig`: short for `agent: {name: ppo, ...}`.
      eval_every: updates between evaluations; 0 for one at the end only.
      eval_episodes, eval_seed: how many episodes an evaluation has, and which.
      stop_at_success: end when an evaluation succeeds at least as often; above 1: never.
      init_from: checkpoint of a cloned policy that the agent first learns to imitate.
      resume_from: checkpoint to resume from, or "auto" for the newest of the run.
      save_path: where the final agent goes; `final.pt` in the run's folder by default.
      use_tensorboard: None where it is installed.
      use_wandb, wandb_project: also record with Weights & Biases.
      show_progress: progress bar, or lines where the output is no terminal.
    """

    name: str | None = None
    env_name: str = "reach"
    env: dict[str, Any] = field(default_factory=dict)
    reward: Any = "default"
    num_envs: int = 128
    num_threads: int = 0
    torch_threads: int = 1
    seed: int = 0
    device: str = "cpu"
    agent: dict[str, Any] = field(default_factory=lambda: {"name": "ppo"})
    ppo: Any = None
    eval_every: int = 10
    eval_episodes: int = 100
    eval_seed: int = 0
    stop_at_success: float = 2.0
    init_from: str | None = None
    resume_from: str | None = None
    save_path: str | None = None
    use_tensorboard: bool | None = None
    use_wandb: bool = False
    wandb_project: str = "simscaleai"
    show_progress: bool = True

    def __post_init__(self) -> None:
        if self.ppo is None:
            return
        name = self.agent.get("name", "ppo")
        if name != "ppo":
            raise UserError(
                f"The agent is {name!r}, and ppo has settings too; give those of one agent."
            )
        settings = asdict(self.ppo) if isinstance(self.ppo, PPOConfig) else self.ppo
        if not isinstance(settings, Mapping):
            raise UserError(f"ppo is {self.ppo!r}; give a mapping of settings or a PPOConfig.")
        self.agent, self.ppo = {**self.agent, **settings}, None

    @property
    def folder(self) -> Path:
        """Where everything that the run writes goes."""
        default = Path("checkpoints", f"{self.agent.get('name', 'ppo')}_{self.env_name}")
        return RUNS / self.name if self.name else default

    def resolve_agent(self) -> tuple[type[Agent], AgentConfig]:
        """Return the class of the agent and all of its settings; UserError for unknown ones."""
        return resolve_agent(self.agent, self.seed)

    def complete(self) -> RLConfig:
        """Return a copy that lists every setting of the agent, also those that have their defaults."""
        return replace(self, agent=agent_settings(*self.resolve_agent()))

    def check(self) -> None:
        """Raise one UserError with everything that is out of range."""
        low = {
            "num_envs": 1,
            "num_threads": 0,
            "torch_threads": 1,
            "seed": 0,
            "eval_every": 0,
            "eval_episodes": 1,
        }
        wrong = [
            f"{name} is {getattr(self, name)}, at least {least} is allowed"
            for name, least in low.items()
            if getattr(self, name) < least
        ]
        wrong += [
            f"{name} is {getattr(self, name)}, at most {most} is allowed"
            for name, most in dict.fromkeys(("num_threads", "torch_threads"), 1024).items()
            if getattr(self, name) > most
        ]
        wrong += [f"agent.{problem}" for problem in self.resolve_agent()[1].problems()]
        if self.name is not None and not is_run_name(self.name):
            wrong.append(f"name is {self.name!r}, the name of a folder below runs/ is allowed")
        if wrong:
            raise UserError("The settings do not work: " + "; ".join(wrong) + ".")


def load_rl(
    path: str | Path | None = None, overrides: Sequence[str] = (), **values: Any
) -> RLConfig:
    """Build the settings of a run from a YAML file, then `key=value` words, then values.

    A `save_path` in the file stays within the run's folder: the file may be somebody else's.

    Raises:
      UserError: as of `load_config`, or the file names a path that it may not.
    """
    config = load_config(RLConfig, path, overrides, **values)
    said = {*values, *(word.partition("=")[0] for word in overrides)}
    if path is not None and config.save_path is not None and "save_path" not in said:
        check_path_in_file(config.save_path, "save_path", path, "--save-path", config.folder)
    return config
