"""`make demo`, made small."""

from __future__ import annotations

import json
from pathlib import Path

from simscaleai.tools.demo import run_demo


def test_demo_prints_one_table_and_writes_its_folder(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):  # again over what is there
        summary = run_demo(folder, "reach", n_demonstrations=4, max_steps=10, n_episodes=3)
        out = capsys.readouterr().out
        assert out.count("┏") == 1
        assert "4 episodes" in out
        assert "3 unseen episodes" in out
        files = {path.name for path in folder.iterdir()}
        assert files >= {"demonstrations.h5", "final.pt", "eval_info.json", "summary.json"}
        assert json.loads((folder / "summary.json").read_text()) == summary
    assert (tmp_path / "demo.old-1" / "final.pt").is_file()
