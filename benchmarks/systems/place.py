"""The work folder of the two measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Place:
    """A root of autoseg, and what was scored in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.scores = self.folder / "scores.jsonl"

    def read_rows(self) -> list[Row]:
        """What was scored so far."""
        return [json.loads(line) for line in self.scores.read_text().splitlines()] if self.scores.exists() else []

    def has(self, run: Row) -> bool:
        """Whether a run was scored."""
        return any(run.items() <= row.items() for row in self.read_rows())

    def add(self, row: Row) -> None:
        """Keep the scores of a run."""
        with self.scores.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def run(self, command: str, *arguments: str) -> None:
        """One command of autoseg, in this environment."""
        code = f"import sys, autoseg.cli as cli; cli.{command}(sys.argv[1:])"
        subprocess.run([sys.executable, "-c", code, "--root", str(self.folder), *arguments], check=True)

    def raw(self, dataset: str) -> Path:
        return self.folder / "autoseg_raw" / dataset

    def plan(self, dataset: str) -> Path:
        return self.folder / "autoseg_preprocessed" / dataset / "plan.json"

    def fold(self, dataset: str, configuration: str) -> Path:
        return self.folder / "autoseg_results" / dataset / configuration / "fold_0"
