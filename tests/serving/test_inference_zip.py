"""The zip that a RayService takes as its working_dir: the same bytes everywhere, and a name that tells."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import inference_zip
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    shutil.copytree(ROOT / "serving", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_same_sources_give_the_same_bytes_whatever_their_times_and_permissions(sources, tmp_path):
    first = inference_zip.write(sources, tmp_path / "first")
    for number, path in enumerate(sorted(sources.rglob("*"), reverse=True)):
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        os.utime(path, (number, number * 10**6))
    second = inference_zip.write(sources, tmp_path / "second")
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())


def test_the_order_in_which_the_disk_lists_the_files_does_not_matter(sources, monkeypatch):
    expected = inference_zip.pack(sources)
    listed = inference_zip.files(sources)
    monkeypatch.setattr(inference_zip, "files", lambda _: listed[::-1])
    assert inference_zip.pack(sources) == expected


@pytest.mark.parametrize("change", ["content", "name"])
def test_another_content_has_another_name(sources, tmp_path, change):
    before = inference_zip.write(sources, tmp_path)
    module = sources / "inference.py"
    if change == "content":
        module.write_text(module.read_text() + "\n")
    else:
        module.rename(sources / "inference2.py")
    assert inference_zip.write(sources, tmp_path) != before


def test_what_python_and_editors_leave_behind_is_not_packed(sources):
    expected = inference_zip.pack(sources)
    (sources / "llmserving" / "__pycache__").mkdir()
    (sources / "llmserving" / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"x")
    (sources / ".inference.py.swp").write_bytes(b"x")
    assert inference_zip.pack(sources) == expected


def test_the_zip_holds_the_module_that_the_documented_import_path_names(sources, tmp_path):
    with zipfile.ZipFile(inference_zip.write(sources, tmp_path)) as archive:
        assert {"inference.py", "llmserving/__init__.py"} <= set(archive.namelist())
        assert archive.testzip() is None
