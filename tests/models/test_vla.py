from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.language import PADDING, SimpleLanguageEncoder, tokenize
from simscaleai.models.vla import PatchEmbedding, VisionEncoder, VisionLanguageAction

TINY: dict[str, Any] = {"image_size": 32, "embed_dim": 32, "num_heads": 2, "num_layers": 1}
FILM: dict[str, Any] = {"fusion": "film", "backbone_width": 8, "film_hidden_dim": 24}
TINY |= {"max_text_len": 8, "lang_num_layers": 1, "fusion_num_layers": 1, "dropout": 0.0}


def batch(horizon: int = 1, **obs: torch.Tensor) -> dict[str, Any]:
    chunk = (3, horizon, 4) if horizon > 1 else (3, 4)
    data: dict[str, Any] = {
        "observations": {"image": torch.rand(3, 3, 32, 32), **obs},
        "actions": torch.rand(chunk) * 2 - 1,
        "language": ["reach the red ball", "reach the blue ball", ""],
    }
    if horizon > 1:
        data["mask"] = torch.ones(3, horizon, dtype=torch.bool)
    return data


def test_parts_have_the_documented_shapes() -> None:
    image = torch.rand(2, 3, 128, 128)
    assert PatchEmbedding()(image).shape == (2, 64, 256)
    assert PatchEmbedding(stem="conv", embed_dim=32)(image).shape == (2, 64, 32)
    assert VisionEncoder(num_layers=1)(image).shape == (2, 65, 256)
    language = SimpleLanguageEncoder(num_layers=1)
    tokens = language.tokenize(["push", "pick up the cube"], torch.device("cpu"))
    assert tokens.shape == (2, 64) and language(tokens).shape == (2, 64, 256)
    with pytest.raises(UserError, match="must be a multiple"):
        PatchEmbedding(image_size=100)


@pytest.mark.parametrize("head", ["mlp", "diffusion", "flow"])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("fusion", [{}, FILM], ids=["transformer", "film"])
def test_heads_chunks_and_documented_keys(head: str, horizon: int, fusion: dict[str, Any]) -> None:
    model = VisionLanguageAction(
        **TINY, **fusion, action_head_type=head, action_horizon=horizon, state_dim=5
    )
    assert model.obs_keys == ("state", "image")
    data = batch(horizon, state=torch.randn(3, 5))
    out = model(data)
    assert out.keys() == {"predicted_actions", "loss", "action_mse"}
    assert out["predicted_actions"].shape == data["actions"].shape
    out["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    actions = model.predict(data["observations"], language="reach the red ball")
    assert actions.shape == data["actions"].shape and actions.abs().max() <= 1
    assert torch.equal(actions, model.predict(data["observations"], ["reach the red ball"] * 3))


@pytest.mark.parametrize("fusion", [{}, FILM], ids=["transformer", "film"])
def test_words_and_their_order_count_and_padding_does_not(fusion: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = VisionLanguageAction(**TINY, **fusion).eval()
    obs = batch()["observations"]
    red, blue = (model.predict(obs, f"reach the {c} ball") for c in ("red", "blue"))
    assert not torch.allclose(red, blue, atol=1e-6)
    assert not torch.allclose(red, model.predict(obs, "ball red the reach"), atol=1e-6)
    assert torch.equal(red, model.predict(obs, "Reach the RED ball!"))
    tokens = model.language.tokenize(["reach the red ball"] * 3, torch.device("cpu"))
    cut = tokens[:, :5]  # all that is no padding
    torch.testing.assert_close(model.features(obs, cut), model.features(obs, tokens))


@pytest.mark.parametrize(
    "fusion",
    [{}, FILM, {**FILM, "encoder_per_camera": False}],
    ids=["transformer", "film", "film-one-encoder"],
)
def test_state_and_every_camera_are_seen(fusion: dict[str, Any]) -> None:
    model = VisionLanguageAction(
        **TINY, **fusion, state_dim=5, cameras=["image", "wrist"], use_language=False
    )
    assert model.obs_keys == ("state", "image", "images/wrist") and not model.uses_language
    obs = {"image": torch.rand(3, 3, 32, 32), "images/wrist": torch.rand(3, 3, 32, 32)}
    obs["state"] = torch.randn(3, 5)
    before = model.predict(obs)
    for key, value in obs.items():
        assert not torch.equal(before, model.predict({**obs, key: torch.rand_like(value)})), key
    swapped = {**obs, "image": obs["images/wrist"], "images/wrist": obs["image"]}
    assert not torch.allclose(before, model.predict(swapped), atol=1e-6)


def test_tokens_are_the_same_in_every_process() -> None:
    here = tokenize(["Pick up the cube.", "pick  UP the cube", "a b c d e f g h i"], 1000, 8)
    assert torch.equal(here[0], here[1])
    assert (here[0] != PADDING).sum() == 5 and (here[2] != PADDING).all()
    # and in every version, or an old checkpoint would read other words
    assert here[0].tolist() == [1, 971, 54, 498, 300, 0, 0, 0]


@pytest.mark.parametrize("preset", ["debug", "small", "film", "full"])
def test_presets_are_built_without_memory(preset: str) -> None:
    with torch.device("meta"):
        model: Any = create_model(f"vla:{preset}")
    count = sum(p.numel() for p in model.parameters())
    least, most = {
        "debug": (1e5, 1e6),
        "small": (1e6, 3e6),
        "film": (3e5, 1e6),
        "full": (4e8, 6e8),
    }[preset]
    assert least < count < most
    assert model.registered[0] == "vla"


def test_the_documented_full_configuration_is_built_without_memory() -> None:
    with torch.device("meta"):
        model: Any = create_model(
            "vla", image_size=224, embed_dim=1024, num_heads=16, num_layers=24
        )
        image = torch.zeros(1, 3, 224, 224)
        tokens = torch.zeros(1, 64, dtype=torch.long)
        assert len(model.vision.layers.blocks) == 24
        assert model.features({"image": image}, tokens).shape == (1, 1024)


@pytest.mark.parametrize("build", [PatchEmbedding, partial(create_model, "vla")])
def test_an_unknown_stem_is_an_error(build: Callable[..., object]) -> None:
    with pytest.raises(UserError, match=r"Unknown stem 'foo'; known: conv, patch"):
        build(stem="foo")


def test_with_a_conv_stem_all_weights_learn_and_the_instruction_reaches_the_pictures() -> None:
    model = VisionLanguageAction(**TINY, stem="conv", cameras=["image", "wrist"])
    data = batch(**{"images/wrist": torch.rand(3, 3, 32, 32)})
    model(data)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.vision.parameters())
    without = VisionLanguageAction(**TINY, stem="conv", use_language=False)
    assert without.vision.film is None
    vision, image = model.vision.eval(), torch.rand(2, 3, 32, 32)
    said = torch.randn(2, 32)
    assert vision(image, said).shape == vision(image).shape == (2, 5, 32)
    assert not torch.allclose(vision(image, said), vision(image), atol=1e-4)


def test_film_reaches_the_maps_of_every_camera_and_every_hidden_layer() -> None:
    torch.manual_seed(0)
    model = VisionLanguageAction(**TINY, **FILM, cameras=["image", "wrist"], state_dim=5)
    data = batch(state=torch.randn(3, 5), **{"images/wrist": torch.rand(3, 3, 32, 32)})
    model(data)["loss"].backward()
    assert model.film is not None
    films = [encoder.film for encoder in model.film.encoder.images] + [*model.film.layers.films]
    assert len(films) == 2 + 3  # one for each camera, and one for each hidden layer
    for film in films:
        assert film.weight.grad.abs().sum() > 0
        before = model.predict(data["observations"], "reach")
        kept = film.bias.detach().clone()
        with torch.no_grad():
            film.bias += 1.0
        assert not torch.equal(before, model.predict(data["observations"], "reach"))
        with torch.no_grad():
            film.bias.copy_(kept)
    plain = VisionLanguageAction(**TINY, **FILM, use_language=False)
    assert plain.film is not None and not plain.film.layers.films


@pytest.mark.parametrize("fusion", [{}, FILM], ids=["transformer", "film"])
def test_positions_are_learned_beside_the_actions_and_not_read_when_acting(
    fusion: dict[str, Any],
) -> None:
    model = VisionLanguageAction(**TINY, **fusion, state_dim=5, auxiliary=["red_pos", "target_pos"])
    assert model.privileged_keys == ("ee_pos", "red_pos", "target_pos")
    data = batch(state=torch.randn(3, 5))
    data["privileged"] = {key: torch.rand(3, 3) for key in model.privileged_keys}
    out = model(data)
    assert {"auxiliary_loss", "red_pos_error_cm", "target_pos_error_cm"} < out.keys()
    out["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.predict(data["observations"], "reach").shape == (3, 4)


def test_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="Unknown fusion 'sum'; known: film, transformer"):
        VisionLanguageAction(**TINY, fusion="sum")
    with pytest.raises(UserError, match="whose images go through a backbone"):
        VisionLanguageAction(**TINY, **FILM, vision_tower="google/siglip-base-patch16-224")
