"""Towers of a few thousand random weights, saved as the real ones are; nothing is downloaded."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from simscaleai.errors import UserError
from simscaleai.models import create_model, tower_files
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.towers import NOTHING, PretrainedText, PretrainedVision
from simscaleai.training import TrainConfig, train_policy

CPU = torch.device("cpu")
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2}
WORDS = ["<pad>", "</s>", "<unk>", "reach", "the", "red", "blue", "ball", "and", "then"]
TEXTS = ["reach the red ball", "reach the blue ball and then reach the red ball", ""]
TINY: dict[str, Any] = {"embed_dim": 32, "num_heads": 2, "fusion_num_layers": 1, "dropout": 0.0}
TINY |= {"image_size": 24, "max_text_len": 8}


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ending = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.post_processor = ending
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "<pad>"}}')


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of both parts in a single file, and one of each part alone."""
    import transformers as tf

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("towers")
    words = {"vocab_size": len(WORDS), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    text = tf.SiglipTextConfig(**SIZES, **words, max_position_embeddings=12)
    vision = tf.SiglipVisionConfig(**SIZES, image_size=32, patch_size=8)
    both = tf.SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    sizes = {k: v for k, v in SIZES.items() if k != "intermediate_size"}
    dino = tf.Dinov2Config(**sizes, image_size=64, patch_size=8)
    bert = tf.BertConfig(**SIZES, vocab_size=len(WORDS), max_position_embeddings=16)
    found = {}
    for name, model in {
        "siglip": tf.SiglipModel(both),
        "dino": tf.Dinov2Model(dino),
        "bert": tf.BertModel(bert),
    }.items():
        found[name] = folder / name
        model.save_pretrained(found[name])
        write_tokenizer(found[name])
    how = {"crop_size": {"height": 32, "width": 32}, "image_mean": [0.2] * 3, "image_std": [2] * 3}
    (found["dino"] / "preprocessor_config.json").write_text(json.dumps(how))
    return found


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_part_of_a_model_of_both_has_its_own_weights(towers: dict[str, Path]) -> None:
    saved = load_file(towers["siglip"] / "model.safetensors")
    vision = PretrainedVision(str(towers["siglip"]), 24)
    text = PretrainedText(str(towers["siglip"]), 24, max_len=8)
    for module in (vision, text):
        weights = module.tower.state_dict()
        assert weights
        for name, value in weights.items():
            assert torch.equal(value, saved[f"{module.part}_model.{name}"]), name
    assert vision(torch.rand(2, 3, 20, 30)).shape == (2, 16, 24)
    assert text(text.tokenize(TEXTS, CPU)).shape == (3, 8, 24)


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("siglip", 0.5, 0.5), ("dino", 0.2, 2.0)], ids=["family's", "its own"]
)
def test_images_are_seen_as_the_tower_was_trained(
    towers: dict[str, Path], name: str, mean: float, std: float
) -> None:
    vision = PretrainedVision(str(towers[name]), 24)
    images = torch.rand(2, 3, 32, 32)
    expected = vision.tower(pixel_values=(images - mean) / std).last_hidden_state
    torch.testing.assert_close(vision(images), vision.projection(expected))
    grey = torch.full((2, 3, 7, 9), 0.3)
    torch.testing.assert_close(vision(grey), vision(torch.full_like(images, 0.3)))


def test_an_instruction_changes_what_is_seen(towers: dict[str, Path]) -> None:
    vision = PretrainedVision(str(towers["dino"]), 24, instructed=True)
    image = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    seen = vision(image, torch.randn(2, 24))
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    assert torch.equal(*vision(image))


@pytest.mark.parametrize("name", ["siglip", "bert"])
def test_text_gives_the_same_tokens_whatever_the_batch(towers: dict[str, Path], name: str) -> None:
    text = PretrainedText(str(towers[name]), 24, max_len=8).eval()
    ids = text.tokenize(TEXTS, CPU)
    assert ids[0].tolist() == [3, 4, 5, 7, 1, NOTHING, NOTHING, NOTHING]
    assert ids[2].tolist() == [1] + [NOTHING] * 7
    # Cut off, with its ending; a mask always hides something, or another batch is another kernel.
    assert ids[1, 5:].tolist() == ([9, 3, 1] if text.reads_padding else [9, 1, NOTHING])
    for i, row in enumerate(TEXTS):
        for others in (["red"] * 2, [TEXTS[1]] * 2):
            tokens = text(text.tokenize([row, *others], CPU))
            assert torch.equal(tokens[0], text(ids[[i, *range(1, 3)]])[0])
    torch.testing.assert_close(text(ids[:1, :5]), text(ids[:1])[:, :5])
    changed = text(text.tokenize(["reach the blue ball"], CPU))
    assert not torch.allclose(changed[0, 3], text(ids[:1])[0, 3], atol=1e-5)


def test_siglip_reads_its_padding_and_no_capitals(towers: dict[str, Path]) -> None:
    text = PretrainedText(str(towers["siglip"]), 24, max_len=8)
    assert torch.equal(*(text.tokenize([t], CPU) for t in ("REACH the Ball", "reach the ball")))
    ids = torch.tensor([[3, 4, 7, 1] + [0] * 8])  # as long as the tower was trained with
    expected = text.projection(text.tower(input_ids=ids).last_hidden_state)[:, :8]
    torch.testing.assert_close(text(text.tokenize(["reach the ball"], CPU)), expected)


def test_other_towers_do_not_see_padding(towers: dict[str, Path]) -> None:
    text = PretrainedText(str(towers["bert"]), 24, max_len=8)
    expected = text.projection(text.tower(input_ids=torch.tensor([[3, 4, 7, 1]])).last_hidden_state)
    torch.testing.assert_close(text(text.tokenize(["reach the ball"], CPU))[:, :4], expected)


@pytest.mark.parametrize("tuned", [False, True], ids=["frozen", "tuned"])
@pytest.mark.parametrize(("vision", "text"), [("siglip", "siglip"), ("dino", "bert")])
def test_a_step_trains_a_tower_only_if_told(
    towers: dict[str, Path], vision: str, text: str, tuned: bool
) -> None:
    paths = {"vision_tower": str(towers[vision]), "text_tower": str(towers[text])}
    model: Any = create_model("vla", **TINY, **paths, tune_towers=tuned, state_dim=5)
    before = copy.deepcopy(model.state_dict())
    parts = [model.vision.tower, model.language.tower]
    model.eval()
    model.train()
    assert [p.training for p in parts] == [tuned, tuned]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert any(".tower." in n for n in trained) == tuned
    observations = {"image": torch.rand(3, 3, 24, 24), "state": torch.randn(3, 5)}
    data = {"observations": observations, "actions": torch.rand(3, 4), "language": TEXTS}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    model(data)["loss"].backward()
    # DDP waits for the gradient of everything that has one.
    assert [n for n, p in model.named_parameters() if (p.grad is None) == p.requires_grad] == []
    optimizer.step()
    after = model.state_dict()
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    assert {"vision.projection.weight", "vision.film.weight"} <= changed
    layers = {n for n in after if ".layer" in n and ".0." in n and "weight" in n and "tower" in n}
    assert layers and (layers <= changed if tuned else not layers & changed)
    assert all(".tower." not in n for n in changed) or tuned
    size = model.vision.source["size"]
    asked = torch.rand(1, 3, size, size, requires_grad=True)
    assert model.vision.look(pixel_values=asked).requires_grad == tuned
    ids = model.eval().language.tokenize(["reach the red ball"] * 3, CPU)
    cut = model.features(observations, ids[:, :5])  # all that is no padding
    torch.testing.assert_close(cut, model.features(observations, ids))


def test_a_checkpoint_needs_no_folder_and_no_network(
    towers: dict[str, Path], tmp_path: Path, offline: None
) -> None:
    names = {"vision_tower": tmp_path / "dino", "text_tower": tmp_path / "siglip"}
    for path in names.values():
        shutil.copytree(towers[path.name], path)
    paths = {k: str(v) for k, v in names.items()}
    config = TrainConfig(
        model_name="vla",
        model_kwargs={**TINY, **paths},
        max_steps=2,
        batch_size=2,
        ema_decay=0.9,
        checkpoint_dir=str(tmp_path / "run"),
        device="cpu",
        show_progress=False,
    )
    train_policy(config)
    original = PretrainedVision(paths["vision_tower"], 24).tower.state_dict()
    for path in names.values():
        shutil.rmtree(path)
    run = tmp_path / "run"
    assert "tokenizer" not in (run / "config.yaml").read_text()
    policy = ModelPolicy.from_checkpoint(run / "final.pt", device="cpu")
    assert policy.model.registered[1].keys() >= paths.keys()
    assert "towers" not in policy.model.registered[1]
    seen = policy.model.vision.tower.state_dict()
    assert all(torch.equal(value, original[name]) for name, value in seen.items())

    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    policy.reset(np.ones(3, dtype=bool), [0] * 3, TEXTS)
    actions = policy.act({"image": pictures})
    exported = policy.save_pretrained(tmp_path / "exported")
    again = ModelPolicy.from_pretrained(exported, device="cpu")
    assert again.description() == policy.description()
    again.reset(np.ones(1, dtype=bool), [0], TEXTS[1:2])
    np.testing.assert_array_equal(again.act({"image": pictures[1:2]}), actions[1:2])

    about = json.loads((exported / "config.json").read_text())
    for part, value in (
        ("text", {"tokenizer": "{}"}),
        ("text", {"config": {"model_type": "gone"}}),
        ("vision", {"mean": "red"}),
        ("", {}),
    ):
        damaged = copy.deepcopy(about)
        if part:
            damaged["rebuild_with"]["towers"][part] |= value
        else:  # a checkpoint names no file that is then read
            del damaged["rebuild_with"]
            damaged["model_kwargs"]["vision_tower"] = str(towers["dino"])
        (exported / "config.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="of no use here"):
            ModelPolicy.from_pretrained(exported, device="cpu")


def test_what_is_no_tower_is_said(
    towers: dict[str, Path], tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no-such/tower", str(tmp_path / "nowhere")):
        with pytest.raises(UserError, match=r"not a folder and cannot be downloaded .* give its"):
            PretrainedVision(name, 24)
    with pytest.raises(UserError, match="holds no tower"):
        PretrainedVision(str(tmp_path), 24)
    with pytest.raises(UserError, match="cannot be used for vision"):
        (towers["bert"] / "preprocessor_config.json").write_text('{"size": 32}')
        PretrainedVision(str(towers["bert"]), 24)
    with pytest.raises(UserError, match="reads at most 12 tokens"):
        PretrainedText(str(towers["siglip"]), 24, max_len=13)
    with pytest.raises(UserError, match="use_language is false"):
        create_model("vla", **TINY, patch_size=8, use_language=False, text_tower="bert")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'simscaleai\[pretrained\]'"):
        create_model("vla", **TINY, vision_tower=str(towers["dino"]))


def test_files_of_a_tower_are_data_and_complete(towers: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(towers["bert"], folder)
    (folder / "tokenizer.json").rename(folder / "aside")
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        PretrainedText(str(folder), 24)
    (folder / "aside").rename(folder / "tokenizer.json")
    weights = load_file(folder / "model.safetensors")
    # Nobody reads what the pooling head makes; everybody reads words.
    pooled = {k: v for k, v in weights.items() if "pooler" not in k}
    assert len(pooled) < len(weights)
    save_file(pooled, folder / "model.safetensors", {"format": "pt"})
    PretrainedText(str(folder), 24, max_len=8)
    wordless = {k: v for k, v in pooled.items() if "word_embeddings" not in k}
    save_file(wordless, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack embeddings\.word_embeddings\.weight"):
        PretrainedText(str(folder), 24, max_len=8)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")  # a pickle
    with pytest.raises(UserError, match="holds no tower"):
        PretrainedText(str(folder), 24, max_len=8)

    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    auto = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    about = {"model_type": "evil", "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="holds no tower"):
        PretrainedText(str(folder), 24)
    assert not (tmp_path / "ran").exists()


def test_transformers_is_imported_when_a_tower_is_made_and_not_before() -> None:
    for path in Path(tower_files.__file__).parent.rglob("*.py"):
        lines = path.read_text().splitlines()
        names = ("transformers", "tokenizers")
        found = [x for x in lines if x.split()[:1] in (["import"], ["from"])]
        assert not [x for x in found if x.split()[1].split(".")[0] in names], path
