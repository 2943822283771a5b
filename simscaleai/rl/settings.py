"""Settings of a run of reinforcement learning; example of a YAML file for `simscale rl --config`:

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
from simscaleai.json_types import JsonDict
from simscaleai.rl.agents.agent import Agent, AgentConfig, agent_settings, resolve_agent
from simscaleai.rl.agents.ppo_config import PPOConfig
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.folder import check_path_in_file, is_run_name


@dataclass
class RLConfig(Converted):
    """Settings of a run.

    Attributes:
      name: the run folder is `runs/<name>`; without a name, it is `checkpoints/<agent>_<env_name>`.
      env_name: name of the environment; see `list_envs`.
      env: fields of `SimConfig` that differ from its defaults; without cameras by default.
      reward: "default", "sparse", or {term: weight}; see `Task.set_reward`.
      num_envs: number of environments that step together, in each process.
      num_threads: threads of the simulation; 0 for one per core.
      torch_threads: threads of PyTorch on a CPU. More than one compete with the simulation for cores, which
        costs more than networks of this size gain.
      seed: seed of all random numbers.
      device: device of the networks: "cpu", "cuda", "auto".
      agent: {"name": one of `list_agents()`, setting: value}; for "ppo" see `PPOConfig`, for "cem"
        `CEMConfig`. Other settings have the agent's `run_defaults`; its `seed` is the one above.
      ppo: settings of PPO, a mapping or a `PPOConfig`: short for `agent: {name: ppo, ...}`.
      eval_every: updates between evaluations; 0 for one at the end only.
      eval_episodes, eval_seed: number and seed of the episodes of an evaluation.
      stop_at_success: stop at an evaluation with at least this success rate; a value above 1 means never.
      init_from: checkpoint of a cloned policy; the agent first learns to imitate it.
      resume_from: checkpoint to resume from, or "auto" for the newest of the run.
      save_path: file of the final agent; `final.pt` in the run folder by default.
      use_tensorboard: None to use TensorBoard if it is installed.
      use_wandb, wandb_project: also record with Weights & Biases.
      show_progress: show a progress bar, or lines if the output is no terminal.
    """

    name: str | None = None
    env_name: str = "reach"
    env: JsonDict = field(default_factory=dict)
    # `Any`: OmegaConf, which checks the types in files, knows no unions with classes or mappings
    reward: Any = "default"  # str | Mapping[str, float] | RewardFunction
    num_envs: int = 128
    num_threads: int = 0
    torch_threads: int = 1
    seed: int = 0
    device: str = "cpu"
    agent: JsonDict = field(default_factory=lambda: {"name": "ppo"})
    ppo: Any = None  # Mapping | PPOConfig | None
    eval_every: int = 10
    eval_episodes: int = 100
    eval_seed: int = 0
    stop_at_success: float = 2.0  # a rate is at most 1
    init_from: str | None = None
    resume_from: str | None = None
    save_path: str | None = None
    use_tensorboard: bool | None = None
    use_wandb: bool = False
    wandb_project: str = "simscaleai"
    show_progress: bool = True

    def __post_init__(self) -> None:
        # `ppo` is another spelling of `agent`; afterwards only `agent` is set
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
        """Folder of all files that the run writes."""
        default = Path("checkpoints", f"{self.agent.get('name', 'ppo')}_{self.env_name}")
        return RUNS / self.name if self.name else default

    def resolve_agent(self) -> tuple[type[Agent], AgentConfig]:
        """Return the class of the agent and all of its settings; UserError for unknown names."""
        return resolve_agent(self.agent, self.seed)

    def complete(self) -> RLConfig:
        """Return a copy that lists every setting of the agent, including defaults."""
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
        # more threads than any machine has cores only exhaust its memory
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
    path: str | Path | None = None, overrides: Sequence[str] = (), **values: object
) -> RLConfig:
    """Build the settings of a run from a YAML file, then `key=value` words, then keyword values.

    A `save_path` in the file must lie in the run folder, as the file may come from somebody else.

    Raises:
      UserError: see `load_config`; or `save_path` in the file leads out of the run folder.
    """
    config = load_config(RLConfig, path, overrides, **values)
    # on the command line any path is allowed
    overridden = {*values, *(word.partition("=")[0] for word in overrides)}
    if path is not None and config.save_path is not None and "save_path" not in overridden:
        check_path_in_file(config.save_path, "save_path", path, "--save-path", config.folder)
    return config
