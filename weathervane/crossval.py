"""What a cross-validation says: pooled figures with intervals, variants in pairs, and all of it as a table.

Every image was predicted once by each variant, so variants are compared on the same images. The intervals are of the
images: the same training once more, with another seed, may fall outside.
"""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from weathervane.bootstrap import difference_interval, resamples, share_interval
from weathervane.gate import p_better, votes
from weathervane.measures import Answers, holm, quick_measures
from weathervane.words import markdown_table, with_interval

if TYPE_CHECKING:
    import pandas as pd

SHARES = ("accuracy", "macro_f1")
POOLED = (*SHARES, "log_loss")

Row = dict[str, Any]


def pooled(tables: "dict[str, pd.DataFrame]", classes: list[str]) -> tuple[list[Row], list[Row]]:
    """A row a variant, best accuracy first, and a row a pair, the better one first.

    A variant has each measure of `POOLED` with its 95 % interval (`<name>_low`, `<name>_high`), a pair their
    differences likewise: whole near-duplicate groups are drawn within their class, for all variants the same ones.
    A pair also has the groups' votes and McNemar's exact p, alone (`p`) and among all pairs of the table (`p_holm`).

    Args:
        tables: variant → its out-of-fold predictions: sha256, group, label, predicted, p_<class>; equal images.
        classes: all class names.
    """
    tables = {name: table.sort_values("sha256", ignore_index=True) for name, table in tables.items()}
    answers = {name: Answers.of(table, classes) for name, table in tables.items()}
    any_one = next(iter(tables.values()))
    label, group = any_one["label"].to_numpy(), any_one["group"].to_numpy()
    value = {name: _measured(answer, np.ones((1, len(answer)))) for name, answer in answers.items()}
    blocks = [
        {name: _measured(answer, weights) for name, answer in answers.items()} for weights in resamples(label, group)
    ]
    drawn = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in answers}

    best_first = sorted(tables, key=lambda name: (-value[name][0, 0], name))
    rows: list[Row] = []
    for name in best_first:
        found = _with_ends(value[name], drawn[name])
        for share in SHARES:
            if found[f"{share}_low"] == found[f"{share}_high"]:  # all right, or all wrong: no draw differs
                found[f"{share}_low"], found[f"{share}_high"] = share_interval(found[share], group)
        rows.append({"variant": name, **found})
    pairs: list[Row] = []
    for one, other in combinations(best_first, 2):
        right = any_one[["group"]].assign(ours=answers[one].right, theirs=answers[other].right)
        gained, lost, _ = votes(right)
        apart = drawn[one] - drawn[other]
        found = _with_ends(value[one] - value[other], apart)
        for number, share in enumerate(SHARES):
            found[f"{share}_low"], found[f"{share}_high"] = difference_interval(apart[number], group)
        told = {"gained": gained, "lost": lost, "p": float(p_better(gained, lost))}
        pairs.append({"variant": one, "other": other, **found, **told})
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p
    return rows, pairs


def _measured(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """float64 [measures, B]."""
    found = quick_measures(answers, weights)
    return np.stack([found[name] for name in POOLED])


def _with_ends(value: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """A column [measures, 1] and its draws [measures, B] as figures with the ends of their intervals."""
    found: dict[str, float] = {}
    for name, (middle,), ends in zip(POOLED, value, np.percentile(drawn, [2.5, 97.5], axis=1).T, strict=True):
        found |= {name: float(middle), f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    return found


def markdown(record: dict[str, Any]) -> str:
    """The tables of `crossval.json`, with how they were measured below."""
    tables = [rows_table(record)]
    if record["pairs"]:
        tables.append(pairs_table(record))
    return "\n\n".join([*tables, about(record)] if record["rows"] else tables)


def rows_table(record: dict[str, Any]) -> str:
    """A line a variant; those that failed with the reason."""
    failed = [[name, f"failed: {why}", "", "", "", ""] for name, why in record["failed"].items()]
    return markdown_table(HEAD, [*map(cells, record["rows"]), *failed])


def pairs_table(record: dict[str, Any]) -> str:
    """A line a pair of variants."""
    return markdown_table(PAIR_HEAD, map(pair_cells, record["pairs"]))


HEAD = ["variant", "accuracy (95 %)", "macro-F1", "log loss", "seconds a fold", "parameters"]
PAIR_HEAD = ["pair", "accuracy (95 %)", "log loss (95 %)", "won, lost", "p"]


def cells(row: Row) -> list[str]:
    """A variant's line, as people read it."""
    accuracy = with_interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    figures = [f"{row['macro_f1']:.3f}", f"{row['log_loss']:.3f}", f"{row['seconds']:.0f}"]
    return [row["variant"], accuracy, *figures, f"{row['parameters']:,}"]


def pair_cells(pair: Row) -> list[str]:
    """A pair's line, as people read it."""
    figures = [
        f"{pair[name]:+.3f} ({pair[f'{name}_low']:+.3f} to {pair[f'{name}_high']:+.3f})"
        for name in ("accuracy", "log_loss")
    ]
    p = "< 0.001" if pair["p_holm"] < 0.001 else f"{pair['p_holm']:.3f}"
    return [f"{pair['variant']} − {pair['other']}", *figures, f"{pair['gained']}, {pair['lost']}", p]


def about(record: dict[str, Any]) -> str:
    """What the figures are of, and how they were made."""
    share = "" if record["share"] == 1 else f" and from {record['share']:.0%} of the training groups"
    several = ", adjusted to the number of pairs (Holm)" if len(record["pairs"]) > 1 else ""
    p = f" p: McNemar's exact test on the groups' votes{several}." if record["pairs"] else ""
    made_on = "; ".join(sorted({row["machine"] for row in record["rows"]}))
    return (
        f"{record['dataset']}: {record['images']:,} images in {record['groups']:,} groups of near-duplicates, each "
        f"predicted once, by a model that saw none of its group{share}; {record['folds']} folds, seed "
        f"{record['seed']}, one training a fold. Intervals: bootstrap over groups, {record['draws']:,} draws.{p} "
        f"`{record['command']}`, {made_on}, {record['date']}, data {record['data_md5']}."
    )
