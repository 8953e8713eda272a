"""Pickled batches: those of CIFAR are read, and a hostile one is refused before anything of it runs."""

import datetime
import os
import pickle
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest

from fedcomp.data import load_local
from fedcomp.data.byte_pickle import read_byte_pickle
from fedcomp.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
# What Python 2 and the NumPy of 2009 wrote of {'labels': [1], 'data': <two bytes>}, by hand.
OF_PYTHON_2 = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03K\x01aU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\n"
    b"ndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\t(K\x03U"
    b"\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\xfftbu."
)


def batch(protocol=2, **changes):
    content = {"batch_label": "training batch 1 of 5", "labels": [3, 0, 9, 9], "data": PIXELS, "filenames": ["a.png"]}
    return pickle.dumps({**content, **changes}, protocol)


def with_renamed_modules(content):
    """Name NumPy's modules as they were called when CIFAR was pickled; protocol 2 writes names as lines."""
    return content.replace(b"numpy._core.", b"numpy.core.")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_batches_of_python_3(tmp_path, protocol):
    (tmp_path / "data_batch_1").write_bytes(batch(protocol))
    data = load_local(tmp_path).labelled
    np.testing.assert_array_equal(data.images, PIXELS.reshape(4, 3, 32, 32))
    assert (data.labels.tolist(), data.num_classes) == ([3, 0, 9, 9], 10)


def test_batches_of_python_2(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(OF_PYTHON_2)
    found = read_byte_pickle(tmp_path / "data_batch_1")
    assert found[b"labels"] == [1]
    assert found[b"data"].tolist() == [[7, 255]]
    (tmp_path / "data_batch_1").write_bytes(with_renamed_modules(batch()))
    assert len(load_local(tmp_path).labelled) == 4


def test_columns_first(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(batch(data=np.asfortranarray(PIXELS)))
    np.testing.assert_array_equal(load_local(tmp_path).labelled.images.reshape(4, -1), PIXELS)


def test_cifar_100_has_the_fine_labels(tmp_path):
    content = {"fine_labels": [3, 0, 99, 9], "coarse_labels": [0, 0, 0, 0], "data": PIXELS}
    (tmp_path / "train").write_bytes(pickle.dumps(content, 2))
    data = load_local(tmp_path).labelled
    assert (data.labels.tolist(), data.num_classes) == ([3, 0, 99, 9], 100)
    (tmp_path / "data_batch_1").write_bytes(batch())
    with pytest.raises(DataError, match="has parts data_batch, train, expected one"):
        load_local(tmp_path)


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "a command": lambda mark: batch(labels=Calls(os.system, f"touch {mark}")),
    "eval": lambda mark: batch(labels=Calls(eval, f"open({str(mark)!r}, 'w')")),
    "a file": lambda mark: batch(labels=Calls(open, str(mark), "w")),
    "NumPy's loader": lambda mark: batch(labels=Calls(np.load, str(mark))),
    "a class of the standard library": lambda mark: batch(labels=datetime.date(2020, 1, 1)),
    "a name with dots": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "objects in an array": lambda mark: batch(data=np.array([Calls(os.system, f"touch {mark}")], object)),
    "the registry of extensions": lambda mark: b"\x80\x02\x82\x01.",
    "something from outside": lambda mark: b"\x80\x02Pname\n.",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path, kind, protocol):
    mark, path = tmp_path / "mark", tmp_path / "batches" / "data_batch_1"
    path.parent.mkdir()
    path.write_bytes(HOSTILE[kind](mark))
    with pytest.raises(DataError, match="expected a pickled batch of images"):
        load_local(path.parent)
    assert not mark.exists()


def test_names_are_not_even_imported(tmp_path):
    """A module runs when it is imported, so a name that is not allowed must not be looked up."""
    (tmp_path / "trap.py").write_text("open('sprung', 'w')\nvalue = dict\n")
    (tmp_path / "batch").write_bytes(b"\x80\x02ctrap\nvalue\n)R.")
    code = (
        "import pathlib; from fedcomp.data.byte_pickle import read_byte_pickle\n"
        "try: read_byte_pickle(pathlib.Path('batch'))\n"
        "except Exception as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.pathsep.join(sys.path)}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "names trap.value, which is not allowed" in done.stdout, done.stderr
    assert not (tmp_path / "sprung").exists()


def test_attributes_of_what_is_allowed_can_not_be_set(tmp_path):
    """An unpickler sets whatever it is told on an object that has no method for it, and on classes, too."""
    for name in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"):
        (tmp_path / "batch").write_bytes(b"\x80\x02" + name + b"}U\x04evilK\x01s}U\x04evilK\x01s\x86b.")
        with pytest.raises(DataError):
            read_byte_pickle(tmp_path / "batch")
    (tmp_path / "batch").write_bytes(batch())
    assert read_byte_pickle(tmp_path / "batch")[b"labels"] == [3, 0, 9, 9]


def test_a_place_in_the_memo_that_is_far_away_is_refused(tmp_path):
    (tmp_path / "batch").write_bytes(b"\x80\x02}r" + struct.pack("<I", 100_000_000) + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="writes to place 100000000 of its memo"):
        read_byte_pickle(tmp_path / "batch")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; all places take 1.6 GB


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch(labels=None), "no list of integers"),
        (batch(labels=[1, 2, 3]), "4 images but labels"),
        (batch(labels=[1, 2, 3, 2**70]), "no list of integers"),
        (batch(labels=[1, 2, 3, 10]), "labels 1 to 10"),
        (batch(labels=[]), "expected integers from 0, one or more"),
        (batch(data=PIXELS[:, :7]), "rows of 3072 bytes"),
        (batch(data=PIXELS.astype(float)), "an array is of type 'f8', expected u1"),
        (batch(data=[1]), "rows of 3072 bytes"),
        (pickle.dumps({"data": PIXELS}), "rows of 3072 bytes"),
        (pickle.dumps([1, 2]), "holds a list, expected a dictionary"),
        (pickle.dumps({1: 2}), "has the key 1, expected a text"),
        (b"", "expected a pickled batch"),
        (b"no pickle", "expected a pickled batch"),
    ],
)
def test_pickles_that_are_no_batches_are_refused(tmp_path, content, message):
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_local(tmp_path)


def test_damage_anywhere_is_read_or_refused_and_nothing_else(tmp_path):
    content, path = OF_PYTHON_2, tmp_path / "batch"
    for position in range(len(content)):
        flipped = bytes((content[position] ^ 255,))
        for damaged in (content[:position], content[:position] + flipped + content[position + 1 :]):
            path.write_bytes(damaged)
            try:
                found = read_byte_pickle(path)
            except DataError:
                continue
            assert isinstance(found, dict)
