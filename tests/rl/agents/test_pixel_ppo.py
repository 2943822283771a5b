"""PPO from images: the actor sees and the critic knows, and what is saved acts by images alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.demonstrations import Demonstrations
from simscaleai.rl.agents.pixel_actor_critic import PixelLayout
from simscaleai.rl.agents.pixel_ppo import PixelPPOAgent
from simscaleai.rl.agents.pixel_ppo_config import PixelPPOConfig
from simscaleai.rl.agents.warm_start import warm_start
from simscaleai.sim import make_vec_env
from simscaleai.sim.base_env import CameraConfig
from simscaleai.storage.checkpoint import save_checkpoint

SIZE = 16  # pixels a side
CAMERAS = [CameraConfig(name, SIZE, SIZE) for name in ("front_cam", "observer_cam")]
CONFIG = PixelPPOConfig(
    n_steps=4,
    batch_size=4,
    n_epochs=2,
    total_timesteps=16,
    hidden_dim=16,
    backbone_width=8,
    auxiliary=["target_pos"],
)


@pytest.fixture(scope="module")
def envs() -> Iterator[Any]:
    made = make_vec_env("reach", 2, autoreset_mode="same_step", dt=0.005, cameras=CAMERAS)
    yield made
    made.close()


def make(envs: Any, **settings: Any) -> PixelPPOAgent:
    return PixelPPOAgent.for_space(envs.single_observation_space, 4, replace(CONFIG, **settings))


def test_vectors_come_before_pixels() -> None:
    shapes = {"b": (2,), "image": (4, 4, 3), "a": (3,), "ee_pos": (3,)}
    layout = PixelLayout(shapes, ["ee_pos"], ["a"])
    assert layout.vectors == {"a": slice(0, 3), "b": slice(3, 5), "ee_pos": slice(5, 8)}
    assert layout.images == {"image": slice(8, 8 + 48)}
    assert (layout.state_dim, layout.width) == (8, 56)
    assert layout.columns(["ee_pos", "a"]) == [5, 6, 7, 0, 1, 2]
    assert list(layout.actor_spec.shapes) == ["ee_pos", "image"]
    with pytest.raises(UserError, match=r"entry of auxiliary 'c'"):
        PixelLayout(shapes, [], ["c"])


def test_the_actor_sees_and_the_critic_knows(envs: Any) -> None:
    agent = make(envs)
    obs, _ = envs.reset(seed=0)
    flat = agent.extractor(obs, True)
    assert flat.shape == (2, agent.obs_dim) and agent.obs_dim == 20 + 2 * SIZE * SIZE * 3
    target, front = agent.layout.vectors["target_pos"], agent.layout.images["images/front_cam"]
    images = flat[:, front].reshape(2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(images, obs["images/front_cam"])
    network = agent.network
    read = network.observations(agent.normalized(flat))
    torch.testing.assert_close(
        read["images/front_cam"][0].permute(1, 2, 0), torch.from_numpy(images[0]) / 255
    )

    # of the vectors the actor reads what it was given, in the order of the policy's own state
    other = make(envs, actor_keys=["joint_vel", "ee_pos"])
    x = other.normalized(flat)
    parts = [x[:, other.layout.vectors[key]] for key in ("ee_pos", "joint_vel")]
    torch.testing.assert_close(other.network.observations(x)["state"], torch.cat(parts, dim=1))

    def answers(changed: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            x = agent.normalized(changed)
            return network.mean(x), network.value(x)

    moved, dark = flat.copy(), flat.copy()
    moved[:, target] += 0.3
    dark[:, front] = 0
    (mean, value), (mean_moved, value_moved), (mean_dark, value_dark) = map(
        answers, (flat, moved, dark)
    )
    assert torch.equal(mean, mean_moved) and not torch.equal(value, value_moved)
    assert not torch.equal(mean, mean_dark) and torch.equal(value, value_dark)


def test_it_learns_where_the_target_is_from_what_it_sees(envs: Any) -> None:
    agent = make(envs)
    obs, _ = envs.reset(seed=0)
    x = agent.normalized(agent.extractor(obs, True))
    optimizer = torch.optim.Adam(agent.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(90):
        agent.network.evaluate_actions(x, torch.zeros(2, 4))
        loss = agent.network.take_auxiliary_loss()
        assert loss is not None
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]
    # the target of the loss: the positions of the observation, in m
    offset = torch.from_numpy(obs["target_pos"] - obs["ee_pos"])
    encoded = agent.network.actor.encoder(agent.network.observations(x))
    assert (encoded.offsets[:, 0] - offset).norm(dim=-1).max() < 0.1
    assert agent.network.take_auxiliary_loss() is None


def test_a_checkpoint_acts_by_images_alone_and_resumes(envs: Any, tmp_path: Path) -> None:
    agent = make(envs)
    history = agent.train(envs)
    assert agent.updates == 2 and np.isfinite(history["policy_loss"]).all()
    assert len(history["target_pos_error_cm"]) == 2 and min(history["target_pos_error_cm"]) > 0
    agent.save(tmp_path / "agent.pt")
    policy = ModelPolicy.from_checkpoint(tmp_path / "agent.pt", "cpu")
    obs, _ = envs.reset(seed=5)
    seen = {k: v for k, v in obs.items() if k == "ee_pos" or k.startswith("images/")}
    np.testing.assert_allclose(policy.act(seen), agent.predict(obs), atol=1e-5)
    assert policy.spec is not None and sorted(policy.spec.shapes) == sorted(seen)

    again = PixelPPOAgent.from_checkpoint(tmp_path / "agent.pt")
    assert again.config == agent.config and again.config.shapes["target_pos"] == [3]
    np.testing.assert_array_equal(again.predict(obs), agent.predict(obs))
    again.config = replace(again.config, total_timesteps=24)
    again.train(envs)
    assert again.timesteps == 24


def cloned(agent: PixelPPOAgent, **changed: Any) -> ModelPolicy:
    """Return a policy as cloning from images gives, for what the actor of `agent` reads."""
    kwargs = {**agent.actor.registered[1], "cameras": ["front_cam", "observer_cam"], **changed}
    torch.manual_seed(0)
    spec = agent.layout.actor_spec
    states = torch.tensor([[0.4, 0.1, 0.2]]) + 0.1 * torch.randn(50, 3)
    return ModelPolicy(
        create_model("bc", **kwargs), spec, Normalizer({"state": Statistics.of(states)})
    ).eval()


def save(policy: ModelPolicy, path: Path) -> Path:
    save_checkpoint(path, {"policy": policy.description(), "weights": dict(policy.state_dict())})
    return path


@pytest.mark.parametrize("settings", [{}, {"auxiliary": []}])
def test_a_clone_may_have_its_cameras_in_any_order(
    envs: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    agent = make(envs, **settings)
    clone = cloned(agent, cameras=["observer_cam", "front_cam"])
    warm_start(agent, save(clone, tmp_path / "clone.pt"), envs)
    obs, _ = envs.reset(seed=3)
    wanted = clone.act(obs)
    np.testing.assert_allclose(agent.predict(obs), wanted, atol=1e-5)
    # each camera counts, and so the test sees when they are exchanged
    swapped = {
        "images/front_cam": obs["images/observer_cam"],
        "images/observer_cam": obs["images/front_cam"],
    }
    assert np.abs(clone.act({**obs, **swapped}) - wanted).max() > 1e-3


def test_the_encoder_learns_positions_alone_and_the_policy_at_its_own_rate(envs: Any) -> None:
    agent = make(envs, encoder_lr=1e-3, critic_lr=1e-2, lr=1e-5, critic_warmup=1)
    network = agent.network
    groups = agent.optimizer.param_groups
    # as checkpoints number them
    assert all(
        a is b
        for a, b in zip(
            (p for group in groups for p in group["params"]), network.parameters(), strict=True
        )
    )
    obs, _ = envs.reset(seed=0)
    log_prob, _, _ = network.evaluate_actions(
        agent.normalized(agent.extractor(obs, True)), torch.zeros(2, 4)
    )
    log_prob.sum().backward()
    assert all(p.grad is None for p in network.actor.encoder.parameters())
    assert all(p.grad is not None for p in network.actor.head.parameters())

    parts = {"head": network.actor.head, "encoder": network.actor.encoder, "critic": network.critic}

    def moved() -> dict[str, float]:
        before = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
        agent.config = replace(agent.config, total_timesteps=agent.timesteps + 8)
        agent.train(envs)
        return {
            name: max(
                (a - b).abs().max().item()
                for a, b in zip(before[name], part.parameters(), strict=True)
            )
            for name, part in parts.items()
        }

    warming = moved()  # Adam moves by about its learning rate, once in each of 2 epochs x 2 batches
    assert warming["head"] == 0 and warming["encoder"] > 1e-4 and warming["critic"] > 1e-3
    later = moved()
    assert 0 < later["head"] < 1e-4 and later["encoder"] > 1e-4 and later["critic"] > 1e-3
    (problem,) = replace(CONFIG, encoder_lr=1e-3, auxiliary=[]).problems()
    assert "encoder_lr is set, and auxiliary names no positions" in problem


def test_demonstrations_are_imitated_beside_the_reward(envs: Any, tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    generate_dataset(
        "reach",
        2,
        str(path),
        max_steps=5,
        domain_randomization=False,
        cameras=[camera.name for camera in CAMERAS],
        image_size=SIZE,
        show_progress=False,
        env_kwargs={"dt": 0.005},
    )
    agent = make(envs, demonstrations=str(path), demonstration_weight=2.0, critic_warmup=100)
    agent.begin(2, False)
    agent.timesteps = 4  # of 16: a quarter of the way, and so three quarters of the weight
    obs, actions = Demonstrations(str(path), agent.layout.shapes).batch(
        1, torch.Generator().manual_seed(7)
    )
    agent.generator.manual_seed(7)
    (loss,) = agent.further_losses()
    with torch.no_grad():
        mean = agent.network.mean(agent.normalized(agent.extractor(obs, True)))
    error = ((mean.numpy() - actions) ** 2).sum() / 2  # log_std is 0
    assert loss.item() == pytest.approx(2.0 * 0.75 * error, rel=1e-4)
    loss.backward()
    assert all(p.grad is not None for p in agent.actor.head.parameters())
    assert agent.network.log_std.grad is None

    with pytest.raises(UserError, match="does not observe images/wrist_cam, which the agent reads"):
        Demonstrations(str(path), {"images/wrist_cam": (16, 16, 3)})
    with pytest.raises(UserError, match=r"in the shape \(16, 16, 3\), and the env"):
        Demonstrations(str(path), {"images/front_cam": (32, 32, 3)})


def test_it_starts_as_a_cloned_policy_acts(envs: Any, tmp_path: Path) -> None:
    agent = make(envs)
    clone = cloned(agent)
    path = save(clone, tmp_path / "clone.pt")
    before = [p.clone() for p in agent.network.critic.parameters()]
    assert "120 steps" in warm_start(agent, path, envs)
    obs, _ = envs.reset(seed=3)
    np.testing.assert_allclose(agent.predict(obs), clone.act(obs), atol=1e-5)
    assert all(map(torch.equal, before, agent.network.critic.parameters()))
    # and while only the critic learns, it goes on like that
    agent.config = replace(agent.config, critic_warmup=2, normalize_obs=True)
    weights = [p.clone() for p in agent.actor.parameters()]
    agent.train(envs)
    assert agent.updates == 2 and all(map(torch.equal, weights, agent.actor.parameters()))
    assert not all(map(torch.equal, before, agent.network.critic.parameters()))


def test_a_policy_that_does_not_fit_is_refused(envs: Any, tmp_path: Path) -> None:
    agent, path = make(envs), tmp_path / "clone.pt"
    with pytest.raises(UserError, match=r"encoder\.images.* has shape"):
        warm_start(agent, save(cloned(agent, backbone_width=16), path), envs)
    with pytest.raises(UserError, match="model bc with single actions"):
        warm_start(agent, save(cloned(agent, action_horizon=4), path), envs)
    with pytest.raises(UserError, match=r"predicts object_pos, and the actor target_pos"):
        warm_start(agent, save(cloned(agent, auxiliary=["object_pos"]), path), envs)
    clone = cloned(agent)
    assert clone.spec is not None
    shapes = {k: v for k, v in clone.spec.shapes.items() if k != "ee_pos"} | {"hand": (3,)}
    dtypes = {k: "uint8" if len(v) == 3 else "float32" for k, v in shapes.items()}
    other = ModelPolicy(clone.model, ObsSpec(shapes, dtypes), clone.normalizer)
    with pytest.raises(UserError, match=r"reads hand \(3,\).* the actor ee_pos \(3,\)"):
        warm_start(agent, save(other, path), envs)
    cameras = [{**asdict(c), "fov": 30.0} for c in CAMERAS]
    narrow = replace(envs.contract, env_config={"cameras": cameras})
    other = ModelPolicy(clone.model, clone.spec, clone.normalizer, narrow)
    with pytest.raises(
        UserError, match=r"from front_cam of 16x16 pixels and 30\.0 degrees and obs"
    ):
        warm_start(agent, save(other, path), envs)


def test_the_policy_is_on_the_device_of_the_agent(envs: Any) -> None:
    agent = make(envs)
    agent.network.to("meta")
    agent.device = torch.device("meta")  # stands for a GPU
    assert {value.device.type for value in agent.policy().state_dict().values()} == {"meta"}


def test_what_it_cannot_learn_from_is_refused(envs: Any) -> None:
    blind = make_vec_env("reach", 1, autoreset_mode="same_step", dt=0.005)
    with pytest.raises(UserError, match=r"reads images.*env\.cameras"):
        make(blind)
    with pytest.raises(UserError, match=r"entry of actor_keys 'hand'"):
        make(envs, actor_keys=["hand"])
    with pytest.raises(UserError, match="does not observe goal"):
        make(envs, state_keys=["ee_pos", "goal"])
    assert PixelPPOConfig(relative_positions=True).problems() == [
        "relative_positions is true, and pixel_ppo finds positions in images"
    ]
