"""Image files: one folder a class, and folders of images without labels. Needs Pillow."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data.dataset import MAX_IMAGE_BYTES, ImageDataset
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from fedcomp.types import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")
_MAX_PIXELS = 1 << 24
_GREY, _COLOUR = "L", "RGB"
_READ_AS = {
    "1": _GREY,
    "L": _GREY,
    "LA": _GREY,
    "P": _COLOUR,
    "RGB": _COLOUR,
    "RGBA": _COLOUR,
    "CMYK": _COLOUR,
    "YCbCr": _COLOUR,
}


def read_class_folders(name: str, folders: Sequence[Path], class_names: Sequence[str] = ()) -> ImageDataset:
    """Read labelled images, a folder a class.

    Args:
        name: For messages.
        folders: Folders of images, one or more, named like their classes.
        class_names: All classes, in the order of their labels; some may have no folder here. Empty: the folders'
            names, sorted.

    Raises:
        DataError: A folder is no class or has no image, or a file can not be read.
    """
    names = tuple(class_names) or tuple(sorted(folder.name for folder in folders))
    if len(names) < 2:
        raise DataError(f"{name}: has the one class {names[0]}, expected two or more: folders, or lines of classes.txt")
    if strangers := sorted({folder.name for folder in folders} - set(names)):
        raise DataError(f"{name}: has folders {', '.join(strangers)}, expected classes among {', '.join(names)}")
    files = [(file, names.index(folder.name)) for folder in folders for file in image_files(folder)]
    images = read_images([file for file, _ in files])
    labels = np.array([label for _, label in files], np.int64)
    return ImageDataset(name, images, labels, len(names), class_names=names)


def read_class_names(file: Path) -> list[str]:
    """Read the names of classes, a line each, in the order of their labels.

    Raises:
        DataError: The file can not be read, is empty, or has a name twice.
    """
    try:
        names = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: {error}") from None
    names = [stripped for name in names if (stripped := name.strip())]
    if not names or len(set(names)) != len(names):
        raise DataError(f"{file} has {len(names)} names, {len(set(names))} different ones, expected each class once")
    return names


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted by name; hidden files are passed over.

    Raises:
        DataError: There is none, or there is something else.
    """
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if other := next((path for path in found if path.suffix.lower() not in SUFFIXES or not path.is_file()), None):
        what = "a folder" if other.is_dir() else "a file"
        raise DataError(f"{other} is {what} among images, expected files {', '.join(SUFFIXES)}")
    if not found:
        raise DataError(f"{folder} is empty, expected images {', '.join(SUFFIXES)}")
    return found


def read_images(files: Sequence[Path]) -> NDArray:
    """Read image files, one or more, all of one size, and all grey or all in colour.

    Transparency is dropped, and photographs are turned upright. No image is decompressed before its size is known.

    Returns:
        uint8, (N, C, H, W), C is 1 or 3.

    Raises:
        DataError: Pillow is not installed, a file is no 8-bit PNG or JPEG of at most 2^24 pixels, two differ in
            shape, or all have more bytes than `MAX_IMAGE_BYTES`.
    """
    first = _read_image(files[0])
    if first.nbytes * len(files) > MAX_IMAGE_BYTES:
        raise DataError(f"{len(files)} images like {files[0]} have more than {MAX_IMAGE_BYTES} bytes")
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, file in enumerate(files):
        image = _read_image(file) if index else first
        if image.shape != first.shape:
            raise DataError(
                f"{file} is {shape_text(image.shape)}, but {files[0]} is {shape_text(first.shape)}: "
                "expected one size, and all grey or all in colour"
            )
        images[index] = image
    return images


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape for a message: ``3x32x32``."""
    return "x".join(map(str, shape))


def to_pixels(picture: Image.Image) -> NDArray:
    """Return the pixels of Pillow's image, uint8 (H, W) or (H, W, 3); raises `ValueError` if they have not 8 bits."""
    if picture.mode not in _READ_AS:
        raise ValueError(f"pixels of mode {picture.mode}, expected 8-bit grey or colour")
    return np.asarray(picture.convert(_READ_AS[picture.mode]))


def _read_image(file: Path) -> NDArray:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise DataError(f"{file}: reading images needs Pillow: pip install 'fedcomp[images]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > _MAX_PIXELS:
                    raise ValueError(f"{width} x {height} pixels, at most {_MAX_PIXELS} are read")
                pixels = to_pixels(ImageOps.exif_transpose(picture))
    except Exception as error:  # damaged images raise a dozen kinds out of Pillow and zlib
        raise DataError(f"{file}: {error}") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
