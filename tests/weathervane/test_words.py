"""Figures and names as people read them."""

from weathervane.words import brief, by_class, listed


def test_counts_are_told_from_names() -> None:
    """Classes that are called by numbers are quoted: '178 0, 182 1' could not be read."""
    assert by_class({"shine": 30, "rain": 1200}) == "1,200 rain, 30 shine"
    assert by_class({"1": 182, "0": 178}) == "178 '0', 182 '1'"


def test_a_long_name_keeps_both_ends() -> None:
    """Names of one kind often differ in their last letters; a short one stays as it is."""
    assert brief("sunrise", 7) == "sunrise"
    assert brief("shape_black_with_8_corners", 13) == "shape_…orners"
    assert all(len(brief("shape_black_with_8_corners", most)) == max(most, 5) for most in range(1, 26))


def test_long_lists_are_cut() -> None:
    """So many are named; how many more there are is told."""
    assert listed(["a", "b"], 5) == "a, b"
    assert listed([str(n) for n in range(9)], 5) == "0, 1, 2, 3, 4 and 4 more"
