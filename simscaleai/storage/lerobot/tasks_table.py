"""The table of instructions of a LeRobot folder."""

from __future__ import annotations

import json
from pathlib import Path

from simscaleai.storage.lerobot import layout


def write_tasks(folder: Path, tasks: list[str]) -> None:
    """Write the instructions as LeRobot reads them: a pandas table whose index is the text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"task_index": list(range(len(tasks))), "task": tasks})
    kinds = (("task_index", "int64"), ("task", "object"))
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": n, "field_name": n, "pandas_type": k, "numpy_type": k, "metadata": None}
            for n, k in kinds
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    # pandas itself is not needed: it finds its index by this entry of the schema
    table = table.replace_schema_metadata({b"pandas": json.dumps(about).encode()})
    pq.write_table(table, folder / layout.TASKS)
