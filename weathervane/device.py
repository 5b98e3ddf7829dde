"""The device that trains or scores, and how pixels get there.

Legend: N = images, S = size.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weathervane.errors import InputError, Told
from weathervane.store import images_per_block

PINNED = 1 << 27  # bytes up to which a copy to the device is made without waiting for it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as every torchvision backbone expects


def choose(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, then Apple's MPS, then the CPU. Nothing is allocated on it.

    Raises:
        InputError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device, reason = torch.device(name), "no such kind of device"
    except RuntimeError as error:
        device, reason = torch.device("meta"), str(error).splitlines()[0]
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) < there.get(device.type, 0):
        return device
    if device.type in there:
        reason = f"there are {there[device.type]} of them"
    raise InputError(f"--device {name}: not available here ({reason}): use --device cpu or auto")


@cache
def has_bfloat16(kind: str) -> bool:
    """Whether devices of this kind compute in it themselves, CUDA's and CPUs with avx512_bf16; where it is emulated,
    float32 is faster, and others were not tried."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    used = torch.backends.cpu.get_cpu_capability()  # ATEN_CPU_CAPABILITY lowers it
    return kind == "cpu" and used == "AVX512" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def resident(pixels: np.ndarray, size: int, device: torch.device) -> Tensor:
    """uint8 [N, S, S, 3] to uint8 [N, 3, size, size], channels last, on the device.

    Shrinking is antialiased and happens there.
    """
    held = torch.from_numpy(pixels)
    if device.type == "cuda" and held.nbytes < PINNED:
        held = held.pin_memory()
    images = to_device(held, device).permute(0, 3, 1, 2)
    if images.shape[-1] == size:
        return images
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().to(torch.uint8)
        for part in images.split(images_per_block(images.shape[-1]))
    ]
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device is short of memory, which a CPU, MPS, and CUDA outside of torch's allocator say in words alone;
    not an error that tells a person so already."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return not isinstance(error, Told) and any(
        said in str(error) for said in ("out of memory", "can't allocate memory")
    )


@cache
def _second(number: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(number)


def _aside(device: torch.device) -> torch.cuda.Stream:
    return _second(torch.cuda.current_device() if device.index is None else device.index)


def on_side_stream(device: torch.device) -> AbstractContextManager[object]:
    """Within it work goes to a side CUDA stream, which the GPU does while it is at the main one's; no effect elsewhere.

    That work finds what was made there before, and what the main stream had been given before `side_stream_waits`.
    """
    return torch.cuda.stream(_aside(device)) if device.type == "cuda" else nullcontext()


def side_stream_waits(device: torch.device) -> None:
    """Have the side stream wait, on the GPU, for all that the main stream has been given until now."""
    if device.type == "cuda":
        _aside(device).wait_stream(torch.cuda.current_stream(device))


def from_side_stream(made: Tensor) -> Tensor:
    """Hand what was made `on_side_stream` to the main stream, which waits for it on the GPU."""
    if made.is_cuda:
        usual = torch.cuda.current_stream(made.device)
        usual.wait_stream(_aside(made.device))
        made.record_stream(usual)  # or its memory would be used again while the main stream still reads it
    return made


def active(device: torch.device) -> AbstractContextManager[object]:
    """Within it CUDA streams and graph captures are this GPU's, of several; no effect elsewhere."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_float(images: Tensor) -> Tensor:
    """uint8 0-255 to float32 0-1."""
    return images / 255


def normalise(images: Tensor) -> Tensor:
    """float32 0-1 [N, 3, S, S] to zero mean and unit variance a channel, by ImageNet's statistics."""
    return (images - per_channel(MEAN, images)).div_(per_channel(STD, images))


def per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    """float32, where the images [N, C, S, S] are: [C, 1, 1] on a CUDA device, which is not waited for, elsewhere
    [1, C, S, S], laid out as they are.

    A CPU that takes the same three values for pixel after pixel, channels last, needs six times as long.
    """
    if images.is_cuda:
        return _there(values, images.device)
    return torch.empty_like(images[:1]).copy_(torch.tensor(values)[:, None, None])


@cache
def _there(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Brought there once: what is recorded there may bring nothing."""
    with torch.inference_mode(False):  # or it could not be used in training later
        return torch.tensor(values, device=device)[:, None, None]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """On the device; a CUDA one is not waited for.

    MPS would not be waited for either, but reads memory that is somebody else's by then (pytorch #189690).
    """
    return values.to(device, non_blocking=device.type == "cuda")
