"""Every knob says where its two behaviours come from, in a form that a reader can look up."""

from __future__ import annotations

import itertools
import re

import pytest

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, PRESETS, resolve

KNOBS = {**KERNEL_KNOBS, **MACHINE_KNOBS}
COMMIT = re.compile(r"\b[0-9a-f]{12}\b")
RELEASE = re.compile(r"\(v\d+\.\d+")


@pytest.mark.parametrize("name", KNOBS)
def test_a_source_can_be_looked_up(name: str) -> None:
    source = KNOBS[name].metadata["source"]
    assert source
    assert not re.search(r"\w\.(json|toml|txt)\b|\bsections \d", source), "not a place that a reader has"
    if COMMIT.search(source):
        assert RELEASE.search(source) or "Not confirmed: v" in source, "a commit stands with its release"


def value(preset: str, knob: str) -> object:
    return resolve(preset).as_dict()[knob]


@pytest.mark.parametrize(
    ("knob", "release", "older", "newer"),
    [
        pytest.param("process_madvise_self", "v6.13", "v6.1", "before", id="021781b01275"),
        pytest.param("mprotect_unaccount", "v6.7", "v6.1", "rfc-v1", id="9b9143298585"),
        pytest.param("populate_walks_vmas", "v6.10", "v6.1", "rfc-v1", id="fa9fcd8bb6e4"),
        pytest.param("map_lock_recheck", "v6.5", "v6.1", "rfc-v1", id="0d940a9b270b"),
        pytest.param("huge_zero_wp_thp", "v6.13", "rfc-v1", "before", id="1ced09e0331f"),
        pytest.param("left_mask", "v6.14", "before", "v6.14", id="209954cbc7d0"),
        pytest.param("dtor_after_grace_period", "v6.14", "before", "v6.14", id="ee0934b03510"),
        pytest.param("flush_range_frees_tables", "v6.15", "v6.14", "v6.18", id="3ef938c35035"),
        pytest.param("merge_into_unfaulted", "v6.16", "v6.14", "v6.18", id="879bca0a2c4f"),
        pytest.param("madvise_vma_lock", "v6.17", "v6.14", "v6.18", id="a6fde7add78d"),
        pytest.param("collapse_lock_then_check", "v6.17", "v6.14", "v6.18", id="366a4532d96f"),
        pytest.param("collapse_needs_writable", "v6.18", "v6.14", "v6.18", id="SCAN_PAGE_RO"),
    ],
)
def test_a_change_lies_between_the_presets_that_it_parts(knob: str, release: str, older: str, newer: str) -> None:
    """The series is on v6.10-rc5 (next-20240627); ``before`` is 6.13."""
    assert release in KERNEL_KNOBS[knob].metadata["source"]
    assert value(older, knob) != value(newer, knob)
    order = ["v6.1", "rfc-v1", "before", "v6.14-rc1", "v6.14", "v6.18"]
    assert set(order) <= set(PRESETS)
    values = [value(each, knob) for each in order]
    assert sum(left != right for left, right in itertools.pairwise(values)) == 1, "it changed once"
    assert order.index(older) < order.index(newer)
