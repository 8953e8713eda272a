"""What is handed to Flower has what Flower packs of it, and the package is the same."""

from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedcomp.deployment.lean_app import lean_app

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_our_own_app_is_packed_alike():
    with lean_app(ROOT) as folder:
        assert folder != ROOT
        assert {path.name for path in folder.iterdir()} >= {"fedcomp", "server", "clients", "pyproject.toml"}
        assert not (folder / "tests").exists()
        assert build_fab_from_disk(folder) == build_fab_from_disk(ROOT)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("include", "kept"),
    [
        ('fab-include = ["app/**/*.py", "/data"]', {"app/a.py", "app/deep/b.py", "data/c.txt", "pyproject.toml"}),
        ('fab-include = ["app/"]', None),
        ('fab-include = ["*.py", "app/a.py"]', None),
        ('fab-include = ["app/a.py", "../*/pyproject.toml"]', None),
        ("", None),
    ],
)
def test_patterns_that_mean_any_depth_leave_the_app_where_it_is(include, kept, tmp_path):
    for name in ("app/a.py", "app/deep/b.py", "data/c.txt", "app/d.bin", "other/e.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "pyproject.toml").write_text(f"[tool.flwr.app]\n{include}\n")
    with lean_app(tmp_path) as folder:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert folder == tmp_path if kept is None else found == kept
