"""Near-duplicates: copies are found, look-alikes are left apart, and adding images later changes nothing."""

import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from weathervane import duplicates
from weathervane.duplicates import components, signature
from weathervane.examine import Picture, look
from weathervane.images import open_image, upright_rgb


def _textured(rng: np.random.Generator) -> Image.Image:
    """A random picture with structure at all scales, as photographs have, 100 to 240 px a side."""
    size = tuple(rng.integers(100, 240, size=2).tolist())
    picture = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 48):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += np.asarray(noise.resize(size, Image.Resampling.BICUBIC)) / cells**0.5
    return Image.fromarray((picture * 255 / picture.max()).astype(np.uint8))


def _copied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Resized by 0.3 to 2 and recompressed as JPEG of quality 30 to 95."""
    scale = np.exp(rng.uniform(np.log(0.3), np.log(2)))
    buffer = io.BytesIO()
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    small.save(buffer, "JPEG", quality=int(rng.integers(30, 96)))
    return Image.open(buffer).convert("RGB")


def _stacked(images) -> tuple[np.ndarray, np.ndarray]:
    dhash, grey = zip(*map(signature, images), strict=True)
    return np.array(dhash), np.stack(grey)


def _found(originals, copies) -> float:
    """Share of the copies that are in the group of their original."""
    found = components(*_stacked([*originals, *copies]))
    return float((found[: len(originals)] == found[len(originals) :]).mean())


def _random(rng: np.random.Generator, n: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Signatures of noise; `copies` rows repeat another row, up to 12 hash bits and a pixel changed."""
    dhash = rng.integers(0, 2**64, n, dtype=np.uint64)
    grey = rng.integers(0, 256, (n, 32, 32), dtype=np.uint8)
    for source, target in rng.integers(0, max(n, 1), (copies, 2)):
        flipped = rng.choice(64, rng.integers(13), replace=False).tolist()
        dhash[target] = dhash[source] ^ np.uint64(sum(1 << bit for bit in flipped))
        grey[target] = grey[source]
        grey[target, 0, 0] ^= 255
    return dhash, grey


def _pairs(dhash: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """The definition of a pair for images that are not flat, in two lines of numpy: i < j, int64 [pairs, 2]."""
    near = np.bitwise_count(dhash[:, None] ^ dhash) <= 8
    return np.argwhere(np.triu(near & (np.corrcoef(grey.reshape(len(grey), -1)) > 0.97), 1))


def _groups(n: int, pairs: np.ndarray) -> np.ndarray:
    """Of n images that the pairs connect, each group's smallest index: what scipy says of it."""
    number = connected_components(coo_array((np.ones(len(pairs)), tuple(pairs.T)), (n, n)), directed=False)[1]
    _, first, group = np.unique(number, return_index=True, return_inverse=True)
    return first[group]


@pytest.mark.fault(12, trials=120)
def test_copies_are_found_and_unrelated_pictures_are_not():
    """At least 95 % of recompressed and resized copies are paired with their original and nothing else."""
    rng = np.random.default_rng(0)
    originals = [_textured(rng) for _ in range(120)]
    copies = [_copied(image, rng) for image in originals]
    found = components(*_stacked([*originals, *copies]))
    assert found[:120].tolist() == list(range(120))
    right = found[120:] == found[:120]
    assert right.sum() >= 0.95 * 120
    assert (found[120:][~right] >= 120).all()


def test_equal_hashes_alone_do_not_join():
    """Different skies that share one difference hash stay apart."""
    rng = np.random.default_rng(1)
    to_the_right = np.linspace(0, 60, 200)
    skies = [
        Image.fromarray((np.repeat(rng.uniform(0, 190, 10), 20)[:, None] + to_the_right).astype(np.uint8))
        for _ in range(50)
    ]
    dhash, grey = _stacked(skies)
    assert len(set(dhash.tolist())) == 1
    assert components(dhash, grey).tolist() == list(range(50))


def test_hash_bits_are_the_steps_to_the_right():
    """A hash bit is set where a row gets brighter, row by row from the top, the first one highest."""
    ramp = np.broadcast_to(np.linspace(0, 255, 180), (80, 180)).astype(np.uint8)
    picture = np.concatenate([ramp, ramp[:, ::-1]])
    assert int(signature(Image.fromarray(picture)).dhash) == 0xFFFFFFFF_00000000


def test_a_step_that_is_none_sets_no_hash_bit() -> None:
    """Where the left half of a picture is constant no bit is set, because an equal neighbour is not a brighter one."""
    row = np.concatenate([np.full(90, 10), np.linspace(10, 255, 90)]).astype(np.uint8)
    assert int(signature(Image.fromarray(np.broadcast_to(row, (80, 180)).copy())).dhash) & 0xE0E0E0E0_E0E0E0E0 == 0


def test_groups_follow_the_definition():
    """Blocks, threads and the early bound change nothing: the groups are those that the definition's pairs connect."""
    rng = np.random.default_rng(2)
    dhash, grey = _random(rng, 700, 300)
    shade = rng.normal(0, 1, (700, 8, 8)) * rng.uniform(0, 25, (700, 1, 1))  # correlations around 0.97
    grey = np.clip(grey + np.kron(shade, np.ones((1, 4, 4))), 0, 255).astype(np.uint8)
    expected = _pairs(dhash, grey)
    assert 50 < len(expected) < 0.8 * len(_pairs(dhash, np.broadcast_to(grey[:1], grey.shape)))
    np.testing.assert_array_equal(components(dhash, grey), _groups(700, expected))


def test_a_strip_that_reaches_into_another_tile_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair is found, also with tiles that are smaller than a strip."""
    monkeypatch.setattr(duplicates, "_TILE", 64)
    dhash, grey = _random(np.random.default_rng(2), 300, 200)
    np.testing.assert_array_equal(components(dhash, grey), _groups(300, _pairs(dhash, grey)))


def test_a_pair_that_is_none_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is unlike the first of a group and like its second belongs to them, whatever was compared first."""
    monkeypatch.setattr(duplicates, "_STRIP", 2)
    monkeypatch.setattr(duplicates, "cores", lambda: 1)
    rng = np.random.default_rng(8)
    one, other = rng.normal(0, 30, (2, 32, 32))
    grey = np.stack([128 + one + share * other for share in (0, 0.24, 0.48)]).clip(0, 255).astype(np.uint8)
    assert components(np.zeros(3, np.uint64), grey).tolist() == [0, 0, 0]
    assert components(np.zeros(2, np.uint64), grey[::2]).tolist() == [0, 1]


def test_many_images():
    """A copy is found however far from its original it stands."""
    rng = np.random.default_rng(3)
    dhash, grey = _random(rng, 20_000, 0)
    originals = rng.choice(10_000, 500, replace=False)
    copies = rng.choice(np.arange(10_000, 20_000), 500, replace=False)
    dhash[copies], grey[copies] = dhash[originals], grey[originals]
    expected = np.arange(20_000)
    expected[copies] = originals
    np.testing.assert_array_equal(components(dhash, grey), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 300), st.lists(st.integers(0, 300), max_size=4))
def test_adding_images_later_gives_the_same_groups(seed, n, stops):
    """However an archive grows, the groups of its parts together connect what those of the whole archive do."""
    dhash, grey = _random(np.random.default_rng(seed), n, n // 3)
    assert [components(dhash[:few], grey[:few]).tolist() for few in (0, 1)] == [[], [0]]
    pairs, grown = _pairs(dhash, grey), []
    for start, stop in itertools.pairwise(sorted({0, n, *(stop for stop in stops if stop < n)})):
        found = components(dhash[:stop], grey[:stop], start)
        np.testing.assert_array_equal(found, _groups(stop, pairs[(start <= pairs[:, 1]) & (pairs[:, 1] < stop)]))
        grown.append(np.stack([found, np.arange(stop)], axis=1))
    np.testing.assert_array_equal(components(dhash, grey), _groups(n, np.concatenate(grown)))


def test_the_last_image_alone_is_compared() -> None:
    """One image that arrives alone is compared with all others, and so is one that is left over after whole strips."""
    dhash, grey = _random(np.random.default_rng(7), 257, 0)
    dhash[256], grey[256] = dhash[3], grey[3]
    for new_from in (0, 256):
        assert components(dhash, grey, new_from)[256] == 3


def test_a_camera_that_looks_at_one_sky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of photographs of one scene are one group, without comparing each with each: 3,000 are four and a half
    million pairs, and take fewer thumbnails' comparisons than thirty of each photograph."""
    rng = np.random.default_rng(5)
    scene = rng.integers(60, 200, (32, 32))
    grey = np.clip(scene + rng.normal(0, 4, (3000, 32, 32)), 0, 255).astype(np.uint8)
    exactly, compared = duplicates._Confirm._exactly, []

    def counted(self, i, j):
        compared.append(len(i))
        return exactly(self, i, j)

    monkeypatch.setattr(duplicates._Confirm, "_exactly", counted)
    assert not components(np.full(3000, 7, np.uint64), grey).any()
    assert sum(compared) < 30 * 3000


def test_constant_images():
    """Images of constant grey are duplicates of each other where their grey agrees, and of nothing else."""
    rng = np.random.default_rng(4)
    dithered = rng.integers(90, 92, (200, 300), dtype=np.uint8)  # its means lie where rounding tips over
    images = [Image.new("RGB", (100 + 10 * k, 80), (grey,) * 3) for k, grey in enumerate((0, 0, 90, 91, 255))]
    images += [Image.fromarray(dithered), _textured(rng), _copied(images[2], rng)]
    assert components(*_stacked(images)).tolist() == [0, 0, 2, 2, 4, 2, 6, 2]


def test_greys_three_levels_apart_are_no_copies() -> None:
    """Constant images of grey 90 and 92 are copies, as JPEG may move a constant so far; 90 and 93 are two pictures."""
    images = [Image.new("RGB", (100, 80), (grey,) * 3) for grey in (90, 92, 93)]
    assert components(*_stacked(images[::2])).tolist() == [0, 1]
    assert components(*_stacked(images[:2])).tolist() == [0, 0]


def test_a_long_chain_is_one_group():
    """2,000 images of which each is a pair with the next alone, in no order, have one group, named by the smallest."""
    chain = np.random.default_rng(5).permutation(2000)
    label = np.arange(2000)
    duplicates._hook(label, np.stack([chain[:-1], chain[1:]], axis=1))
    assert not duplicates._roots(label, label).any()


def test_wrong_arrays_are_refused():
    """Shapes, dtypes and bounds other than documented are named, not guessed around."""
    dhash, grey = _random(np.random.default_rng(6), 4, 0)
    for arguments, complaint in [
        ((dhash.astype(np.int64), grey), "dhash"),
        ((dhash, grey[:3]), "grey"),
        ((dhash, grey.astype(np.float32)), "grey"),
        ((dhash, grey, 5), "new_from"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            components(*arguments)


@pytest.fixture(scope="module")
def pictures(photographs: Path) -> list[Image.Image]:
    found = []
    with zipfile.ZipFile(photographs) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/"):
                continue
            image = open_image(archive.read(name))
            image.draft(None, (256, 256))
            found.append(upright_rgb(image))
    return found


@pytest.fixture(scope="module")
def numbered(pictures: list[Image.Image]) -> np.ndarray:
    """Their groups."""
    return components(*_stacked(pictures))


@pytest.mark.slow
def test_photographs_make_small_groups(numbered):
    """Of the 905 photographs about a tenth are copies; no group is larger than 4, so nothing chains."""
    assert 0.88 <= len(set(numbered.tolist())) / len(numbered) <= 0.91
    assert np.bincount(numbered).max() == 4


@pytest.mark.slow
def test_a_small_grey_look_finds_what_a_full_one_does(photographs: Path) -> None:
    """JPEG's scaled decoding of the brightness alone gives the groups of photographs that all their pixels give."""
    with zipfile.ZipFile(photographs) as archive:
        files = [archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")]
    looks = [look(data) for data in files]
    assert all(isinstance(seen, Picture) for seen in looks)
    small = [seen.signature for seen in looks if isinstance(seen, Picture)]
    full = [signature(upright_rgb(open_image(data))) for data in files]
    dhash, grey = ([np.array([mark[part] for mark in marks]) for marks in (small, full)] for part in (0, 1))
    found, wanted = (components(d, g) for d, g in zip(dhash, grey, strict=True))
    assert len(wanted) - len(set(wanted.tolist())) > 90 and np.array_equal(found, wanted)


@pytest.mark.fault(12, trials=181)
def test_copies_of_photographs_are_found(pictures):
    """At least 95 % of recompressed and resized photographs are paired with their original."""
    rng = np.random.default_rng(7)
    originals = pictures[::5]
    assert _found(originals, [_copied(image, rng) for image in originals]) >= 0.95


@pytest.mark.slow
def test_an_independent_hash_finds_no_further_duplicates(pictures, numbered):
    """What a 512-bit hash of another kind takes for copies stands in one group.

    The 17x16 row hash alone (256 bits, at most 12) also pairs any two pictures of a sun in the middle, over
    classes; so rows and columns are hashed, with the same share of bits.
    """
    bits = []
    for image in pictures:
        luma = image.convert("L")
        rows = np.asarray(luma.resize((17, 16), Image.Resampling.LANCZOS))
        columns = np.asarray(luma.resize((16, 17), Image.Resampling.LANCZOS))
        bits.append(np.concatenate([rows[:, 1:] > rows[:, :-1], (columns[1:] > columns[:-1])], axis=None))
    signs = np.array(bits) * np.float32(2) - 1
    i, j = np.nonzero(np.triu((512 - signs @ signs.T) / 2 <= 24, 1))
    assert len(i) >= 0.1 * len(pictures)
    np.testing.assert_array_equal(numbered[i], numbered[j])
