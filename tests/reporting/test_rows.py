"""Rows of experiments outlive the folders that they came from."""

import json

from fedcomp.reporting import update_rows


def test_new_rows_take_the_place_of_their_like_and_all_others_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    key = ("method", "seed")
    assert update_rows(path, [], key=key) == []
    update_rows(path, [{"method": "a", "seed": 0, "x": 1}, {"method": "a", "seed": 1, "x": 2}], key=key)
    rows = update_rows(path, [{"method": "b", "seed": 0, "x": 3}, {"method": "a", "seed": 0, "x": 4}], key=key)
    assert sorted((row["method"], row["seed"], row["x"]) for row in rows) == [("a", 0, 4), ("a", 1, 2), ("b", 0, 3)]
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
