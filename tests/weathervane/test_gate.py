"""The gate's statistics: which votes are cast, what they prove, and what the verdict says."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest

from weathervane import project
from weathervane.errors import InputError
from weathervane.gate import (
    Comparison,
    Register,
    Verdict,
    beyond,
    compare,
    difference_interval,
    judge,
    leaked,
    level,
    p_better,
    p_not_worse,
    table,
)
from weathervane.params import load
from weathervane.slices import slices
from weathervane.store import Store

RULES = Register(policy="by_change", alpha=0.05, margin=0.03, min_images=50, slice_margin=0.05,
                 suspected_rise=0.05, limits={})  # fmt: skip
ROOT = Path(__file__).parents[2]


def answers(right: Sequence[bool], label: str | Sequence[str] = "rain", group: Sequence[str] | None = None) -> Any:
    """A table of predictions; wrong ones say `fog`."""
    n = len(right)
    labels = [label] * n if isinstance(label, str) else list(label)
    return pd.DataFrame(
        {
            "sha256": [f"{number:064x}" for number in range(n)],
            "group": list(group or map(str, range(n))),
            "label": labels,
            "predicted": [own if good else "fog" for own, good in zip(labels, right, strict=True)],
        }
    )


def compared(
    ours: Sequence[bool], theirs: Sequence[bool], rules: Register = RULES, out: set[str] = frozenset(), **columns: Any
) -> Comparison:
    """Challenger against version 3."""
    nothing = pd.DataFrame(index=[f"{number:064x}" for number in range(len(ours))])
    both = answers(ours, **columns), answers(theirs, **columns)
    return compare(*both, "3", (["fog", "rain", "shine"],) * 2, set(out), nothing, rules)


def pair(gained: int, lost: int, images: int = 169, both_wrong: int = 5) -> tuple[list[bool], list[bool]]:
    """Answers of challenger and champion with so many votes."""
    rest = images - gained - lost
    ours = [True] * gained + [False] * lost + [number >= both_wrong for number in range(rest)]
    theirs = [False] * gained + [True] * lost + [number >= both_wrong for number in range(rest)]
    return ours, theirs


def verdict(gained: int, lost: int, policy: str = "better", images: int = 169, look: int = 1) -> Verdict:
    return judge("7", policy, compared(*pair(gained, lost, images)), None, look, RULES)


def test_the_params_file_is_complete() -> None:
    """params/register.yaml of the repository is what the schema asks for."""
    assert load(Register, ROOT / "params/register.yaml").policy == "by_change"
    assert project.root(ROOT) == ROOT


@pytest.mark.parametrize(("name", "value"), [("alpha", 5), ("margin", 3), ("slice_margin", 5), ("min_images", 0)])
def test_percentages_for_shares_are_refused(name: str, value: float) -> None:
    """params/register.yaml takes shares: `margin: 3`, meant as 3 %, would let anything in."""
    with pytest.raises(ValidationError, match=name):
        Register.model_validate(RULES.model_dump() | {name: value})


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_better_is_mcnemars_exact_test(gained: int, lost: int) -> None:
    """The p of `better` is that of scipy's exact binomial test of the votes that differ."""
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert float(p_better(gained, lost)) == pytest.approx(expected)


def test_not_worse_is_tangos_test() -> None:
    """Tango 1998: of 44 pairs, none gained and one lost, margin 0.1: z = 1.709, one-sided p = 0.044."""
    assert float(p_not_worse(0, 1, 44, 0.1)) / 2 == pytest.approx(0.0437659, abs=1e-6)


def test_without_a_difference_the_interval_has_a_width() -> None:
    """Two models that answer alike on 100 images may still differ by what 100 images do not show; one image that a
    single one of them has right does not change that at once."""
    none, one = compared(*pair(0, 0, 100)), compared(*pair(1, 0, 100))
    assert (none.low, none.high) == pytest.approx((-0.037, 0.037), abs=1e-3)
    assert -0.03 < one.low < -0.02 and 0.05 < one.high < 0.06


def test_models_that_never_disagree_are_not_worse_once_there_are_enough_images() -> None:
    """Without a single vote, a loss of 3 points is ruled out (p = 0.025) by the number of images at which at least one
    loss would have been seen with that certainty: 0.97^121 = 0.025."""
    assert float(p_not_worse(0, 0, 121, 0.03)) / 2 == pytest.approx(0.97**121, rel=0.07)
    assert verdict(0, 0, "not_worse", images=100).opens is False
    assert verdict(0, 0, "not_worse", images=169).opens is True


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(81, 2000))
def test_not_worse_moves_with_the_votes(gained: int, lost: int, groups: int) -> None:
    """A p between 0 and 1, smaller with every vote gained, larger with every vote lost and with a smaller margin."""
    here = float(p_not_worse(gained, lost, groups, 0.03))
    assert 0 <= here <= 1
    assert float(p_not_worse(gained + 1, lost, groups, 0.03)) <= here + 1e-12
    assert float(p_not_worse(gained, lost + 1, groups, 0.03)) >= here - 1e-12
    assert float(p_not_worse(gained, lost, groups, 0.02)) >= here - 1e-12


@pytest.mark.parametrize("n", [100, 169, 500])
def test_the_tests_keep_their_promise(n: int) -> None:
    """Of 20,000 challengers that are no better (or worse by exactly the margin), at most 2.5 % and sampling error look
    so with p ≤ 0.05."""
    rng = np.random.default_rng(n)
    for disagree in (0.06, 0.10):
        for worse_by, p in ((0.0, lambda g, lo: p_better(g, lo)), (0.03, lambda g, lo: p_not_worse(g, lo, n, 0.03))):
            gain = (disagree - worse_by) / 2
            counts = rng.multinomial(n, [gain, gain + worse_by, 1 - disagree], 20_000)
            gained, lost = counts[:, 0], counts[:, 1]
            false = (p(gained, lost) <= 0.05) & ((gained > lost) | (worse_by > 0))
            assert false.mean() < 0.025 + 0.007, (disagree, worse_by)


def test_looks_at_one_test_set_share_one_allowance() -> None:
    """However often a test set is looked at, the levels of all looks add up to 2 alpha, of which one side promotes."""
    assert level(0.05, 1) == pytest.approx(0.05)
    levels = [level(0.05, look) for look in range(1, 100_000)]
    assert sum(levels) / 2 == pytest.approx(0.05, abs=1e-6) and sum(levels) / 2 < 0.05
    assert sorted(levels, reverse=True) == levels


def test_near_duplicates_have_one_vote() -> None:
    """Ten near-duplicates that the challenger gets right are one vote; a group that is half gained, half lost is
    none."""
    group = ["same"] * 10 + ["split"] * 2 + ["a", "b", "c"]
    ours = [True] * 10 + [True, False] + [True] * 3
    theirs = [False] * 10 + [False, True] + [True] * 3
    found = compared(ours, theirs, group=group)
    assert (found.images, found.groups, found.gained, found.lost) == (15, 5, 1, 0)
    assert found.p_better == 1
    assert found.difference == pytest.approx(10 / 15)
    few = Register.model_validate(RULES.model_dump() | {"min_images": 10})
    assert "on 1 of 5 images or groups of near-duplicates and" in judge("7", "better", found, None, 1, few).why


def test_images_that_either_was_trained_on_are_left_out_for_both() -> None:
    """Whole groups go, and are counted; what is left is what both are judged by."""
    group = ["g"] * 5 + [str(number) for number in range(95)]
    found = compared([True] * 100, [False] * 5 + [True] * 95, group=group, out={"g"})
    assert (found.images, found.left_out, found.gained, found.other_accuracy) == (95, 5, 0, 1.0)
    why = judge("7", "better", found, None, 1, RULES).why
    assert "5 test images left out because one of the two was trained on them" in why
    with pytest.raises(InputError, match="trained on each of the 100 test images"):
        compared([True] * 100, [True] * 100, group=["g"] * 100, out={"g"})


def test_a_leak_is_found_by_bytes_and_by_group() -> None:
    """A test image leaks if a model saw it, or any image of its near-duplicate group, under whatever name another
    ledger gave the group."""
    today = pd.DataFrame({"sha256": ["a", "b", "c", "d", "e"], "group": ["ab", "ab", "c", "d", "e"]})
    by_bytes = pd.DataFrame({"sha256": ["a"], "group": ["elsewhere"]})
    by_group = pd.DataFrame({"sha256": ["x"], "group": ["d"]})
    assert leaked(today, by_bytes, by_group) == {"ab", "d"}
    assert leaked(today, by_group) == {"d"}
    assert leaked(today) == set()


def test_different_classes_are_compared_on_the_common_ones() -> None:
    """Images of a class that one of the two does not know are not counted, and the verdict says so."""
    ours, theirs = (
        answers([True] * 60, ["rain", "shine", "fog"] * 20),
        answers([True] * 60, ["rain", "shine", "fog"] * 20),
    )
    found = compare(
        ours, theirs, "3", (["fog", "rain", "shine"], ["hail", "rain", "shine"]), set(), pd.DataFrame(), RULES
    )
    assert (found.images, found.classes) == (40, ("rain", "shine"))
    assert "on the common classes rain, shine" in judge("7", "better", found, None, 1, RULES).why
    with pytest.raises(InputError, match="the classes of version 3 are cat, rain, the challenger's dog, rain"):
        compare(ours, theirs, "3", (["dog", "rain"], ["cat", "rain"]), set(), pd.DataFrame(), RULES)


def test_a_class_that_only_the_challenger_knows_is_told() -> None:
    """Where the challenger knows one class more, images of that class are not counted, the verdict names the classes
    that are, and nothing is said to have been left out because of training."""
    both = (answers([True] * 90, ["rain", "shine", "fog"] * 30),) * 2
    found = compare(*both, "3", (["fog", "rain", "shine"], ["rain", "shine"]), set(), pd.DataFrame(), RULES)
    assert (found.images, found.left_out, found.classes) == (60, 0, ("rain", "shine"))
    assert "on the common classes rain, shine" in judge("7", "better", found, None, 1, RULES).why


@pytest.mark.slow
def test_the_interval_covers_the_difference() -> None:
    """95 % intervals of the difference hold the true one in 930 of 1,000 test sets or more, few disagreements among
    them; they are what the test of `not_worse` does not rule out; near-duplicates widen them."""
    rng = np.random.default_rng(0)
    for gained, lost, images in ((0.06, 0.03, 200), (0.01, 0.02, 80), (0.0, 0.03, 177)):
        inside = 0
        for _ in range(1000):
            cast = rng.choice(3, images, p=[gained, lost, 1 - gained - lost])
            right = pd.DataFrame({"group": np.arange(images), "ours": cast != 1, "theirs": cast != 0})
            low, high = difference_interval(right)
            inside += low <= gained - lost <= high
        assert inside >= 930, (gained, lost, images, inside)
    for margin in (-low, high):
        votes_cast = (int((cast == 0).sum()), int((cast == 1).sum()))
        assert p_not_worse(*(votes_cast if margin == -low else votes_cast[::-1]), images, margin) == pytest.approx(0.05)
    ours, theirs = pair(30, 10, 200)
    alone, tied = compared(ours, theirs), compared(ours, theirs, group=[str(number // 5) for number in range(200)])
    assert tied.high - tied.low > 1.5 * (alone.high - alone.low)


def test_the_verdict_is_told_in_plain_words() -> None:
    """The sentence that a person reads names the votes, the p, and how many more images would tell."""
    found = verdict(9, 3)
    assert not found.opens
    assert found.why == (
        "version 7 is right where the champion, version 3, is wrong on 9 of 169 images and wrong where it is right on "
        f"3: not enough, p = 0.15; about {found.needed} more test images would tell at the next look"
    )
    assert 100 < found.needed < 200
    better = verdict(20, 4)
    assert better.opens and better.beats_best
    assert better.why.endswith("is right on 4: better, p = 0.0015")
    assert verdict(4, 9).why.endswith("not better, p = 0.27") and verdict(4, 9).needed is None
    assert "not better, p = 1" in verdict(0, 0).why


def test_what_would_tell_tells() -> None:
    """With the further images that are named, and votes in the same proportion, the gate opens at the next look, which
    is the first at a test set of which more than half is new; with less than half of them, it does not."""
    for gained, lost in ((9, 3), (12, 5), (30, 20)):
        needed = verdict(gained, lost).needed
        more, fewer = (169 + needed) / 169, (169 + 0.4 * needed) / 169
        look = 1 if needed > 169 else 2
        assert verdict(math.ceil(more * gained), int(more * lost), images=round(more * 169), look=look).opens
        assert not verdict(int(fewer * gained), math.ceil(fewer * lost), images=round(fewer * 169), look=look).opens


def test_images_that_are_missing_are_counted_with_their_copies() -> None:
    """Where every photograph is there twice, twice as many further photographs are asked for."""
    ours, theirs = pair(9, 3)
    once = judge("7", "better", compared(ours, theirs), None, 1, RULES).needed
    twice = compared(ours * 2, theirs * 2, group=[str(number) for number in range(169)] * 2)
    assert judge("7", "better", twice, None, 1, RULES).needed == pytest.approx(2 * once, abs=1)


def test_every_look_asks_for_more() -> None:
    """Votes that suffice at the first look at a test set do not at the fifth, and the verdict says why."""
    assert verdict(20, 6).opens
    found = verdict(20, 6, look=5)
    assert not found.opens and found.level == pytest.approx(0.05 / 15)
    assert "(0.0033 is asked for at look 5 at this test set)" in found.why


def test_too_few_images_decide_nothing() -> None:
    """Under `min_images`, even a clear difference is not acted on; the number that is missing is named."""
    found = verdict(20, 0, images=40)
    assert not found.opens
    assert (found.why, found.needed) == ("40 test images can decide nothing: 10 more are needed", 10)
    unlooked = verdict(20, 0, images=40, look=0)
    assert unlooked.why == found.why and table(unlooked).endswith("Policy better; no look.")


def test_min_images_decide_and_the_smaller_comparison_counts() -> None:
    """As many images as `min_images` are enough; where the comparison with the best champion so far has fewer, they are
    too few."""
    assert verdict(20, 0, images=50).opens
    few = judge("7", "better", compared(*pair(20, 0, 60)), compared(*pair(20, 0, 40)), 1, RULES)
    assert not few.opens and few.why.startswith("40 test images can decide nothing: 10 more are needed")


def test_not_worse_lets_an_equal_one_in_and_a_worse_one_out() -> None:
    """A margin of 3 points: as good on 500 images is shown not to be worse; 2 points worse is not."""
    found = verdict(12, 12, "not_worse", 500)
    assert found.opens and not found.beats_best
    assert "not worse by 3 points, p = " in found.why
    doubt = verdict(12, 22, "not_worse", 500)
    assert not doubt.opens and "it may be worse by 3 points" in doubt.why and doubt.needed > 500
    assert verdict(0, 30, "not_worse", 500).needed is None


def test_small_losses_cannot_add_up() -> None:
    """A challenger that is not worse than the champion, but may be worse than the best champion so far, stays out: by
    either policy."""
    champion, best = compared(*pair(12, 12, 500)), compared(*pair(12, 25, 500))
    for policy, nearly in (("not_worse", champion), ("better", compared(*pair(40, 10, 500)))):
        found = judge("7", policy, nearly, best, 1, RULES)
        assert not found.opens
        assert "it may be worse by 3 points than version 3, the best champion so far" in found.why
        assert judge("7", policy, nearly, compared(*pair(14, 12, 500)), 1, RULES).opens
    both = judge("7", "not_worse", champion, compared(*pair(30, 5, 500)), 1, RULES)
    assert both.opens and both.beats_best


def test_the_figures_of_the_best_champion_are_its_own() -> None:
    """MLflow gets the p of the comparison with the best champion so far, not that of the one with the champion."""
    champion, best = compared(*pair(9, 3)), compared(*pair(5, 2))
    figures = judge("7", "better", champion, best, 1, RULES).figures()
    assert figures["gate/best_p_not_worse"] == best.p_not_worse != champion.p_not_worse


def test_manual_shows_the_evidence_and_leaves_it_to_a_person() -> None:
    """With `manual`, nothing opens the gate, and the votes are told."""
    found = verdict(40, 0, "manual")
    assert not found.opens and "on 40 of 169 images" in found.why and "a person decides" in found.why


def test_whoever_asks_a_person_says_so() -> None:
    """With policy `manual` the verdict asks a person, except where there are too few images to ask about."""
    assert verdict(40, 0, "manual").asks and not verdict(40, 0, "manual", images=49).asks


def test_a_class_that_got_worse_is_a_veto() -> None:
    """Better on the whole and worse on one class: shown, named, and not let in; told to whoever is asked, too."""
    label = ["rain"] * 60 + ["shine"] * 340
    ours = [number % 3 != 0 for number in range(60)] + [True] * 340
    theirs = [True] * 60 + [number % 5 != 0 for number in range(340)]
    for policy in ("better", "manual"):
        found = judge("7", policy, compared(ours, theirs, label=label), None, 1, RULES)
        assert not found.opens
        assert "; but worse on the class rain: 0 votes gained, 20 lost of 60, p = " in found.why


def test_a_loss_within_the_slices_margin_is_no_veto() -> None:
    """15 of 400 images of a class lost and none gained are certainly a loss, but not of more than `slice_margin`."""
    assert compared([False] * 15 + [True] * 385, [True] * 400).losses == ()


def test_a_slice_that_got_worse_is_a_veto() -> None:
    """The same for dark, bright or small pictures; a loss that may be chance is none."""
    ours, theirs = [False] * 12 + [True] * 388, [True] * 30 + [number % 5 != 0 for number in range(370)]
    dark = pd.DataFrame({"dark images": [True] * 30 + [False] * 370}, index=[f"{n:064x}" for n in range(400)])
    classes = (["fog", "rain"],) * 2
    found = compare(answers(ours), answers(theirs), "3", classes, set(), dark, RULES)
    assert len(found.losses) == 1 and found.losses[0].startswith("worse on dark images: ")
    ours[2:12] = [True] * 10
    assert compare(answers(ours), answers(theirs), "3", classes, set(), dark, RULES).losses == ()


@pytest.mark.slow
def test_many_slices_do_not_veto_by_chance() -> None:
    """Two equal models, 12 classes: with Holm's correction a veto comes up in at most 1 of 30 comparisons."""
    rng, vetoes = np.random.default_rng(1), 0
    label = [f"class {number % 12}" for number in range(600)]
    for _ in range(30):
        ours, theirs = rng.random(600) < 0.9, rng.random(600) < 0.9
        both = answers(ours.tolist(), label), answers(theirs.tolist(), label)
        vetoes += bool(compare(*both, "3", (sorted(set(label)),) * 2, set(), pd.DataFrame(), RULES).losses)
    assert vetoes <= 1


def test_one_class_of_many_is_no_veto_by_chance() -> None:
    """A loss of 6 of 40 images of a class (p = 0.025 that it is beyond 5 points) is a veto where it is the only class,
    and chance where it is one of 20 (Holm); a loss of 12 is a veto there, too."""
    labels = [f"class {number // 40}" for number in range(800)]
    ours = [number >= 6 for number in range(800)]
    assert compared(ours[:40], [True] * 40, label="rain").losses != ()
    both = answers(ours, labels), answers([True] * 800, labels)
    classes = (sorted(set(labels)),) * 2
    assert compare(*both, "3", classes, set(), pd.DataFrame(), RULES).losses == ()
    ours[6:12] = [False] * 6
    found = compare(answers(ours, labels), both[1], "3", classes, set(), pd.DataFrame(), RULES)
    assert [one.split(":")[0] for one in found.losses] == ["worse on the class class 0"]


def test_limits_name_what_exceeds_them_or_is_not_known() -> None:
    """A metric above its limit, one below what it has to come to, one that is not a number and one that the run lacks
    are all told."""
    metrics = {"test/ece": 0.12, "latency": 3.0, "loss": math.nan, "accuracy": 0.7, "recall": 0.7}
    limits = {"test/ece": 0.1, "latency": 5, "loss": 1, "size": 1e6}
    told = beyond(metrics, RULES.model_copy(update={"limits": limits, "at_least": {"accuracy": 0.8, "recall": 0.7}}))
    assert told == [
        "test/ece is 0.12, at most 0.1 is allowed",
        "loss is nan, at most 1 is allowed",
        "size is not on record",
        "accuracy is 0.7, at least 0.8 is wanted",
    ]


def test_a_metric_at_its_limit_is_within_it() -> None:
    """A limit of 0.1 allows 0.1."""
    assert beyond({"test/ece": 0.1}, RULES.model_copy(update={"limits": {"test/ece": 0.1}})) == []


def test_the_table_holds_everything() -> None:
    """In Markdown: both opponents, votes, accuracies, interval and level; nothing where nothing was compared."""
    comparison = compared(*pair(9, 3))
    text = table(judge("7", "better", comparison, compared(*pair(5, 2)), 2, RULES))
    assert "| against | champion, version 3 | best so far, version 3 |" in text
    assert "| votes gained, lost, possible | 9, 3, 169 | 5, 2, 169 |" in text
    assert f"| {comparison.difference:+.3f} ({comparison.low:+.3f} to {comparison.high:+.3f}) |" in text
    assert "look 2 at this test set, p ≤ 0.017 is asked for" in text
    assert table(Verdict(True, "the first champion", "first")) == ""


def test_slices_are_those_of_the_pictures(store: Store) -> None:
    """Dark and bright by the pixels, low resolution by the file; a slice that all images are in says nothing."""
    found, rows = slices(store), store.part("test")
    assert found.index.tolist() == store.manifest["sha256"][rows].tolist()
    luma = (store.pixels(rows) @ [0.299, 0.587, 0.114]).mean((1, 2))
    side = np.minimum(store.manifest["width"], store.manifest["height"])[rows]
    expected = {"dark images": luma < 85, "bright images": luma > 170, "images of low resolution": side < 150}
    expected = {name: inside.tolist() for name, inside in expected.items() if 0 < inside.sum() < len(rows)}
    assert {name: found[name].tolist() for name in found} == expected
    assert len(expected) >= 2
