"""Chao's and Good's estimators against worked examples that others have published.

The expected numbers are what the R package SpadeR, one of whose authors is Anne Chao, prints: "Chao2-bc" for three tables of
species in sampling units, and "Chao1-bc" and the coverage for 448 trees of 93 species (plot 1 of ``BCI`` in the package vegan).
"""

from __future__ import annotations

import pytest

from ptactors.campaign.coverage import Coverage, Estimate, Gathered


def estimate_of(frequencies: list[int], units: int, shift: int = 1) -> Estimate:
    """The estimate when the n-th kind was seen in so many of the units; ``shift`` spreads the kinds over them."""
    shown: list[dict[str, None]] = [{} for _ in range(units)]
    for kind, times in enumerate(frequencies):
        for turn in range(times):
            shown[(kind * shift + turn) % units][f"kind {kind}"] = None
    return _campaign(shown)


def _campaign(shown: list[dict[str, None]]) -> Estimate:
    coverage = Coverage()
    for unit, items in enumerate(shown):
        gathered = Gathered(one_unit=False)
        gathered.add({"branches": items, "pairs": {}, "states": {}})
        coverage.merge(gathered.kinds, 1, unit, 1)
    return coverage.estimate("branches")


@pytest.mark.parametrize(
    ("frequencies", "units", "chao2_bc"),
    [
        pytest.param([1] * 9 + [2] * 4 + [3, 10], 16, 21.750, id="T = 16, Q1 = 9, Q2 = 4"),
        pytest.param([1] * 13 + [2] * 4 + [8], 16, 32.625, id="T = 16, Q1 = 13, Q2 = 4"),
        pytest.param([1] * 6 + [5, 7, 8, 9], 40, 24.625, id="T = 40, Q1 = 6, Q2 = 0"),
    ],
)
def test_chao2_bias_corrected(frequencies: list[int], units: int, chao2_bc: float) -> None:
    for shift in (1, 3, 7):
        estimate = estimate_of(frequencies, units, shift)
        assert (estimate.seen, estimate.units) == (len(frequencies), units)
        assert estimate.seen + estimate.unseen == pytest.approx(chao2_bc, abs=5e-4)


def test_units_of_one_item_each_are_what_good_and_turing_have() -> None:
    """448 trees: 31 species once, 18 twice, 44 more often. f1 / n is unseen; 0.931 is the coverage that SpadeR prints.

    With one item a unit, (T - 1) / T Q1 (Q1 - 1) / 2 (Q2 + 1) is Chao1 too.
    """
    often = [9] * 35 + [7] * 8 + [10]
    trees = [kind for kind, times in enumerate([1] * 31 + [2] * 18 + often) for _ in range(times)]
    trees += [92] * (448 - len(trees))
    estimate = _campaign([{f"species {kind}": None} for kind in trees])
    assert (estimate.seen, estimate.once, estimate.twice, estimate.units) == (93, 31, 18, 448)
    assert estimate.new == 31 / 448
    assert 1 - estimate.new == pytest.approx(0.931, abs=5e-4)
    assert estimate.seen + estimate.unseen == pytest.approx(117.419, abs=5e-4)


def test_a_unit_with_two_new_items_is_one_surprise() -> None:
    """Leaving out each unit in turn: 2 of 4 would have shown something new; Q1 / T = 3 / 4 is how many items on average."""
    estimate = _campaign([{"a": None}, {"a": None}, {"a": None, "b": None, "c": None}, {"d": None}])
    assert (estimate.once, estimate.units) == (3, 4)
    assert estimate.new == 2 / 4
