"""A few kills of the long campaign on a Ray cluster of two nodes; run where Ray is installed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed; it comes with: pip install 'lottery-hub[cluster]'")

from tests.faults.ray_campaign import cluster_of_two, once


@pytest.mark.timeout(900)
def test_workers_and_a_node_of_a_cluster_are_killed_and_every_unit_is_in_the_result_once(tmp_path: Path) -> None:
    with cluster_of_two() as cluster:
        found = once(cluster, tmp_path, random.Random(1), kills=4, units=8)
    assert found["problems"] == []
    assert found["workers"] + found["nodes"] >= 1
