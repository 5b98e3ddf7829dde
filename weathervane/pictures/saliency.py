"""Which steps of the sequence a recurrent network's answer hangs on.

Legend: N = images, S = the network's image size, T = steps, D = features.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from weathervane.device import normalise, resident, to_float
from weathervane.model import Model, eval_batch_size
from weathervane.pictures.style import AFTER, bare, colours, save
from weathervane.store import Store


def saliency_picture(model: Model, store: Store, rows: np.ndarray, title: str, path: Path) -> None:
    """Photographs, where the steps are that the answer hangs on, and a bar a step.

    Args:
        rows: row numbers in the store of the photographs.
    """
    from matplotlib.figure import Figure

    labels, pixels = store.manifest["label"][rows], store.pixels(rows)
    images, colour = normalise(to_float(resident(pixels, model.spec.size, model.device))), colours(model.spec.classes)
    numbers = torch.tensor([model.spec.classes.index(label) for label in labels], device=model.device)
    share, places = step_saliency(model.net, images, numbers).cpu(), step_places(model.net, model.spec.size).cpu()
    figure = Figure(figsize=(8.2, 0.6 + 2.7 * 8.2 / len(rows)), layout="constrained")
    above, middle, below = figure.subplots(3, len(rows), squeeze=False, height_ratios=(1, 1, 0.5), sharey="row")
    for number, label in enumerate(labels):
        above[number].imshow(pixels[number])
        above[number].set_title(label, fontsize=9, color=colour[label])
        # Where several steps see a pixel, their mean, by how well they do.
        where = (share[number][:, None, None] * places).sum(0) / places.sum(0).clamp(min=1e-12)
        middle[number].imshow(where.numpy(), cmap="Blues", vmin=0, vmax=float(share.max()), interpolation="nearest")
        below[number].bar(np.arange(1, len(places) + 1), share[number].numpy(), color=AFTER)
        bare(below[number])
        below[number].set_xlabel("step")
    for axes in (*above, *middle):
        axes.set_axis_off()
    below[0].set_ylabel("share")
    heading = f"{title}: the steps that the true class's score hangs on (gradient × input)"
    figure.suptitle(
        f"{heading}\nbelow each photograph: where they look (darker: more), and the share of each", fontsize=10
    )
    save(figure, path)


def step_saliency(net: nn.Module, images: Tensor, numbers: Tensor) -> Tensor:
    """Share (0-1) of each step in what the true class's logit hangs on, float32 [N, T]: the norm of gradient × input.

    The input is that of the first recurrent layer.

    Args:
        images: normalised, float32 [N, 3, S, S].
        numbers: the true class of each image, int64 [N].
    """
    with torch.backends.cudnn.flags(enabled=False):  # its cells have no backward pass in eval mode
        steps, out = _steps(net, images.detach().clone().requires_grad_())
        (gradient,) = torch.autograd.grad(out.gather(1, numbers[:, None]).sum(), steps)
    norms = (gradient * steps.detach()).norm(dim=2)
    return norms / norms.sum(1, keepdim=True).clamp(min=1e-12)


def step_places(net: nn.Module, size: int) -> Tensor:
    """How well each step sees each pixel of an image: the size of its gradient, float32 [T, S, S]."""
    device = next(net.parameters()).device
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    seen = []
    for some in torch.arange(_steps(net, noise)[0].shape[1]).split(max(1, eval_batch_size(net, size) // 4)):
        images = noise.repeat(len(some), 1, 1, 1).requires_grad_()
        own = _steps(net, images)[0][torch.arange(len(some)), some].sum()
        seen.append(torch.autograd.grad(own, images)[0].abs().sum(1))
    return torch.cat(seen)


def _steps(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Input of the first recurrent layer, [N, T, D], and the logits, [N, K]."""
    reader = next(module for module in net.modules() if isinstance(module, nn.RNNBase))
    given: list[Tensor] = []
    handle = reader.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    out = net.eval()(images)
    handle.remove()
    return given[0], out
