"""Run policies over episodes: the loop, its recorders, and policies by name."""

from simscaleai.rollout.loop import ExplorationNoise, Recorder, Rollout, run_episodes
from simscaleai.rollout.outcomes import EpisodeResult, OutcomeRecorder

__all__ = [
    "EpisodeResult",
    "ExplorationNoise",
    "OutcomeRecorder",
    "Recorder",
    "Rollout",
    "run_episodes",
]
