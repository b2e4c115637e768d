"""What `benchmarks/demo.py` takes from the demo's `results.json`."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("rendered", [False, True])
def test_the_gymnast_counts_where_it_was_rendered(rendered):
    import demo

    share = {"linear": 0.25, "knn": 0.125}
    content = {
        "retrieval": {name: {"r@1": 0.5, "r@5": 0.75, "r@1_chance": 0.1} for name in ("trained", "untrained")},
        "motion_probe": dict.fromkeys(("trained", "untrained"), share),
    }
    if rendered:
        content["gymnastics"] = {"trained": {"linear": 0.625, "knn": 0.375}, "untrained": share}
    found = demo.figures(content)["trained"]
    assert found == {
        "r@1": 0.5,
        "r@5": 0.75,
        "motion probe, linear": 0.25,
        "motion probe, 10-NN": 0.125,
        **({"gymnastics, linear": 0.625, "gymnastics, 10-NN": 0.375} if rendered else {}),
    }
