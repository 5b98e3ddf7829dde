"""Which step an answer hangs on, where the answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.weathervane.pictures.look import looked_at, uncut
from weathervane.layers import Bands, Recurrent, conv_norm
from weathervane.model import Model, Spec
from weathervane.pictures.saliency import saliency_picture, step_places, step_saliency
from weathervane.store import Store


class Reader(nn.Module):
    """[N, T, D] to [N, 6]: the state after one step, of which nothing is carried to the next one; or their mean."""

    def __init__(self, features: int, step: int | None = None) -> None:
        super().__init__()
        self.reader, self.step = nn.RNN(features, 6, batch_first=True), step
        nn.init.zeros_(self.reader.weight_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.reader(x)[0]
        return steps.mean(1) if self.step is None else steps[:, self.step]


@pytest.mark.parametrize("step", [0, 3, 7])
def test_an_answer_that_hangs_on_one_step_has_all_of_it_there(step: int) -> None:
    """The share of that step is 1, of all others 0, for every image."""
    net = nn.Sequential(Bands(2), Reader(3 * 2 * 16, step), nn.Linear(6, 4))
    share = step_saliency(net, torch.randn(5, 3, 16, 16), torch.tensor([0, 1, 2, 3, 0]))
    assert torch.allclose(share, torch.eye(8)[step].expand(5, 8))


def test_shares_are_of_gradient_times_input() -> None:
    """A linear reading of the steps by hand: a step that is zero has no share, one that is doubled has the double."""

    class Sum(nn.RNN):
        def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return x.cumsum(1), x[:, 0]

    net = nn.Sequential(Bands(1), Recurrent(Sum(12, 12, batch_first=True)), nn.Flatten(), nn.Linear(12, 2))
    images = torch.ones(1, 3, 4, 4)
    images[:, :, 1] = 0
    images[:, :, 3] = 2
    (share,) = step_saliency(net, images, torch.tensor([1]))
    # The mean of the sums so far: a step counts once for itself and once for each step after it.
    assert share.tolist() == pytest.approx([4 / 8, 0, 2 / 8, 2 / 8], abs=1e-6)


def test_a_step_sees_its_band_or_its_neighbourhood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands see their own rows and no others, each pixel of them; behind convolutions a step sees what they see."""
    monkeypatch.setattr("weathervane.pictures.saliency.eval_batch_size", lambda net, size: 12)  # three steps together
    places = step_places(nn.Sequential(Bands(4), Reader(3 * 4 * 16)), 16) > 0
    assert places.shape == (4, 16, 16)
    for step in range(4):
        assert places[step].nonzero()[:, 0].unique().tolist() == list(range(4 * step, 4 * step + 4))
        assert places[step].sum() == 4 * 16
    places = step_places(nn.Sequential(*conv_norm(3, 5, stride=4), Bands(1), Reader(5 * 4)), 16) > 0
    assert places[2].nonzero()[:, 0].unique().tolist() == [7, 8, 9]


def test_the_picture_is_dark_where_the_step_is(store: Store, tmp_path: Path) -> None:
    """Of an answer that hangs on the last of eight bands, the lowest eighth of the map is dark, and the last bar is the
    highest."""
    net = nn.Sequential(Bands(4), Reader(3 * 4 * 32, step=7), nn.Linear(6, 4))
    spec = Spec("rnn", "rnn", {}, 32, 32, store.classes, False)
    rows = store.part("test")[:3]
    saliency_picture(Model(net, spec, torch.device("cpu")), store, rows, "rnn", tmp_path / "s.png")
    pixels = looked_at(tmp_path / "s.png")
    assert uncut(pixels)
    height = pixels.shape[0]
    dark = (pixels[..., 2] > pixels[..., 0] + 40) & (pixels[..., 0] < 40)
    middle = np.nonzero(dark[height * 46 // 100 : height * 76 // 100])[0]
    assert len(middle) > 3000 and middle.max() - middle.min() < 0.06 * height
