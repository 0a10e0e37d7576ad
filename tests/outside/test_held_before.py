"""Cases from outside that were right from the first: they carry no row, and must stay right."""

import json
import shutil

from .many_tokenizers import folder_of


def test_a_tokenizer_file_that_truncates_and_pads_does_neither(tmp_path, plait):
    make = "byte-level BPE"
    folder = folder_of(make, tmp_path / "model")
    values = json.loads((folder / "tokenizer.json").read_text())
    values["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    values["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 3,
                         "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip
    plain = shutil.copytree(folder, tmp_path / "plain")
    (folder / "tokenizer.json").write_text(json.dumps(values))
    row = {"id": "a", "question": "Which of these is a city in France?", "choices": ["Paris", "Rome"], "answer": 0}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    lines = []
    for place in (folder, plain):
        code, _, err = plait("score", "--model", place, "--data", "data.jsonl", "--out", "scores.jsonl")
        assert code == 0, err
        lines.append((tmp_path / "scores.jsonl").read_text())
    assert lines[0] == lines[1]
