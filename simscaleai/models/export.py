"""Export a policy for other runtimes: ONNX, or a program of torch.export.

    exported = export_policy(ModelPolicy.from_checkpoint("runs/a"), Path("policy.onnx"), "onnx")
    exported.max_difference            # from the policy itself, on observations like its training data's

The file has the whole function from raw observations to an action chunk: normalization, network, sampling,
and the range of actions. Inputs are, in this order and with a batch axis of 1:

    state      (1, d) float32: the vectors of the observation, concatenated in the order of "state" in the
               description; (1, H, d) for a policy that reads H observations
    images     (1, H, W, 3) uint8 each, by key
    noise      (1, ...) float32, standard normal, for policies that sample

The output is "actions" (1, L, action_dim). What surrounds the function stays with the caller: to execute
`n_action_steps` of L actions before the next call. A description in JSON is written beside the file.

Trap: an instruction becomes a constant of the file, since it is turned into numbers outside of the network.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simscaleai import __version__, seeding
from simscaleai.array_types import ArrayDict
from simscaleai.convert import plain
from simscaleai.errors import ExistingFileError, UserError, unknown_name
from simscaleai.guards import reason
from simscaleai.json_types import JsonDict
from simscaleai.models.policy import ModelPolicy, policy_noise
from simscaleai.observations import ObsSpec
from simscaleai.storage.atomic import atomic_path, require_writable
from simscaleai.tensor_types import Tensors

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
TOLERANCE = 1e-5
"""Largest difference of an action from the policy's that is accepted."""

CHECKED = 16  # observations that are compared
NOISE = "noise"
_SHOWN = 160  # characters of an error of the exporter

Run = Callable[[Tensors], np.ndarray]
"""Inputs by name to actions (1, L, action_dim)."""


@dataclass(frozen=True)
class Exported:
    """A policy in a file.

    Attributes:
      path: the file.
      description: the file that describes inputs and output.
      max_difference: largest difference of an action from the policy's, over `CHECKED` observations.
    """

    path: Path
    description: Path
    max_difference: float


class ExportablePolicy(nn.Module):
    """A policy as a function of tensors alone: see the module docstring.

    Args:
      policy: the policy.
      instruction: what it shall do, if it reads instructions.

    Attributes:
      names: of the inputs, in their order.
    """

    def __init__(self, policy: ModelPolicy, instruction: str = "") -> None:
        super().__init__()
        if policy.spec is None:
            raise UserError(
                "A policy without an observation spec cannot be exported; train it on a dataset, which says"
                " what it reads."
            )
        # a copy, whose weights need no gradient: a program that loads it shall not have to care
        self.policy = copy.deepcopy(policy).requires_grad_(False)
        self._instruction = instruction
        self.names = [*(["state"] if policy.spec.state_keys else []), *policy.spec.image_keys]
        if policy.declared.noise_shape is not None:
            self.names.append(NOISE)

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Return actions (1, L, action_dim) for the inputs in the order of `names`."""
        obs = dict(zip(self.names, values, strict=True))
        noise = obs.pop(NOISE, None)
        options: dict[str, object] = {} if noise is None else {NOISE: noise}
        if self.policy.declared.uses_language:
            options["language"] = [self._instruction]
        return self.policy.chunks(obs, **options)


def export_policy(
    policy: ModelPolicy,
    path: Path,
    kind: str,
    instruction: str = "",
    overwrite: bool = False,
    checkpoint_sha256: str = "",
) -> Exported:
    """Write a policy for another runtime, and compare what it does there with the policy.

    Args:
      policy: on the CPU.
      path: the file.
      kind: one of `FORMATS`.
      instruction: what it shall do, if it reads instructions.
      overwrite: replace an existing file.
      checkpoint_sha256: written into the description.

    Raises:
      UserError: an unknown format, a missing package, a policy that cannot be exported, or one that acts
        otherwise there; the file is not written then.
      ExistingFileError: the file exists.
    """
    if kind not in FORMATS:
        raise unknown_name("format of a policy", kind, list(FORMATS))
    _require_packages(kind)
    if policy.declared.uses_language and not instruction:
        raise UserError(
            "The policy reads an instruction; give the one to export with --instruction."
        )
    description = path.with_name(path.name + ".json")
    for file in (path, description):
        require_writable(file, "choose another file with --output")
        if file.exists() and not overwrite:
            raise ExistingFileError(
                f"{file} exists already; choose another --output, or --overwrite."
            )
    module = ExportablePolicy(policy, instruction).eval()
    example = next(_examples(policy, instruction, 1))[0]
    with atomic_path(path) as temporary:
        try:
            with _quiet():
                run = _WRITERS[kind](module, example, temporary)
        except UserError:
            raise
        except Exception as error:  # exporters raise whatever their passes raise
            raise UserError(
                f"The model {_name(policy)!r} cannot be exported as {kind}: {reason(error)[:_SHOWN]}."
            ) from error
        difference = max(
            float(np.abs(run(inputs) - wanted).max())
            for inputs, wanted in _examples(policy, instruction, CHECKED)
        )
        if not difference <= TOLERANCE:  # NaN, too
            raise UserError(
                f"The exported policy differs from the policy by {difference:.2g} (at most {TOLERANCE:g} is"
                " accepted); it is not written."
            )
    about = _describe(policy, module, example, kind, instruction)
    about |= {"max_difference": difference, "checkpoint_sha256": checkpoint_sha256}
    with atomic_path(description) as temporary:
        temporary.write_text(json.dumps(plain(about), indent=2) + "\n", encoding="utf-8")
    return Exported(path, description, difference)


def _onnx(module: ExportablePolicy, example: Tensors, path: Path) -> Run:
    program = torch.onnx.export(
        module,
        tuple(example[name] for name in module.names),
        dynamo=True,
        input_names=module.names,
        output_names=["actions"],
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # it would take every core
    session = onnxruntime.InferenceSession(path.read_bytes(), options)
    # an input that has no influence is left out of the graph
    names = [found.name for found in session.get_inputs()]

    def run(inputs: Tensors) -> np.ndarray:
        fed = {name: inputs[name].numpy() for name in names}
        actions: np.ndarray = session.run(["actions"], fed)[0]
        return actions

    return run


def _torch_export(module: ExportablePolicy, example: Tensors, path: Path) -> Run:
    with torch.no_grad():
        program = torch.export.export(
            module, tuple(example[name] for name in module.names), strict=False
        )
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()

    def run(inputs: Tensors) -> np.ndarray:
        with torch.no_grad():
            actions: np.ndarray = loaded(*(inputs[name] for name in module.names)).numpy()
        return actions

    return run


_WRITERS = {"onnx": _onnx, "torch-export": _torch_export}


def _examples(
    policy: ModelPolicy, instruction: str, count: int
) -> Iterator[tuple[Tensors, np.ndarray]]:
    """Yield inputs by name, and the policy's own actions (1, L, action_dim) for them."""
    own, mask = policy.fork(), np.ones(1, dtype=bool)
    for k in range(count):
        own.reset(mask, [k], [instruction])
        obs = _observation(policy, k)
        wanted = own.predict_action_chunk(obs)  # (1, L, A)
        tensors = own.tensors(obs)  # {"state": (1, d), image: (1, H, W, 3)}
        steps = policy.declared.n_obs_steps
        if steps > 1:  # at the start of an episode, its first observation is repeated
            tensors = {
                key: v.unsqueeze(1).repeat_interleave(steps, 1) for key, v in tensors.items()
            }
        shape = policy.declared.noise_shape
        if shape is not None:
            tensors[NOISE] = torch.from_numpy(policy_noise(k, 0, shape))[None]
        yield tensors, wanted


def _observation(policy: ModelPolicy, k: int) -> ArrayDict:
    """Return a random observation {key: (1, ...)}, of the mean and width of the training data."""
    spec, rng = policy.spec, seeding.generator(0, "export", k)
    assert spec is not None
    obs: ArrayDict = {}
    for key in spec.image_keys:
        obs[key] = _image(rng, spec, key)
    for key in spec.state_keys:
        shape = (1, *spec.shapes[key])
        obs[key] = rng.standard_normal(shape).astype(spec.dtypes[key])
    mean, std = (getattr(policy.normalizer, f"state_{part}", None) for part in ("mean", "std"))
    if mean is not None and std is not None and len(mean) == spec.state_dim:
        start = 0
        for key in spec.state_keys:
            width = math.prod(spec.shapes[key])
            part = slice(start, start + width)
            shift, scale = (s[part].numpy().reshape(spec.shapes[key]) for s in (mean, std))
            obs[key] = (shift + scale * obs[key]).astype(spec.dtypes[key])
            start += width
    return obs


def _image(rng: np.random.Generator, spec: ObsSpec, key: str) -> np.ndarray:
    dtype, shape = np.dtype(spec.dtypes[key]), (1, *spec.shapes[key])
    if dtype.kind == "f":  # depth, m
        return rng.uniform(0.2, 2.0, shape).astype(dtype)
    return rng.integers(0, 256, shape).astype(dtype)


def _describe(
    policy: ModelPolicy, module: ExportablePolicy, example: Tensors, kind: str, instruction: str
) -> JsonDict:
    """Return what a program that runs the file has to know."""
    spec, contract = policy.spec, policy.contract
    assert spec is not None
    with torch.no_grad():
        shape = list(module(*(example[name] for name in module.names)).shape)
    return {
        "format": kind,
        "version": __version__,
        "model": _name(policy),
        "inputs": [
            {
                "name": name,
                "shape": list(example[name].shape),
                "dtype": str(example[name].dtype).removeprefix("torch."),
            }
            for name in module.names
        ],
        "output": {"name": "actions", "shape": shape, "dtype": "float32"},
        "state": {key: list(spec.shapes[key]) for key in spec.state_keys},
        "n_action_steps": policy.n_action_steps,
        "temporal_ensemble": policy.temporal_ensemble,
        "instruction": instruction if policy.declared.uses_language else None,
        "control_dt": contract.control_dt if contract is not None else None,
        "action_names": list(contract.action_names) if contract is not None else [],
        "action_units": list(contract.action_units) if contract is not None else [],
        "env_name": contract.env_name if contract is not None else None,
    }


def _name(policy: ModelPolicy) -> str:
    name, _ = getattr(policy.model, "registered", (type(policy.model).__name__, {}))
    return str(name)


def _require_packages(kind: str) -> None:
    wanted = ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ()
    missing = [package for package in wanted if find_spec(package) is None]
    if missing:
        raise UserError(
            f"Exporting as {kind} needs {', '.join(missing)}; install it with:"
            " pip install 'simscaleai[onnx]'."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, which print and log what their passes do."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
