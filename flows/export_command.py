"""`weathervane export`: a registered model as a file for other runtimes."""

from pathlib import Path

from tasks.tracking_read import tracked_root
from weathervane.progress import say, tabulate


def run_export(model: str, to: str, out: Path | None) -> None:
    """Write the file, and say how it compares with the model."""
    root = tracked_root()
    from tasks.export import export

    version, file, found = export(root, model, to, out)
    say(f"{version} to {file}: {file.stat().st_size / 1e6:.1f} MB")
    say(f"largest difference of a probability on {found.images} images: {found.difference:.2g}")
    rows = [[str(count), f"{ours:.2f}", f"{theirs:.2f}"] for count, (ours, theirs) in found.latency.items()]
    tabulate(["images at once", "torch, ms", "onnxruntime, ms"], rows)
