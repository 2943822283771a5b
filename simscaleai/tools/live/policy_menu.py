"""The policies that a viewer can switch between, each loaded when it is chosen for the first time.

policies = Policies(["runs/a", "runs/b"])
policies.names                    # ["a", "b"]
env, policy = policies.load(1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simscaleai.errors import MissingFileError, UserError
from simscaleai.evaluation.report_folder import short_names
from simscaleai.policy import Policy
from simscaleai.rollout.policies import resolve_policy
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim.factory import make_policy_env
from simscaleai.storage.find_checkpoint import runs_in
from simscaleai.tools.live.player import LiveEnv

MOST = 100  # policies in a menu


class Policies:
    """See the module docstring.

    Args:
      names: policies, and folders of several runs.
      env_name, robot, env_kwargs: as of `find_policy_source`.

    Attributes:
      names: short names, for a menu.
      title: of the policy that was loaded last.

    Raises:
      UserError: one of them does not exist, or there are too many.
    """

    def __init__(
        self,
        names: Sequence[str],
        env_name: str | None = None,
        robot: str | None = None,
        env_kwargs: Mapping[str, object] | None = None,
    ) -> None:
        self._policies = list(dict.fromkeys(found for name in names for found in _expand(name)))
        if not 1 <= len(self._policies) <= MOST:
            raise UserError(f"A viewer takes 1 to {MOST} policies, not {len(self._policies)}.")
        self.names = short_names(self._policies)
        self.title = ""
        self._env_name, self._robot, self._env_kwargs = env_name, robot, env_kwargs
        self._env: LiveEnv | None = None
        self._made: tuple[object, ...] = ()  # what `_env` was made from

    def load(self, index: int) -> tuple[LiveEnv, Policy]:
        """Return an environment and its policy; the environment of the last call where it fits this one too.

        Raises:
          UserError: the policy cannot be loaded, or does not fit the environment.
        """
        source = find_policy_source(
            self._policies[index], self._env_name, robot=self._robot, env_kwargs=self._env_kwargs
        )
        wanted = (source.env_name, source.config)
        env = self._env if self._made == wanted else None
        if env is None:
            env = make_policy_env(source.env_name, source.config)
        try:
            policy = source.policy(env)
        except BaseException:
            if env is not self._env:
                env.close()
            raise
        if env is not self._env:
            self.close()
            self._env, self._made = env, wanted
        self.title = f"{source.env_name} | {source.title}"
        return env, policy

    def close(self) -> None:
        """Release the renderer of a policy that reads images."""
        if self._env is not None:
            self._env.close()


def _expand(name: str) -> list[str]:
    """Return a policy in full, or the checkpoints of all runs in a folder."""
    try:
        return [resolve_policy(name)]
    except MissingFileError:
        runs = [] if not Path(name).is_dir() else list(runs_in(Path(name)))
        if not runs:
            raise
        return [resolve_policy(str(run)) for run in runs]
