import pytest

from bench import hydrothermal
from tests.helpers.small_case import small_stage


def test_certificates_agree_with_highs_and_grow_with_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrothermal, "KNOWN_PATHS", (1, 6))
    rows = hydrothermal.certificates(small_stage(), stages=12, artifact=None)
    assert [(row["policy"], row["solved"]) for row in rows] == [("random", 12), ("random", 72)]
    assert 0.0 < rows[0]["certified_share"] < rows[1]["certified_share"] <= 1.0
    assert all(row["certified_largest_gap"] <= 1e-7 for row in rows)
    assert all(row["miss_share"] <= 1.0 - row["certified_share"] + 1e-4 for row in rows)
