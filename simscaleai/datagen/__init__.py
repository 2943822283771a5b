"""Demonstrations: generated, rendered and labeled again, checked, exported and imported."""

from __future__ import annotations

from simscaleai.datagen.drawn_images import draw_images
from simscaleai.datagen.exchange import export_dataset, import_dataset
from simscaleai.datagen.generator import generate_dataset
from simscaleai.datagen.relabel import relabel_dataset
from simscaleai.datagen.rerender import render_dataset
from simscaleai.datagen.unfinished import Interrupted
from simscaleai.datagen.validate import Report, content_hash, validate_dataset

__all__ = [
    "Interrupted",
    "Report",
    "content_hash",
    "draw_images",
    "export_dataset",
    "generate_dataset",
    "import_dataset",
    "relabel_dataset",
    "render_dataset",
    "validate_dataset",
]
