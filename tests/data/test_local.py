"""A client's own images: every kind of file, and one clear error for whatever is none."""

import gzip
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from fedcomp.data import UNLABELLED, ImageDataset, check_fits, load_local
from fedcomp.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 2, 0], np.uint8)


def idx_bytes(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, name, images=GREY, labels=LABELS, *, gzipped=False):
    for what, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx_bytes(array)
        path = folder / f"{name}-{what}-ubyte{'.gz' if gzipped else ''}"
        path.write_bytes(gzip.compress(content) if gzipped else content)


def write_images(folder, images, suffix=".png"):
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number}{suffix}")


def binary_cifar(labels, coarse=None):
    pixels = RNG.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    columns = [np.full((len(labels), 1), coarse, np.uint8)] if coarse is not None else []
    records = np.hstack([*columns, np.array(labels, np.uint8)[:, None], pixels])
    return records.tobytes(), pixels.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", ["train", "t10k", "mine"])
def test_idx_pairs(tmp_path, name, gzipped):
    write_idx(tmp_path, name, gzipped=gzipped)
    data = load_local(tmp_path)
    np.testing.assert_array_equal(data.labelled.images, GREY[:, None])
    assert data.labelled.labels.tolist() == LABELS.tolist()
    assert (data.labelled.num_classes, len(data.unlabelled), data.hidden_labels.size) == (3, 0, 0)
    assert not data.labelled.images.flags.writeable


def test_the_training_part_is_taken(tmp_path):
    write_idx(tmp_path, "t10k", GREY[:1], LABELS[:1])
    write_idx(tmp_path, "train")
    assert len(load_local(tmp_path).labelled) == 5
    write_idx(tmp_path, "more")
    with pytest.raises(DataError, match=r"has parts more, t10k, train, expected one"):
        load_local(tmp_path)


def test_half_a_pair_is_refused(tmp_path):
    write_idx(tmp_path, "train")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has images-idx3 of train, expected both"):
        load_local(tmp_path)


def test_a_plain_idx_file_is_mapped_not_read(tmp_path):
    write_idx(tmp_path, "train")
    images = load_local(tmp_path).labelled.images
    while isinstance(images.base, np.ndarray):
        images = images.base
    assert isinstance(images, np.memmap)


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("x_train", "y_train")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save, x, y):
    save(tmp_path / "data.npz", **{x: COLOUR, y: LABELS, "x_unlabelled": COLOUR[:2], "x_test": GREY})
    for path in (tmp_path, tmp_path / "data.npz"):
        data = load_local(path, flip_ok=True)
        np.testing.assert_array_equal(data.labelled.images, COLOUR.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(data.unlabelled.images, data.labelled.images[:2])
        assert data.unlabelled.labels.tolist() == data.hidden_labels.tolist() == [UNLABELLED] * 2
        assert data.labelled.flip_ok
        assert data.unlabelled.flip_ok


def test_npz_of_unlabelled_images_alone(tmp_path):
    np.savez(tmp_path / "data.npz", x_unlabelled=GREY)
    data = load_local(tmp_path)
    assert (len(data.labelled), len(data.unlabelled), data.labelled.image_shape) == (0, 5, (1, 4, 3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GREY}, "has x, expected x and y"),
        ({"images": GREY}, "has neither, expected x and y"),
        ({"x": GREY, "y": LABELS, "x_train": GREY, "y_train": LABELS}, "has x and y and x_train and y_train"),
        ({"x": GREY, "y": LABELS[:3]}, "5 images but labels of shape"),
        ({"x": GREY / 255, "y": LABELS}, "images are float64"),
        ({"x": GREY, "y": np.array([-1] * 5)}, "y is int64"),
        ({"x": GREY, "y": LABELS, "x_unlabelled": COLOUR}, "unlabelled images are 3x4x3, labelled ones 1x4x3"),
        ({"x": GREY[:0], "y": LABELS[:0]}, "y is uint8 of shape"),
        ({"x_unlabelled": GREY[:0]}, "has no image"),
    ],
)
def test_npz_that_is_none_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_local(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".PNG"])
@pytest.mark.parametrize("images", [GREY, COLOUR])
def test_a_folder_a_class(tmp_path, images, suffix):
    write_images(tmp_path / "dog", images[:2], suffix)
    write_images(tmp_path / "cat", images[2:], suffix)
    (tmp_path / ".hidden").mkdir()
    data = load_local(tmp_path).labelled
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.image_shape == ((1 if images is GREY else 3), 4, 3)
    if suffix.lower() == ".png":
        expected = images[[2, 3, 4, 0, 1]]
        expected = expected[:, None] if images is GREY else expected.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(data.images, expected)


def test_classes_txt_gives_the_order_and_those_without_an_image(tmp_path):
    write_images(tmp_path / "dog", GREY[:2])
    (tmp_path / "classes.txt").write_text("wolf\n dog \n\ncat\n")
    data = load_local(tmp_path).labelled
    assert (data.class_names, data.num_classes, data.labels.tolist()) == (("wolf", "dog", "cat"), 3, [1, 1])
    (tmp_path / "classes.txt").write_text("wolf\ncat\n")
    with pytest.raises(DataError, match="has folders dog, expected classes among wolf, cat"):
        load_local(tmp_path)
    for text, found in (("", "0 names, 0"), ("a\nb\na", "3 names, 2")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(DataError, match=rf"classes\.txt has {found} different"):
            load_local(tmp_path)


def test_one_class_alone_asks_for_the_others(tmp_path):
    write_images(tmp_path / "dog", GREY)
    with pytest.raises(DataError, match=r"the one class dog, expected two or more: folders, or lines of classes\.txt"):
        load_local(tmp_path)


def test_unlabelled_images_beside_any_kind_or_alone(tmp_path):
    write_images(tmp_path / "unlabelled", GREY[:3])
    data = load_local(tmp_path)
    assert (len(data.labelled), len(data.unlabelled)) == (0, 3)
    write_idx(tmp_path, "train")
    data = load_local(tmp_path)
    assert (len(data.labelled), len(data.unlabelled)) == (5, 3)
    np.testing.assert_array_equal(data.unlabelled.images, GREY[:3, None])
    assert set(data.hidden_labels) == {UNLABELLED}


def test_unlabelled_images_in_two_places_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=GREY, y=LABELS, x_unlabelled=GREY)
    write_images(tmp_path / "unlabelled", GREY[:3])
    with pytest.raises(DataError, match="has both x_unlabelled and a folder unlabelled"):
        load_local(tmp_path)


def test_images_are_turned_upright_and_reduced_to_grey_or_colour(tmp_path):
    picture = Image.fromarray(COLOUR[0])
    exif = picture.getexif()
    exif[0x0112] = 3  # turned by 180 degrees
    (tmp_path / "unlabelled").mkdir()
    picture.save(tmp_path / "unlabelled" / "turned.png", exif=exif)
    picture.convert("RGBA").save(tmp_path / "unlabelled" / "transparent.png")
    images = load_local(tmp_path).unlabelled.images
    np.testing.assert_array_equal(images[0], COLOUR[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(images[1], COLOUR[0, ::-1, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: (folder / "0.png").write_bytes(b"no image"), "cannot identify image file"),
        (lambda folder: (folder / "0.bmp").write_bytes(b""), r"0\.bmp is a file among images"),
        (lambda folder: (folder / "more").mkdir(), "more is a folder among images"),
        (lambda folder: None, "is empty, expected images"),
        (lambda folder: Image.new("I;16", (3, 4)).save(folder / "0.png"), "pixels of mode I;16"),
        (lambda folder: Image.new("L", (3, 5)).save(folder / "0.png"), "is 1x5x3, but .* is 1x4x3"),
        (lambda folder: Image.new("RGB", (3, 4)).save(folder / "0.png"), "is 3x4x3, but .* is 1x4x3"),
        (lambda folder: Image.new("L", (4097, 4096)).save(folder / "0.png"), "4097 x 4096 pixels, at most"),
        (lambda folder: Image.new("1", (20_000, 10_000)).save(folder / "0.png"), "decompression bomb"),
    ],
)
def test_images_that_are_none_are_refused(tmp_path, write, message):
    write_images(tmp_path / "cat", GREY)
    (tmp_path / "dog").mkdir()
    write(tmp_path / "dog")
    with pytest.raises(DataError, match=message) as caught:
        load_local(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_png_cut_anywhere_is_refused_or_still_whole(tmp_path):
    write_images(tmp_path / "unlabelled", GREY[:1])
    path = tmp_path / "unlabelled" / "0.png"
    content, refused = path.read_bytes(), 0
    for end in range(len(content)):
        path.write_bytes(content[:end])
        try:
            images = load_local(tmp_path).unlabelled.images
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(images, GREY[:1, None])
    assert refused >= len(content) - 24  # the last checksums and the mark of the end


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    write_images(tmp_path / "unlabelled", GREY)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow: pip install 'fedcomp\[images\]'"):
        load_local(tmp_path)


def test_binary_cifar(tmp_path):
    parts = [binary_cifar([3, 9]), binary_cifar([0])]
    for number, (content, _) in enumerate(parts):
        (tmp_path / f"data_batch_{number + 1}.bin").write_bytes(content)
    (tmp_path / "test_batch.bin").write_bytes(binary_cifar([7])[0])
    data = load_local(tmp_path).labelled
    assert (data.labels.tolist(), data.num_classes) == ([3, 9, 0], 10)
    np.testing.assert_array_equal(data.images, np.concatenate([pixels for _, pixels in parts]))
    one = load_local(tmp_path / "data_batch_1.bin").labelled
    np.testing.assert_array_equal(one.images, parts[0][1])
    assert not one.images.flags.owndata


def test_binary_cifar_100_has_the_fine_labels(tmp_path):
    content, pixels = binary_cifar([3, 99], coarse=7)
    (tmp_path / "train.bin").write_bytes(content)
    data = load_local(tmp_path).labelled
    assert (data.labels.tolist(), data.num_classes) == ([3, 99], 100)
    np.testing.assert_array_equal(data.images, pixels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds 0 bytes, expected records of 3073"),
        (bytes(3074), "3074 bytes, expected records of 3073"),
        (bytes([10]) + bytes(3072), "labels 10 to 10"),
    ],
)
def test_binary_cifar_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_local(tmp_path)


def test_nothing_and_too_much_are_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist, expected IDX files"):
        load_local(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is empty, expected IDX files"):
        load_local(tmp_path)
    for number in range(7):
        (tmp_path / f"notes-{number}.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes-4\.txt, \.\.\., expected IDX files"):
        load_local(tmp_path)
    with pytest.raises(DataError, match="is a file of no known name"):
        load_local(tmp_path / "notes-0.txt")
    write_idx(tmp_path, "train")
    np.savez(tmp_path / "data.npz", x=GREY, y=LABELS)
    with pytest.raises(DataError, match=r"has IDX files and an \.npz, expected one of these kinds"):
        load_local(tmp_path)


def of_shape(channels=1, num_classes=10, class_names=()):
    images = np.zeros((2, channels, 28, 28), np.uint8)
    return ImageDataset("mine", images, np.array([0, 1]), num_classes, class_names=class_names)


def test_images_that_do_not_fit_the_run_are_named():
    names = tuple("abcdefghijkl")
    for fitting in (of_shape(), of_shape(num_classes=2), of_shape(class_names=names[:10])):
        check_fits(fitting, (1, 28, 28), 10)
    with pytest.raises(DataError) as caught:
        check_fits(of_shape(3, 12, names), (1, 28, 28), 10)
    assert str(caught.value) == "the local images are 3x28x28 in 12 classes, the run trains on 1x28x28 in 10"
    for wrong in (of_shape(3), of_shape(num_classes=11)):
        with pytest.raises(DataError, match=r"the run trains on 1x28x28 in 10$"):
            check_fits(wrong, (1, 28, 28), 10)
    with pytest.raises(DataError, match=r"in 9 classes, .* in 10; name the classes .* in classes\.txt"):
        check_fits(of_shape(num_classes=9, class_names=names[:9]), (1, 28, 28), 10)


def test_names_are_as_many_as_classes():
    with pytest.raises(DataError, match="2 names for 10 classes"):
        of_shape(class_names=("a", "b"))
