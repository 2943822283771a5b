"""For every test: one thread for PyTorch, whose tensors are small here.

Two threads that wait for each other on a busy machine make such tests ten times slower.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
