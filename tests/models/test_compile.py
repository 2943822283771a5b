"""Networks are compiled whole: no call falls back to Python in between."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simscaleai.models import create_model

MODELS = ["act", "bc", "diffusion", "flow"]


def batch(model: Any, state_dim: int = 20) -> dict[str, Any]:
    steps = (4,) if getattr(model, "n_obs_steps", 1) == 1 else (4, model.n_obs_steps)
    length = model.action_horizon
    data: dict[str, Any] = {"observations": {"state": torch.randn(*steps, state_dim)}}
    data["actions"] = torch.rand(4, length, 4) if length > 1 else torch.rand(4, 4)
    if length > 1:
        data["mask"] = torch.ones(4, length, dtype=torch.bool)
    return data


@pytest.mark.parametrize(
    "name", ["bc", "diffusion", *(pytest.param(m, marks=pytest.mark.slow) for m in ("act", "flow"))]
)
def test_a_training_step_is_one_graph(name: str) -> None:
    model: Any = create_model(f"{name}:debug")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    data = batch(model)
    torch.manual_seed(0)
    expected = model(data)["loss"]
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(data)["loss"], expected)


def test_of_the_vla_all_but_reading_words_is_one_graph() -> None:
    model: Any = create_model("vla:debug", dropout=0.0)
    torch._dynamo.reset()
    compiled = torch.compile(model.features, fullgraph=True, backend="eager")
    obs = {"image": torch.rand(2, 3, 64, 64)}
    tokens = model.language.tokenize(["go left", "go right"], torch.device("cpu"))
    torch.testing.assert_close(compiled(obs, tokens), model.features(obs, tokens))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_compiled_code_gives_the_same_gradients(name: str) -> None:
    model: Any = create_model(f"{name}:debug")
    if name in ("act", "bc"):
        model.eval()
    data = batch(model)
    grads = []
    for call in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        model.zero_grad()
        call(data)["loss"].backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(grads[0], grads[1])
