"""Demonstrations: generated, rendered and labeled again, checked, exported and imported."""

from __future__ import annotations

from simscaleai.datagen.dagger_rounds import dagger
from simscaleai.datagen.dataset_hash import content_hash
from simscaleai.datagen.dataset_info import dataset_info
from simscaleai.datagen.drawn_images import draw_images
from simscaleai.datagen.edit import edit_dataset
from simscaleai.datagen.exchange import export_dataset, import_dataset
from simscaleai.datagen.filter import filter_dataset
from simscaleai.datagen.generator import generate_dataset
from simscaleai.datagen.merge import merge_datasets
from simscaleai.datagen.relabel import relabel_dataset
from simscaleai.datagen.repair import repair_dataset
from simscaleai.datagen.rerender import render_dataset
from simscaleai.datagen.split import split_dataset
from simscaleai.datagen.unfinished import Interrupted
from simscaleai.datagen.validate import Report, validate_dataset

__all__ = [
    "Interrupted",
    "Report",
    "content_hash",
    "dagger",
    "dataset_info",
    "draw_images",
    "edit_dataset",
    "export_dataset",
    "filter_dataset",
    "generate_dataset",
    "import_dataset",
    "merge_datasets",
    "relabel_dataset",
    "render_dataset",
    "repair_dataset",
    "split_dataset",
    "validate_dataset",
]
