"""The frame rate of a dataset as LeRobot wants it: a whole number of frames per second."""

from __future__ import annotations

from simscaleai.errors import UserError
from simscaleai.storage.episode_source import EpisodeSource

_FPS_SLACK = 1e-6


def whole_frame_rate(data: EpisodeSource, given: int | None) -> int:
    """Return the frames per second of a dataset, which LeRobot wants to be a whole number."""
    if data.contract is None:
        # there is no default: a wrong rate would make every timestamp wrong, and no tool would notice
        if given is None:
            raise UserError(
                f"{data.path} does not say how many frames a second it has; add --fps, such as --fps 20."
            )
        return given
    # control_dt is a float, so 1 / 0.05 need not be 20 to the last bit
    rate = 1 / data.contract.control_dt
    if abs(rate - round(rate)) > _FPS_SLACK * rate or round(rate) < 1:
        raise UserError(
            f"{data.path} has {rate:g} frames per second, and LeRobot wants a whole number; record it with a"
            " control_dt such as 0.05."
        )
    # refused and not obeyed: the contract is what the episodes were recorded with
    if given not in (None, round(rate)):
        raise UserError(
            f"{data.path} has {rate:g} frames per second, not {given}; leave --fps out."
        )
    return round(rate)
