"""What a cross-validation says: pooled figures with intervals, variants in pairs, and all of it as a table.

Every image was predicted once by each variant, so variants are compared on the same images. The intervals are of the
images: the same training once more, with another seed, may fall outside.
"""

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from weathervane.bootstrap import resamples
from weathervane.gate import difference_interval, p_better, votes
from weathervane.intervals import intervals, scores
from weathervane.measures import Answers, ends, holm
from weathervane.words import markdown_table, with_interval

if TYPE_CHECKING:
    import pandas as pd

POOLED = ("accuracy", "macro_f1", "log_loss")

Row = dict[str, Any]


def pooled(tables: "dict[str, pd.DataFrame]", classes: list[str]) -> tuple[list[Row], list[Row]]:
    """A row a variant, best accuracy first, and a row a pair, the better one first.

    A variant has each measure of `POOLED` with its 95 % interval (`<name>_low`, `<name>_high`), a pair the
    differences of accuracy and log loss likewise; in all of them near-duplicates are no new evidence. A pair also has
    the groups' votes and McNemar's exact p, alone (`p`) and among all pairs of the table (`p_holm`).

    Args:
        tables: variant → its out-of-fold predictions: sha256, group, label, predicted, p_<class>; equal images.
        classes: all class names.
    """
    tables = {name: table.sort_values("sha256", ignore_index=True) for name, table in tables.items()}
    rows = [{"variant": name, **_figures(table, classes)} for name, table in tables.items()]
    rows.sort(key=lambda row: (-row["accuracy"], row["variant"]))
    pairs = [
        {"variant": one, "other": other, **_difference(Answers.of(tables[one], classes), tables[other], classes)}
        for one, other in combinations([row["variant"] for row in rows], 2)
    ]
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p
    return rows, pairs


def _figures(table: "pd.DataFrame", classes: list[str]) -> Row:
    found = scores(table, classes) | intervals(table, classes)
    return {name: found[name] for measure in POOLED for name in (measure, *ends(measure))}


def _difference(ours: Answers, table: "pd.DataFrame", classes: list[str]) -> Row:
    theirs, group = Answers.of(table, classes), table["group"].to_numpy()
    right = table[["group"]].assign(ours=ours.correct, theirs=theirs.correct)
    more = ours.log_losses - theirs.log_losses
    drawn = [weights @ more / weights.sum(1) for weights in resamples(theirs.label, group)]
    gained, lost, _ = votes(right)
    return {
        "accuracy": float(ours.correct.mean() - theirs.correct.mean()),
        **dict(zip(ends("accuracy"), difference_interval(right), strict=True)),
        "log_loss": float(more.mean()),
        **dict(zip(ends("log_loss"), np.percentile(np.concatenate(drawn), [2.5, 97.5]).tolist(), strict=True)),
        "gained": gained,
        "lost": lost,
        "p": float(p_better(gained, lost)),
    }


def markdown(record: dict[str, Any]) -> str:
    """The tables of `crossval.json`, with how they were measured below."""
    tables = [rows_table(record)]
    if record["pairs"]:
        tables.append(pairs_table(record))
    return "\n\n".join([*tables, about(record)] if record["rows"] else tables)


def leader(record: dict[str, Any]) -> str:
    """Which variant has the best accuracy, and which others the votes do not tell from it (p of 0.05 or more)."""
    if not record["rows"]:
        return "no variant could be trained"
    best = record["rows"][0]
    close = [p["other"] for p in record["pairs"] if p["variant"] == best["variant"] and p["p_holm"] >= ENOUGH]
    told = f"{best['variant']} has the best accuracy, {best['accuracy']:.3f}"
    return f"{told}, not told apart from {', '.join(close)}" if close else told


def rows_table(record: dict[str, Any]) -> str:
    """A line a variant; those that failed with the reason."""
    failed = [[name, f"failed: {why}", "", "", "", ""] for name, why in record["failed"].items()]
    return markdown_table(HEAD, [*map(cells, record["rows"]), *failed])


def pairs_table(record: dict[str, Any]) -> str:
    """A line a pair of variants."""
    return markdown_table(PAIR_HEAD, map(pair_cells, record["pairs"]))


ENOUGH = 0.05
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
    how = ", ".join(filter(None, (made_on, *_precisions(record["rows"]), record["date"])))
    return (
        f"{record['dataset']}: {record['images']:,} images in {record['groups']:,} groups of near-duplicates, each "
        f"predicted once, by a model that saw none of its group{share}; {record['folds']} folds, seed "
        f"{record['seed']}, one training a fold. Intervals: a group counts as one image; Wilson's for accuracy, "
        f"Tango's for its differences, for log loss {record['draws']:,} draws of groups.{p} "
        f"`{record['command']}`, {how}, data {record['data_md5']}."
    )


def _precisions(rows: list[dict[str, Any]]) -> list[str]:
    """What the variants learnt in: the commonest, and which of them in another."""
    told = Counter(row["precision"] for row in rows).most_common(1)
    others = [f"{row['variant']} in {row['precision']}" for row in rows if row["precision"] != told[0][0]]
    return [*(precision for precision, _ in told), *others]
