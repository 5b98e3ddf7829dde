"""Random changes of training images: what each one does, and what it never does."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from weathervane.augment import affine, augment, colour_, erase_, mix, pixel_places, sampled_at
from weathervane.changes import AFFINE, COLOUR, ERASE, blends, chances, changes, places, rectangles, shades
from weathervane.variant import Augment

OFF = {
    "crop": (1.0, 1.0),
    "scale": 1.0,
    "ratio": 1.0,
    "rotate": 0.0,
    "flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "erase": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
EACH = {
    "crop": (0.3, 0.6),
    "ratio": 2.0,
    "rotate": 30.0,
    "flip": True,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "erase": 1.0,
}
SIZE = 32
PLACES = pixel_places(SIZE, torch.device("cpu"))


def policy(**on: object) -> Augment:
    return Augment.model_validate(OFF | on)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def chance(rows: int, images: Tensor, seed: int = 0) -> Tensor:
    return torch.rand(rows, len(images), generator=seeded(seed))


def augmented(images: Tensor, policy: Augment, seed: int = 0) -> Tensor:
    drawn = chances(1, len(images), policy, seeded(seed))[0]
    return augment(images, policy, changes(drawn, policy))


def moved(images: Tensor, policy: Augment, chances: Tensor) -> Tensor:
    return affine(images, torch.stack(places(chances, policy), 1), PLACES)


def shaded(images: Tensor, policy: Augment, chances: Tensor) -> Tensor:
    return colour_(images.clone(), torch.stack(shades(chances, policy), 1))


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Eight smooth coloured pictures, float32 [8, 3, 32, 32] in 0-1."""
    coarse = torch.rand(8, 3, 5, 5, generator=seeded())
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=True)


def test_every_policy_key_is_walked() -> None:
    """The policies of this file name every key that a variant's `augment:` has."""
    assert set(OFF) == set(Augment.model_fields) == set(EACH) | {"scale", "mixup", "cutmix"}


def test_all_off_is_the_identity(images: Tensor) -> None:
    """With every strength off an image stays as it is (float32 rounding of the resample apart)."""
    assert torch.allclose(augmented(images, policy()), images, atol=1e-5)


@pytest.mark.parametrize("size", [16, 33, 64, 224])
def test_the_grid_is_torchs_own(size: int) -> None:
    """Pixels are sampled where torch's `affine_grid` says, to the last bit."""
    theta = torch.randn(32, 2, 3, generator=seeded())
    theirs = torch.nn.functional.affine_grid(theta, [32, 3, size, size], align_corners=False)
    assert torch.equal(sampled_at(theta, pixel_places(size, theta.device)), theirs)


@pytest.mark.parametrize("key", EACH)
def test_each_key_changes_images(images: Tensor, key: str) -> None:
    """Every key has an effect of its own; shape, dtype and the range 0-1 are kept."""
    for strength in (policy(**{key: EACH[key]}), policy(**EACH)):
        out = augmented(images, strength)
        assert (out.shape, out.dtype) == (images.shape, torch.float32)
        assert out.min() >= 0 and out.max() <= 1
        assert (out - images).abs().max() > 0.05


def test_each_image_is_changed_in_its_own_way(images: Tensor) -> None:
    """Nothing is drawn once for a whole batch: eight copies of one image become eight images."""
    for key in EACH:
        out = augmented(images[:1].repeat(8, 1, 1, 1), policy(**{key: EACH[key]}))
        different = {tensor.numpy().tobytes() for tensor in out}
        assert len(different) == (2 if key == "flip" else 8), key


def test_a_seed_decides_every_draw(images: Tensor) -> None:
    """Equal generators, equal images to the last bit; another seed, others. The global generator plays no part."""
    first = augmented(images, policy(**EACH), 1)
    torch.rand(3)
    assert torch.equal(first, augmented(images, policy(**EACH), 1))
    assert not torch.equal(first, augmented(images, policy(**EACH), 2))


def test_flip_mirrors_half_of_the_images(images: Tensor) -> None:
    """An image is as it was or mirrored left to right, about as often the one as the other."""
    out = moved(images[:1].repeat(400, 1, 1, 1), policy(flip=True), torch.rand(AFFINE, 400, generator=seeded()))
    same = (out - images[:1]).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (out - images[:1].flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_scale_makes_images_smaller(images: Tensor) -> None:
    """At scale 0.5 each pixel of a whole image is the mean of four; every other change works on the smaller ones."""
    halved = torch.nn.functional.avg_pool2d(images, 2)
    assert torch.allclose(augmented(images, policy(scale=0.5)), halved, atol=1e-5)
    out = augmented(images, policy(scale=0.66, **EACH))
    assert (out.shape, out.dtype) == ((8, 3, 21, 21), torch.float32)
    assert out.min() >= 0 and out.max() <= 1


def test_affine_is_what_a_loop_over_pixels_does(images: Tensor) -> None:
    """The batched resample equals one written pixel by pixel: crop, aspect, rotation, flip, mirrored edges."""
    chosen = policy(crop=(0.3, 0.9), ratio=1.5, rotate=25, flip=True)
    drawn = chance(AFFINE, images, 3)
    out = moved(images, chosen, drawn)
    for number in (0, 5):
        wanted = by_loop(images[number].tolist(), chosen, drawn[:, number].tolist())
        assert torch.allclose(out[number], torch.tensor(wanted), atol=1e-4)


def by_loop(image: list[list[list[float]]], chosen: Augment, draws: list[float]) -> list[list[list[float]]]:
    area, ratio, angle, across, down, mirror = draws
    area = chosen.crop[0] + area * (chosen.crop[1] - chosen.crop[0])
    stretch = chosen.ratio ** (ratio - 0.5)
    width, height = min(1.0, math.sqrt(area) * stretch), min(1.0, math.sqrt(area) / stretch)
    left, top = across * (1 - width), down * (1 - height)
    turn = math.radians((2 * angle - 1) * chosen.rotate)

    def at(plane: list[list[float]], x: float, y: float) -> float:
        x0, y0 = math.floor(x), math.floor(y)
        total = 0.0
        for xi, yi in ((x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)):
            share = (1 - abs(x - xi)) * (1 - abs(y - yi))
            total += share * plane[yi][xi] if share > 0 else 0
        return total

    def inside(place: float) -> float:  # mirrored at the image's edges, then at the outermost pixels' centres
        place = place % (2 * SIZE)
        place = 2 * SIZE - place if place > SIZE else place
        return min(max(place - 0.5, 0.0), SIZE - 1.0)

    def source(row: int, column: int) -> tuple[float, float]:
        x, y = (column + 0.5) / SIZE - 0.5, (row + 0.5) / SIZE - 0.5  # of the crop, its centre at 0
        x = -x if chosen.flip and mirror < 0.5 else x
        x, y = x * width, y * height
        x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        return inside((x + left + width / 2) * SIZE), inside((y + top + height / 2) * SIZE)

    places = [[source(row, column) for column in range(SIZE)] for row in range(SIZE)]
    return [[[at(plane, x, y) for x, y in row] for row in places] for plane in image]


def test_a_crop_lies_inside_the_image() -> None:
    """Without rotation nothing but the image is seen, and area and aspect are what the policy says."""
    place = (torch.arange(SIZE) + 0.5) / SIZE
    ramps = torch.stack([place.expand(SIZE, SIZE), place[:, None].expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)])
    chosen = policy(crop=(0.3, 0.5), ratio=1.4)
    out = moved(ramps.repeat(500, 1, 1, 1), chosen, torch.rand(AFFINE, 500, generator=seeded()))
    x, y = out[:, 0], out[:, 1]
    assert (x.diff(dim=2) > -1e-6).all() and (y.diff(dim=1) > -1e-6).all()  # a mirrored edge would turn back
    middle = SIZE // 2
    width = (x[:, middle, middle] - x[:, middle, middle - 1]) * SIZE
    height = (y[:, middle, middle] - y[:, middle - 1, middle]) * SIZE
    area, aspect = width * height, width / height
    assert 0.299 < area.min() < 0.31 and 0.49 < area.max() < 0.501
    assert 1 / 1.401 < aspect.min() < 0.74 and 1.36 < aspect.max() < 1.401
    centre = x[:, middle, middle]  # of the crops: spread over the whole room that they have
    assert centre.min() < 0.4 and centre.max() > 0.6 and abs(centre.mean() - 0.5) < 0.05


def test_brightness_scales_an_image() -> None:
    """All pixels of an image by one factor from 1 - b to 1 + b."""
    grey = 0.2 + 0.3 * torch.rand(300, 3, 4, 4, generator=seeded())
    factor = shaded(grey, policy(brightness=0.5), chance(COLOUR, grey)) / grey
    assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor), atol=1e-5)
    assert 0.5 <= factor.min() < 0.52 and 1.48 < factor.max() <= 1.5


def test_contrast_keeps_the_mean_and_saturation_every_pixels_grey() -> None:
    """Contrast moves pixels about the image's mean grey, saturation colours about their own (BT.601 luma)."""
    soft = 0.4 + 0.2 * torch.rand(50, 3, 4, 4, generator=seeded())

    def luma(x: Tensor) -> Tensor:
        return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]

    hard = shaded(soft, policy(contrast=0.5), chance(COLOUR, soft))
    assert torch.allclose(luma(hard).mean((1, 2)), luma(soft).mean((1, 2)), atol=1e-5)
    assert (hard.std((1, 2, 3)) / soft.std((1, 2, 3)) - 1).abs().max() > 0.3
    vivid = shaded(soft, policy(saturation=0.5), chance(COLOUR, soft))
    assert torch.allclose(luma(vivid), luma(soft), atol=1e-5)
    assert (vivid - soft).abs().max() > 0.03


def test_colours_change_one_after_the_other() -> None:
    """Brightness, then contrast, then saturation, of the same draws, come to what all three do together."""
    images = 0.3 + 0.3 * torch.rand(20, 3, 4, 4, generator=seeded())
    drawn = 2 * chance(COLOUR, images)[:, :, None, None, None] - 1
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    wanted = images * (1 + 0.1 * drawn[0])
    mean = (wanted * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    wanted = mean + (wanted - mean) * (1 + 0.2 * drawn[1])
    own = (wanted * luma).sum(1, keepdim=True)
    wanted = own + (wanted - own) * (1 + 0.3 * drawn[2])
    together = shaded(images, policy(brightness=0.1, contrast=0.2, saturation=0.3), chance(COLOUR, images))
    assert torch.allclose(together, wanted.clamp(0, 1), atol=1e-6)


def test_erasing_takes_one_grey_rectangle() -> None:
    """A share of the images loses a rectangle of at most 25 % of the area to grey; all else is untouched."""
    white = torch.ones(2000, 3, SIZE, SIZE)
    out = erase_(white.clone(), torch.stack(rectangles(chance(ERASE, white), policy(erase=0.3)), 1), PLACES)
    gone = out != 1
    assert (out[gone] == 0.5).all()
    hit = gone.flatten(1).any(1)
    assert 500 < hit.sum() < 700
    for mask in gone[hit][:200]:
        rows, columns = mask[0].any(1), mask[0].any(0)
        assert torch.equal(mask, (rows[:, None] & columns[None]).expand(3, -1, -1))
        assert rows.sum() * columns.sum() <= 0.27 * SIZE**2
    assert torch.equal(white, torch.ones_like(white))


# Blending of a batch: image n is all n, so that a pixel tells which image it comes from.
NUMBERED = torch.arange(6.0)[:, None, None, None].expand(6, 3, SIZE, SIZE)
TARGETS = torch.eye(6)


def mixed(images: Tensor, targets: Tensor, policy: Augment, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    out = mix(images[None], targets[None], policy, blends(1, policy, rng))
    return out[0][0], out[1][0]


def test_no_blending_returns_the_batch_itself() -> None:
    """With mixup and cutmix off nothing is copied or drawn."""
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    images, targets = mix(NUMBERED, TARGETS, policy(), blends(1, policy(), rng))
    assert images is NUMBERED and targets is TARGETS and rng.bit_generator.state == before


@pytest.mark.parametrize("on", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_targets_stay_shares(on: dict[str, float]) -> None:
    """Each row of the blended targets sums to 1 and none is negative; the inputs are not written to."""
    for seed in range(30):
        images, targets = mixed(NUMBERED, TARGETS, policy(**on), np.random.default_rng(seed))
        assert torch.allclose(targets.sum(1), torch.ones(6)) and targets.min() >= 0
        assert images.shape == NUMBERED.shape and images.dtype == torch.float32
    assert torch.equal(TARGETS, torch.eye(6)) and NUMBERED[3, 0, 5, 5] == 3


def test_mixup_blends_images_as_it_blends_targets() -> None:
    """keep * image + (1 - keep) * its neighbour, with the very share that the targets have."""
    images = torch.rand(6, 3, 8, 8, generator=seeded())
    shares = []
    for seed in range(30):
        out, targets = mixed(images, TARGETS, policy(mixup=0.4), np.random.default_rng(seed))
        keep = targets[0, 0]
        assert torch.allclose(out, keep * images + (1 - keep) * images.roll(1, 0), atol=1e-6)
        assert torch.allclose(targets, keep * TARGETS + (1 - keep) * TARGETS.roll(1, 0), atol=1e-6)
        shares.append(keep.item())
    assert min(shares) < 0.2 and max(shares) > 0.8


def test_cutmix_targets_are_the_shares_of_pixels() -> None:
    """One rectangle comes from the neighbour; the targets say exactly which share of the pixels that is."""
    for seed in range(50):
        out, targets = mixed(NUMBERED, TARGETS, policy(cutmix=1.0), np.random.default_rng(seed))
        for number in range(6):
            kept = out[number] == number
            assert (out[number][~kept] == (number - 1) % 6).all()
            assert kept.float().mean().item() == pytest.approx(targets[number, number].item(), abs=1e-6)
        rows, columns = (~kept)[0].any(1), (~kept)[0].any(0)
        assert torch.equal((~kept)[0], rows[:, None] & columns[None])


def test_cutmix_favours_no_corner() -> None:
    """A rectangle that would stand out is cut off at any edge alike, as in the paper: no place is hit more often
    than the one opposite."""
    rng, hit = np.random.default_rng(0), torch.zeros(SIZE, SIZE)
    for _ in range(3000):
        out, _ = mixed(NUMBERED[:2], torch.eye(2), policy(cutmix=1.0), rng)
        hit += out[0, 0]
    hit /= 3000
    assert (hit - hit.flip(0, 1)).abs().max() < 0.05


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_blending_follows_its_generator(name: str) -> None:
    """Equal numpy generators, equal batches."""

    def make(seed: int) -> Tensor:
        return mixed(NUMBERED, TARGETS, policy(**{name: 1.0}), np.random.default_rng(seed))[0]

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(1), make(2))


def test_batches_blended_together_are_those_blended_one_by_one() -> None:
    """Three batches in one call draw what three calls draw, and come out the same: many are blended at once."""
    images, targets = torch.rand(3, 6, 3, 8, 8, generator=seeded()), TARGETS.expand(3, 6, 6)
    for on in ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}):
        rng, again = np.random.default_rng(1), np.random.default_rng(1)
        together = mix(images, targets, policy(**on), blends(3, policy(**on), rng))
        alone = [mixed(*batch, policy(**on), again) for batch in zip(images, targets, strict=True)]
        for part, parts in zip(together, zip(*alone, strict=True), strict=True):
            assert torch.equal(part, torch.stack(parts))


@pytest.mark.parametrize("size", [32, 33])
def test_batches_augmented_together_are_those_augmented_one_by_one(size: int) -> None:
    """An epoch's chances are those that its batches would draw one after another, and reckoned with at once they give
    the same images to the last bit: how many batches are augmented together decides nothing."""
    images, strength = torch.rand(5, 7, 3, size, size, generator=seeded(4)), policy(**EACH)
    at_once = chances(5, 7, strength, seeded())
    again = seeded()
    for one in at_once:
        assert torch.equal(one, torch.cat([torch.rand(rows, 7, generator=again) for rows in (AFFINE, COLOUR, ERASE)]))
    together = augment(images.flatten(0, 1), strength, changes(at_once, strength).flatten(0, 1))
    alone = [augment(batch, strength, changes(one, strength)) for batch, one in zip(images, at_once, strict=True)]
    assert torch.equal(together, torch.cat(alone))
