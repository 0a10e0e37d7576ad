"""A judge's host computes in the numbers that its spec says, and its answers are known by them."""

import pytest
from plait import Judge
from plait.errors import SpecError

PAIR = [{"id": "1", "query": "What is frozen water?", "response1": "Ice.", "response2": "Steam.", "human": "model1"}]


@pytest.mark.ray
@pytest.mark.weights
def test_bfloat16_is_known_as_such_and_changes_the_last_digits(smollm2, ray_cluster, tmp_path):
    ballots = {}
    for dtype in ("float32", "bfloat16"):
        judge = Judge(data=PAIR, network="single", dtype=dtype, run={"actors": 1})
        result = judge.run(tmp_path / dtype, address=ray_cluster)
        assert result.data["resolved"]["models"][0]["dtype"] == dtype
        assert result.timing["counts"]["paid"] > 0
        ballots[dtype] = (result.folder / "verdicts.jsonl").read_text()
    assert ballots["float32"] != ballots["bfloat16"]


def test_an_unknown_dtype_is_told():
    with pytest.raises(SpecError, match="dtype"):
        Judge(data=PAIR, dtype="float64")
