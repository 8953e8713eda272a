"""Files are read with one clear error."""

import pytest

from fedcomp.errors import DataError
from fedcomp.files import read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "summary.json: Expecting"), ("[1]", "summary.json is a list, expected an object"), (None, "No such file")],
)
def test_what_is_no_object_is_told_with_its_file(tmp_path, content, message):
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_json(path)
