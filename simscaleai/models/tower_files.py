"""Pretrained towers as files: from a folder or the Hugging Face Hub to a module and to plain data.

A tower is untrusted: only safetensors are read, no code that lies beside them is run, and which class of
`transformers` it becomes is decided by its model type alone.

`read` gives what there is to know of it as plain data. A checkpoint keeps that, and `build` makes the tower
again, to be filled with the checkpoint's weights: neither the folder nor a network is needed then.

`transformers` takes seconds to import and is imported when a tower is made, not before.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simscaleai.errors import UserError

# Means and standard deviations of red, green and blue, where a tower does not bring its own.
_COLOURS = {
    "siglip": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),  # ImageNet's, as of DINOv2
}


def library() -> Any:
    """The module `transformers`; UserError if it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            "Pretrained towers need the package transformers; install it with:"
            " pip install 'simscaleai[pretrained]'."
        ) from error


def read(name: str, part: str) -> dict[str, Any]:
    """What `build` and the modules of `towers` need to know of a tower besides its weights.

    Args:
      name: a folder of `save_pretrained`, or a name on the Hub.
      part: "vision" or "text"; of a model with both, this one alone.

    Returns:
      plain data: "config", and for "vision" the pixels a side "size" and the "mean" and "std" of colors in
      [0, 1], for "text" the text of tokenizer.json "tokenizer" and the number of its padding token "padding".

    Raises:
      UserError: it is not there, or is no such tower.
    """
    transformers = library()
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        config = getattr(config, f"{part}_config", None) or config
        plain = {"config": {**json.loads(config.to_json_string()), "model_type": config.model_type}}
        more = _colours(name, config) if part == "vision" else _words(name, config)
    except UserError:
        raise
    except Exception as error:  # transformers raises a dozen types for a name that is not a tower's
        raise _unusable(name, error) from error
    return {**plain, **more}


def load(name: str, config: dict[str, Any]) -> tuple[nn.Module, frozenset[str]]:
    """The tower that `read` told of, in float32, and the names of parameters that its file lacks."""
    transformers = library()
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list the weights of the other part
    try:
        cls, settings = _class_and_config(config)
        tower, report = cls.from_pretrained(
            name,
            config=settings,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=None,
            output_loading_info=True,
        )
    except Exception as error:
        raise _unusable(name, error) from error
    finally:
        logging.set_verbosity(before)
    return tower, frozenset(report["missing_keys"])


def build(source: dict[str, Any]) -> nn.Module:
    """A tower of what `read` gave, with random weights; UserError if that describes none."""
    library()
    with checked():
        cls, settings = _class_and_config(source["config"])
        return cls(settings)


@contextmanager
def checked() -> Iterator[None]:
    """Around what is made of a checkpoint's data about a tower: any failure is a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"What the checkpoint says of its pretrained tower is of no use here ({reason(error)});"
            " use another checkpoint, or the release of transformers that it was made with."
        ) from error


def _class_and_config(config: dict[str, Any]) -> tuple[Any, Any]:
    transformers = library()
    settings = transformers.AutoConfig.for_model(**config)
    settings._attn_implementation = None  # the default, and no kernel that the file may name
    auto = transformers.models.auto.modeling_auto
    for known in (auto.MODEL_FOR_TEXT_ENCODING_MAPPING, auto.MODEL_MAPPING):
        if type(settings) in known:
            return known[type(settings)], settings
    return getattr(transformers, type(settings).__name__.replace("Config", "Model")), settings


def _colours(name: str, config: Any) -> dict[str, Any]:
    """Size, mean and std by the tower's own preprocessing, else by its family's."""
    processor = _json(name, "preprocessor_config.json")
    processor = processor or _json(name, "processor_config.json").get("image_processor", {})
    family = next(f for f in _COLOURS if config.model_type.startswith(f))
    mean, std = _COLOURS[family]
    if processor.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    size = processor.get("crop_size") or processor.get("size") or config.image_size
    if isinstance(size, dict):
        size = size.get("height") or size["shortest_edge"]
    return {
        "size": int(size[0] if isinstance(size, list | tuple) else size),
        "mean": [float(v) for v in processor.get("image_mean", mean)],
        "std": [float(v) for v in processor.get("image_std", std)],
    }


def _words(name: str, config: Any) -> dict[str, Any]:
    path = _file(name, "tokenizer.json")
    if path is None:
        raise UserError(
            f"The tower {name!r} has no tokenizer.json; save one beside its weights with"
            " AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    text = path.read_text(encoding="utf-8")
    token = _json(name, "tokenizer_config.json").get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    number = None if token is None else tokenizer(text).token_to_id(token)
    return {
        "tokenizer": text,
        "padding": number if number is not None else getattr(config, "pad_token_id", None) or 0,
    }


def tokenizer(text: str) -> Any:
    """The `tokenizers.Tokenizer` that the text of a tokenizer.json describes."""
    return importlib.import_module("tokenizers").Tokenizer.from_str(text)


def _json(name: str, file: str) -> dict[str, Any]:
    path = _file(name, file)
    return {} if path is None else json.loads(path.read_text(encoding="utf-8"))


def _file(name: str, file: str) -> Path | None:
    """A file of the tower, downloaded if need be; None if it has none of this name."""
    found = library().utils.hub.cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        local_files_only=Path(name).is_dir(),
    )
    return None if found is None else Path(found)


def _unusable(name: str, error: Exception) -> UserError:
    if Path(name).is_dir():
        return UserError(
            f"The folder {name!r} holds no tower that can be used ({reason(error)}); it takes config.json"
            " and model.safetensors of a vision or text transformer, as save_pretrained writes them."
        )
    return UserError(
        f"The tower {name!r} is not a folder and cannot be downloaded ({reason(error)}); check the name, or"
        " download it where there is a network and give its folder."
    )


def reason(error: Exception) -> str:
    """The first sentence of an error, or its type if it has no words."""
    text = " ".join(str(error).split())
    return text.split(". ")[0].rstrip(".") or type(error).__name__
