"""Devices by name, and pixels on their way to them."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from weathervane.device import choose, has_bfloat16, normalise, resident, to_float
from weathervane.errors import InputError

CPU = torch.device("cpu")


def pixels(n: int = 3, size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_auto_finds_a_device_that_works() -> None:
    """`auto` never fails: there is always a CPU."""
    assert torch.ones(2, device=choose("auto")).sum() == 2
    assert choose("cpu") == CPU


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", ""])
def test_an_absent_device_is_refused_by_name(name: str) -> None:
    """What is not there is named in one line with what to use instead; nothing falls back in silence."""
    with pytest.raises(InputError, match=f"^--device {name}: .* use --device cpu or auto$"):
        choose(name)


def test_pixels_arrive_unchanged() -> None:
    """At the store's own size every value is where it was; only the order of the axes differs."""
    images = resident(pixels(), 24, CPU)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 24, 24))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), pixels())


def test_only_a_cuda_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere pixels are there when `resident` returns: their memory may be somebody else's a moment later."""
    asked, real = list[bool](), torch.Tensor.to

    def to(held: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        asked.append(named.get("non_blocking", False))
        return real(held, *arguments, **named)

    monkeypatch.setattr(torch.Tensor, "to", to)
    resident(pixels(), 24, torch.device("meta"))
    assert asked == [False]


@pytest.mark.parametrize(
    ("used", "there", "has"), [("AVX512", True, True), ("AVX512", False, False), ("AVX2", True, False)]
)
def test_a_cpu_has_bfloat16_where_torch_uses_its_instructions(
    used: str, there: bool, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that has them, and a torch that was not told to do without AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    assert has_bfloat16.__wrapped__("cpu") is has and not has_bfloat16.__wrapped__("mps")


def test_large_images_are_shrunk_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes of pixels at once, as many images as that may be, and one at least."""
    whole, real = resident(pixels(), 12, CPU), functional.interpolate
    for limit, counts in ((2 * 3 * 24**2, [2, 1]), (1, [1, 1, 1])):
        seen = list[int]()

        def counted(part: torch.Tensor, *sizes: Any, seen: list[int] = seen, **how: Any) -> torch.Tensor:
            seen.append(len(part))
            return real(part, *sizes, **how)

        monkeypatch.setattr("weathervane.store.BLOCK", limit)
        monkeypatch.setattr(functional, "interpolate", counted)
        assert torch.equal(resident(pixels(), 12, CPU), whole) and seen == counts


def test_shrinking_is_antialiased() -> None:
    """Halving averages, as Pillow's antialiased filter does, to the nearest value (or one off it)."""
    images = resident(pixels(), 12, CPU)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 12, 12))
    assert images.is_contiguous(memory_format=torch.channels_last)
    for image, before in zip(images, pixels(), strict=True):
        wanted = np.asarray(Image.fromarray(before).resize((12, 12), Image.Resampling.BILINEAR), np.int16)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(np.int16) - wanted).max() <= 1


def test_units() -> None:
    """255 is 1; ImageNet's mean colour becomes 0, one of its standard deviations above it 1."""
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    colour = torch.tensor([[0.485, 0.456 + 0.224, 0.406 - 0.225]])[:, :, None, None].expand(1, 3, 2, 2)
    assert torch.allclose(normalise(colour)[0, :, 1, 1], torch.tensor([0.0, 1.0, -1.0]), atol=1e-6)
