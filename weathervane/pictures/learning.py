"""Learning curves, from the training's own record."""

from pathlib import Path
from typing import Any

from weathervane.pictures.style import AFTER, BEFORE, GREY, bare, save


def learning_picture(record: list[dict[str, Any]], title: str, path: Path) -> None:
    """Loss of training and validation, and validation accuracy, by epoch; the kept epoch is marked.

    The training loss is that of what is trained on: changed images, and labels that smoothing and mixing have made less
    sure. So it lies above that of validation where nothing is learnt by heart.

    Args:
        record: the lines of metrics.jsonl.
    """
    from matplotlib.figure import Figure

    epochs = [line["epoch"] for line in record]
    train, val, accuracy = (
        [line["metrics"][key] for line in record] for key in ("train_loss", "val_loss", "val_accuracy")
    )
    kept = max(range(len(record)), key=lambda number: (accuracy[number], -val[number]))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, right = figure.subplots(1, 2)
    loss.plot(epochs, train, color=BEFORE, label="training: augmented images, smoothed labels")
    loss.plot(epochs, val, color=AFTER, label="validation")
    right.plot(epochs, accuracy, color=AFTER)
    right.plot(epochs[kept], accuracy[kept], "o", color=AFTER)
    for axes, name in (
        (loss, "Loss"),
        (right, f"Validation accuracy: {accuracy[kept]:.3f} in epoch {epochs[kept]}, which was kept"),
    ):
        bare(axes, name)
        axes.axvline(epochs[kept], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
