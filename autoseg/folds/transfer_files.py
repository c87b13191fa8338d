"""Files of initial weights; free of torch, which workers never need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.records import Plan, TransferReport
from autoseg.core.store import Store, write_bytes, write_record


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Initial weights of a configuration, before they are written.

    Attributes:
        file: name of their file.
        content: safetensors.
        report: shares loaded, adapted and random.
    """

    file: str
    content: bytes
    report: TransferReport

    def write(self, folder: Path) -> None:
        """Write them and their report."""
        write_bytes(folder / self.file, self.content)
        write_record(folder / f"{Path(self.file).stem}.json", self.report)


def initial_weights_folder(store: Store, dataset: str) -> Path:
    """Folder of the initial weights of a dataset's configurations."""
    return store.preprocessed(dataset) / "transfer"


def remove_stale(folder: Path, plan: Plan) -> None:
    """Delete initial weights that no configuration uses."""
    named = [c.transfer.weights for c in plan.configurations.values() if c.transfer is not None]
    stems = {Path(file).stem for file in named if file is not None}
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.stem not in stems and path.suffix in (".safetensors", ".json"):
            path.unlink()
