"""Which client holds which model: shared, bounded by memory, the least recently used first."""

import numpy as np
import pytest

from fedcomp.errors import CheckpointError, UsageError
from fedcomp.flower.server.held_models import HeldModels
from fedcomp.flower.state.model_files import ModelFiles
from tests.flower.toy import MODEL

BYTES = 100


def model(number, num_bytes=BYTES):
    return {"w": np.full(num_bytes // 4, number, np.float32)}


def hold(held, client, number):
    held.hold(client, number, number / 3, lambda: model(number))


def test_a_model_that_several_hold_is_made_and_kept_once():
    held = HeldModels(10 * BYTES)
    hold(held, 1, 7)
    held.hold(2, 7, 1.0, lambda: pytest.fail("it is there already"))
    assert held.get(1).model is held.get(2).model
    assert (len(held), held.num_bytes) == (1, BYTES)


def test_a_model_that_nobody_holds_any_longer_goes():
    held = HeldModels(10 * BYTES)
    hold(held, 1, 7), hold(held, 2, 7)
    hold(held, 1, 8)
    assert (len(held), held.num_bytes) == (2, 2 * BYTES)
    hold(held, 2, 8)
    assert (len(held), held.num_bytes) == (1, BYTES)
    held.forget(1), held.forget(2), held.forget(3)
    assert (len(held), held.num_bytes) == (0, 0)
    assert held.get(1) is None


def test_holding_the_same_again_changes_nothing():
    held = HeldModels(10 * BYTES)
    hold(held, 1, 7)
    before = held.get(1).model
    hold(held, 1, 7)
    assert held.get(1).model is before


def test_the_least_recently_used_go_first_with_all_their_holders():
    held = HeldModels(3 * BYTES)
    for client, number in ((1, 7), (2, 7), (3, 8), (4, 9)):
        hold(held, client, number)
    held.get(1)
    hold(held, 5, 10)
    assert held.get(3) is None
    assert [held.get(client).fingerprint for client in (1, 2, 4, 5)] == [7, 7, 9, 10]
    held.get(4), held.get(5)
    hold(held, 6, 11)
    assert held.get(1) is held.get(2) is None
    assert held.num_bytes == 3 * BYTES


@pytest.mark.parametrize("cap", [0, BYTES - 1])
def test_a_model_over_the_cap_is_not_kept(cap):
    held = HeldModels(cap)
    hold(held, 1, 7)
    assert held.get(1) is None
    assert (len(held), held.num_bytes) == (0, 0)
    with pytest.raises(UsageError, match="expected 0 or more"):
        HeldModels(-1)


def test_it_comes_back_in_its_order():
    held, again = HeldModels(3 * BYTES), HeldModels(3 * BYTES)
    for client in (1, 2, 3):
        hold(held, client, client)
    held.get(1)
    hold(again, 9, 9)
    again.restore(list(held.models()), dict(held.holders()))
    for each in (held, again):
        hold(each, 4, 4)
        assert [(one.fingerprint, one.as_of) for one in each.models()] == [(3, 1.0), (1, 1 / 3), (4, 4 / 3)]
        assert each.holders() == {1: 1, 3: 3, 4: 4}
        assert each.num_bytes == 3 * BYTES


def names(folder):
    return sorted(int(path.stem, 16) for path in folder.glob("models/*"))


def test_files_are_written_once_and_stay_until_no_checkpoint_needs_them(tmp_path):
    files = ModelFiles()
    files.save(tmp_path, {1: model(1), 2: model(2)})
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("models/*")}
    files.save(tmp_path, {2: model(2), 3: model(3)})
    assert names(tmp_path) == [1, 2, 3]  # the earlier checkpoint needs 1 until this one is complete
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    files.save(tmp_path, {1: model(1), 4: model(4)})
    assert names(tmp_path) == [1, 2, 3, 4]
    files.save(tmp_path, {4: model(4)})
    assert names(tmp_path) == [1, 4]


def test_models_come_back_with_order_types_and_bits(tmp_path):
    odd = {"b": np.float32([np.nan, -0.0]), "a": np.array(3), "none": np.zeros((0, 2), np.float16)}
    saved = ModelFiles().save(tmp_path, {1: MODEL, 2: odd})
    (tmp_path / "models" / "left over").write_bytes(b"of a kill")
    files = ModelFiles()
    back = files.restore(tmp_path, saved)
    for number, expected in ((1, MODEL), (2, odd)):
        assert list(back[number]) == list(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(back[number][name], values, strict=True)
    assert names(tmp_path) == [1, 2]
    files.save(tmp_path, {2: odd}), files.save(tmp_path, {2: odd})
    assert names(tmp_path) == [2]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_noticed(damage, tmp_path):
    saved = ModelFiles().save(tmp_path, {1: MODEL})
    (path,) = tmp_path.glob("models/*")
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage == "flip" else content[:50])
    with pytest.raises(CheckpointError, match=r"is damaged|is missing"):
        ModelFiles().restore(tmp_path, saved)
