"""Files that are not whole: each is refused with its name, wherever it is cut and whatever stands in it."""

import json
import random

import loads
import pytest
from llmserving.files import headers

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def weights(base):
    return (base / "model.safetensors").read_bytes()


def error_of(call, *arguments):
    """Return what a ValueError says, None where there is none; let others through."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    return None


def test_a_file_that_is_cut_anywhere_is_refused_with_its_name(weights, tmp_path):
    path = tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(weights[:8], "little")
    draw = random.Random(0)
    cuts = [*range(64), *range(header - 32, header + 32), len(weights) - 1]
    for cut in cuts + [draw.randrange(len(weights)) for _ in range(300)]:
        path.write_bytes(weights[:cut])
        with pytest.raises(ValueError, match=r"model\.safetensors: "):
            headers.read(path)


def test_a_header_with_any_byte_changed_is_read_or_refused_with_its_name(weights, tmp_path):
    path = tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(weights[:8], "little")
    draw = random.Random(0)
    for _ in range(1000):
        spoiled = bytearray(weights)
        spoiled[draw.randrange(header)] = draw.randrange(256)
        path.write_bytes(spoiled)
        assert (error_of(headers.read, path) or f"{path}: ").startswith(f"{path}: ")


@pytest.mark.parametrize(
    "described",
    [
        {"a": {"dtype": "F32", "shape": "no", "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": None}},
        {"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}},
        {"a": {"shape": [-1], "data_offsets": [0, 4]}},
        {"a": []},
        {"a": None},
        [],
        "text",
        7,
        None,
    ],
    ids=str,
)
def test_a_header_of_another_shape_is_refused_with_its_name(tmp_path, described):
    path = tmp_path / "model.safetensors"
    header = json.dumps(described).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
    with pytest.raises(ValueError, match=r"model\.safetensors: "):
        headers.read(path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_small_file_that_is_a_pointer_is_refused_with_its_name(base, tmp_path, name):
    copy = loads.copy(base, tmp_path / "copy")
    (copy / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=f"{name}: a Git LFS pointer"):
        loads.load(copy)
