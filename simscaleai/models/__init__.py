"""Models by name, the heads they are built from, and the policies made of them."""

from __future__ import annotations

from simscaleai.models.registry import ModelRegistry, create_model, list_models, register_model

__all__ = ["ModelRegistry", "create_model", "list_models", "register_model"]
