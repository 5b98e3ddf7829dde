"""What becomes of the gradient on its way back: through the layers, and through the steps of a sequence."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weathervane.pictures.style import BAR, GREY, bare, save

if TYPE_CHECKING:
    from torch import nn

DECADES = 4  # that a scale shows at least, so that a small difference looks small
LABELS = 30  # of layers; where there are more, some go without
LINES = 5  # epochs among the curves of steps


def layers_picture(record: list[dict[str, Any]], net: "nn.Module", title: str, path: Path) -> None:
    """Gradient norm of each layer (row, the first on top) in each epoch (column); grey where there is none.

    Args:
        record: the lines of gradients.jsonl, at least one.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name, parameter in net.named_parameters() if parameter.ndim >= 2]
    norms = np.array([[line["layers"].get(name) or np.nan for line in record] for name in names])
    known = norms[np.isfinite(norms)]
    low, high = (known.min(), known.max()) if known.size else (1.0, 1.0)
    top = 10.0 ** np.ceil(np.log10(high))
    bottom = min(10.0 ** np.floor(np.log10(low)), top / 10**DECADES)
    figure = Figure(figsize=(8.2, 1.3 + np.clip(0.24 * len(names), 1.5, 7)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(BAR)
    epochs = [line["epoch"] for line in record]
    image = axes.imshow(
        norms,
        cmap="Blues",
        norm=LogNorm(bottom, top),
        aspect="auto",
        interpolation="nearest",
        extent=(epochs[0] - 0.5, epochs[-1] + 0.5, len(names) - 0.5, -0.5),
    )
    shown = range(0, len(names), -(-len(names) // LABELS))
    axes.set_yticks(list(shown), [layer_label(net, names[row]) for row in shown], fontsize=8)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label="norm of the gradient", pad=0.02)
    axes.set_title(f"{title}: gradient of each layer{_faded(norms)}", fontsize=10, loc="left")
    save(figure, path)


def _faded(norms: np.ndarray) -> str:
    """In words, how the first layer's gradient compares with the last's."""
    ratio = norms[0] / norms[-1]
    known = ratio[np.isfinite(ratio)]
    if not known.size:
        return ""
    return f"; the first's ÷ the last's: {known[0]:.2g} at first, median {np.median(known):.2g}"


def layer_label(net: "nn.Module", name: str) -> str:
    """What a parameter belongs to, in words: `conv 3×3, 32→64`."""
    from torch import nn

    place, _, own = name.rpartition(".")
    module = net.get_submodule(place)
    if isinstance(module, nn.Conv2d):
        return f"conv {module.kernel_size[0]}×{module.kernel_size[1]}, {module.in_channels}→{module.out_channels}"
    if isinstance(module, nn.Linear):
        return f"linear, {module.in_features}→{module.out_features}"
    if isinstance(module, nn.RNNBase):
        layer = own.split("_l")[1].split("_")[0]
        which = f" {int(layer) + 1}" if module.num_layers > 1 else ""
        origin = "input" if "_ih_" in own else "state"
        return f"{module._get_name().lower()}{which}, from {origin}{', back' if own.endswith('_reverse') else ''}"
    return name


def steps_picture(record: list[dict[str, Any]], title: str, path: Path) -> None:
    """For each recurrent layer, the share of the last step's gradient that gets back to each step; a line an epoch.

    Args:
        record: the lines of gradients.jsonl, of a network with recurrent layers.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    record = [line for line in record if "steps" in line]
    names = list(record[0]["steps"])
    chosen = sorted({round(place) for place in np.linspace(0, len(record) - 1, LINES)})
    figure = Figure(figsize=(8.2, 0.6 + 3.2 * len(names)), layout="constrained")
    for name, axes in zip(names, figure.subplots(len(names), 1, squeeze=False).flat, strict=True):
        lowest = 10.0**-DECADES
        for number in chosen:
            left: list[str] = []  # of the gradient, at the first step, each way
            colour = colormaps["Blues"](0.35 + 0.65 * (number + 1) / len(record))
            for way, norms in enumerate(record[number]["steps"][name]):
                if not norms[-1] > 0:  # nothing of the loss hangs on this direction's end
                    continue
                share = np.array(norms) / norms[-1]
                left.append(f"{share[0]:.2g}")
                lowest = min(lowest, share[share > 0].min())
                label = f"epoch {record[number]['epoch']}{', read backwards' if way else ''}"
                style = {"color": colour, "linewidth": 1.8, "linestyle": "--" if way else "-", "label": label}
                axes.plot(np.arange(1, len(share) + 1), share, marker=".", **style)
        told = f"; to the first step, {' and '.join(left)} of it in the end" if left else ""
        bare(axes, f"{title}: what gets back of the last step's gradient{told}")
        axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(yscale="log", ylim=(lowest / 2, None), xlabel="step, in the order of reading")
        axes.set_ylabel("gradient, as a share of the last step's")
        if left:
            axes.legend(frameon=False, fontsize=8, handlelength=3, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)
