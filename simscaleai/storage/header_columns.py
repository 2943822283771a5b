"""Bytes that are the same in the headers of many episodes but for some columns; see `raw_hdf5`."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array

Bytes = NDArray[np.uint8]


class HeaderColumns:
    """Bytes that are the same in n headers but for some columns, as a template and what replaces it."""

    def __init__(self, template: bytes = b"") -> None:
        self.template = template
        self.columns: list[tuple[int, Bytes]] = []  # (first byte, (n, bytes))

    def add(self, constant: bytes) -> None:
        """Append bytes that are the same in all."""
        self.template += constant

    def add_column(self, values: Array) -> None:
        """Append values (n,) or (n, bytes) that differ."""
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        self.columns.append((len(self.template), raw))
        self.template += bytes(raw.shape[1])

    def message(self, kind: int) -> HeaderColumns:
        """Return this as the message of an object header."""
        whole = HeaderColumns(struct.pack("<BHB", kind, len(self.template), 0))
        whole.extend(self)
        return whole

    def extend(self, other: HeaderColumns) -> None:
        """Append another one."""
        # places in `other` count from its own first byte
        self.columns += [(len(self.template) + at, raw) for at, raw in other.columns]
        self.template += other.template

    def rows(self, count: int) -> Bytes:
        """Return the bytes, (count, length)."""
        rows = np.tile(np.frombuffer(self.template, np.uint8), (count, 1))  # (count, length)
        for at, raw in self.columns:
            rows[:, at : at + raw.shape[1]] = raw
        return rows
