"""Compatibility of a checkpoint with a run: every difference of model, data and environment, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.registry import model_arguments
from simscaleai.tensor_types import StateDict

# {entry: type}, which a checkpoint needs, besides its tensors, to be resumed.
CONTENTS = {
    "policy": dict,
    "scaler": dict,
    "step": int,
    "data": dict,
    "random": list,
    "config": dict,
    "metrics": dict,
    "best": dict,
}

# {path of a tensor: its shape}, such as {("optimizer", "layer.weight", "exp_avg"): (64, 32)}.
Shapes = Mapping[tuple[str, ...], tuple[int, ...]]

# Settings that may differ from the checkpoint's without a message: they do not change what is learned.
_SILENT = {
    *("resume_from", "run_name", "checkpoint_dir", "show_progress", "device", "distributed"),
    *("backend", "strategy", "num_workers", "accumulate", "log_every", "eval_every", "save_every"),
    *("keep_checkpoints", "best_metric", "use_wandb", "wandb_project", "wandb_run_name"),
    *("use_tensorboard", "model_name", "model_kwargs", "compile", "cache_mb"),
}

# Settings that must not differ: the position in the data, the RNG state and the optimizer state depend on
# them.
_BINDING = ("seed", "optimizer")


def other_settings(saved: JsonDict, own: JsonDict) -> list[str]:
    """Return the settings that change what is learned and differ from those of the checkpoint."""
    keys = [k for k in own if k in saved and k not in (*_SILENT, *_BINDING)]
    return [f"{k} {own[k]} (was {saved[k]})" for k in keys if own[k] != saved[k]]


def changes_learning(name: str) -> bool:
    """Return whether a setting of a component, named as in `TrainConfig`, changes what is learned."""
    return name not in _SILENT


def policy_differences(saved: JsonDict, own: JsonDict) -> list[str]:
    """Return the differences of two descriptions of a policy (`models.policy.describe`)."""
    if saved.get("model_name") != own.get("model_name"):
        # Arguments of different models cannot be compared.
        return [f"the model is {saved.get('model_name')!r}, here {own.get('model_name')!r}"]
    # An argument that is left out has its default, and is no difference from the default written out.
    defaults = model_arguments(own["model_name"])
    old, new = ({**defaults, **about["model_kwargs"]} for about in (saved, own))
    found = [
        f"the model's {k} is {old.get(k)!r}, here {new.get(k)!r}"
        for k in sorted(old.keys() | new.keys())
        if old.get(k) != new.get(k)
    ]
    positions = [bool(about.get("relative_positions")) for about in (saved, own)]
    if positions[0] != positions[1]:
        found.append("relative_positions is {}, here {}".format(*positions))
    for name in ("shapes", "dtypes"):
        # Earlier releases recorded no dtypes: those are compared only where both have them.
        old, new = (about.get(f"obs_{name}") or {} for about in (saved, own))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and (name == "shapes" or (key in old and key in new)):
                values = (_text(of.get(key)) for of in (old, new))
                found.append("observation {!r} is {}, here {}".format(key, *values))
    if saved.get("contract") and own.get("contract"):
        before, now = (EnvContract.from_dict(about["contract"]) for about in (saved, own))
        if before.env_name != now.env_name:
            found.append(f"the environment is {before.env_name!r}, here {now.env_name!r}")
        known = {*before.obs_shapes, *now.obs_shapes}  # observations are compared above
        differences = before.differences(now)
        found += [d for d in differences if not any(f"observation {k!r}" in d for k in known)]
    return found


def data_differences(saved: object, own: JsonDict) -> list[str]:
    """Return the differences of two datasets (`BatchedDataset.identity`); [] if one has no identity."""
    if not isinstance(saved, Mapping) or not saved or not own:
        return []
    counts, digests = ((saved.get(name) or {}, own[name]) for name in ("count", "digest"))
    found = [
        f"{here} {name}, and {counts[0].get(name)} before"
        for name, here in counts[1].items()
        if counts[0].get(name) != here
    ]
    return found + [
        f"other values of {name!r}"
        for name in sorted(digests[0].keys() | digests[1].keys())
        if digests[0].get(name) != digests[1].get(name)
    ]


def tensor_differences(saved: Shapes, own: Shapes) -> list[str]:
    """Return a phrase for each tensor that is missing, unknown or of another shape.

    Tensors that the checkpoint may lack: the optimizer state of a parameter that has had no gradient, and the
    moving average of a run that had none.
    """
    found = []
    # The first two parts of a path, ("optimizer", parameter): its state is there as a whole, or not at all.
    optional = {path[:2] for path in own if path[0] != "weights"} - {path[:2] for path in saved}
    for path in sorted(own.keys() | saved.keys()):
        name = " ".join(path[1:] if path[0] == "weights" else path)
        if path not in saved:
            if path[:2] not in optional:
                found.append(f"{name} is missing")
        elif path not in own:
            found.append(f"{name} is not known")
        elif saved[path] != own[path]:
            found.append(f"{name} has shape {saved[path]}, expected {own[path]}")
    return found


def shapes_in(
    tree: object, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Yield (path, shape) of every tensor in nested dicts."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from shapes_in(value, (*path, str(key)))
    else:
        # A file may hold anything in place of a tensor; (-1,) is the shape of no tensor.
        shape: tuple[int, ...] = getattr(tree, "shape", (-1,))
        yield path, tuple(shape)


def _text(value: object) -> str:
    return "not there" if value is None else str(value)


def check_compatible(
    payload: StateDict,
    saved: Shapes,
    own: Shapes,
    about: JsonDict,
    source: str,
    settings: JsonDict,
) -> None:
    """Raise one UserError with every difference unless a run can be resumed from a checkpoint.

    Args:
      payload: contents of the checkpoint.
      saved, own: shapes of the tensors of the checkpoint, and of the run.
      about: description of the run's policy.
      source: what the error calls the checkpoint.
      settings: settings of the run.
    """
    # First that the entries are there and of the right types: the file may come from anywhere.
    missing = [key for key in CONTENTS if not isinstance(payload.get(key), CONTENTS[key])]
    place = {} if missing else payload["data"]
    if not all(type(place.get(key)) is int for key in ("epoch", "position")):
        lacks = ", ".join(missing or ["its place in the data"])
        raise UserError(f"The checkpoint {source!r} cannot be resumed: it lacks {lacks}.")
    best, value = payload["best"], payload["best"].get("value")
    if min(payload["step"], *place.values()) < 0 or (best and type(value) not in (int, float)):
        raise UserError(f"The checkpoint {source!r} cannot be resumed: its place cannot be.")
    try:
        wrong = policy_differences(payload["policy"], about)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"The checkpoint {source!r} describes no policy that is known.") from error
    before = payload["config"]
    wrong += [
        f"the {key} is {before[key]}, here {settings[key]}"
        for key in _BINDING
        if key in before and before[key] != settings[key]
    ]
    if before.get("optimizer", settings["optimizer"]) != settings["optimizer"]:
        # The state of another optimizer has other tensors: the sentence above says enough.
        saved, own = ({k: v for k, v in s.items() if k[0] != "optimizer"} for s in (saved, own))
    wrong += tensor_differences(saved, own)
    if wrong:
        raise UserError(
            f"The checkpoint {source!r} does not fit this run: " + "; ".join(wrong) + "."
        )
