"""All pictures of the inside of a trained network: which ones, its structure says, not its name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from weathervane.model import Model
    from weathervane.store import Store


def inside_pictures(
    model: "Model", store: "Store", table: "pd.DataFrame", record: list[dict[str, Any]], folder: Path
) -> None:
    """gradients.png, filters.png and occlusion.png of any network; patches.png of one that has maps of features;
    steps.png and saliency.png of one that has recurrent layers.

    Args:
        table: the predictions of the test images.
        record: the lines of gradients.jsonl.
    """
    from torch import nn

    from weathervane.pictures.filters import filters_picture
    from weathervane.pictures.gradients import layers_picture, steps_picture
    from weathervane.pictures.occlusion import examples, occlusion_picture
    from weathervane.pictures.patches import patches_picture
    from weathervane.pictures.saliency import saliency_picture

    name, net = model.spec.variant, model.net
    layers_picture(record, net, name, folder / "gradients.png")
    filters_picture(net, model.spec.size, name, folder / "filters.png")
    rows = examples(table, store)
    occlusion_picture(model, store, rows, name, folder / "occlusion.png")
    if any(isinstance(module, nn.Conv2d) for module in net.modules()):
        patches_picture(model, store, name, folder / "patches.png")
    if any(isinstance(module, nn.RNNBase) for module in net.modules()):
        steps_picture(record, name, folder / "steps.png")
        saliency_picture(model, store, rows, name, folder / "saliency.png")
