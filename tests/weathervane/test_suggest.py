"""Which photographs are worth a label."""

import numpy as np

from weathervane.suggest import STRANGE, UNSURE, choose


def crowd(count: int, at: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    return (np.array(at) + rng.normal(0, 0.02, (count, 3))).astype(np.float32)


def sure(count: int, probability: float) -> np.ndarray:
    return np.tile(np.array([[probability, 1 - probability]], np.float32), (count, 1))


def test_the_unsure_and_the_unfamiliar_come_first() -> None:
    """Among many that are known and sure, the few that the model is unsure of are taken, and those in a place where it
    has learnt nothing although it is sure; none of them for the other's reason."""
    rng = np.random.default_rng(0)
    known = crowd(200, (1, 0, 0), rng)
    features = np.concatenate([crowd(300, (1, 0, 0), rng), crowd(5, (1, 0, 0), rng), crowd(5, (0, 0, 1), rng)])
    probabilities = np.concatenate([sure(300, 0.9999), sure(5, 0.6), sure(5, 0.9999)])
    picks = choose(probabilities, features, known, 2)
    assert [pick.why for pick in picks] == [UNSURE, STRANGE]
    assert 300 <= picks[0].row < 305 <= picks[1].row


def test_near_copies_are_not_chosen_while_others_are_left() -> None:
    """Ten places of forty near-copies each, all equally unsure: ten picks are of at least nine places."""
    rng = np.random.default_rng(0)
    places = rng.normal(0, 1, (10, 3)).astype(np.float32)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    features = np.repeat(places, 40, axis=0) + rng.normal(0, 1e-3, (400, 3)).astype(np.float32)
    picks = choose(sure(400, 0.6), features, features[:1], 10)
    assert len({pick.row // 40 for pick in picks}) >= 9


def test_each_is_chosen_once_and_the_same_every_time() -> None:
    """Where fewer are left than asked for, all of them come; a second run gives the same order."""
    rng = np.random.default_rng(0)
    features, probabilities = crowd(7, (1, 1, 1), rng), sure(7, 0.8)
    first = choose(probabilities, features, features[:2], 50)
    assert sorted(pick.row for pick in first) == list(range(7))
    assert first == choose(probabilities, features, features[:2], 50)
    assert choose(probabilities[:0], features[:0], features[:2], 5) == []
