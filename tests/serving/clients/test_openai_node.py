"""OpenAI's JavaScript client through the proxy's prefix: client.mjs calls, these tests judge."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from clients.conftest import NAME

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json", ".npmrc", "client.mjs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the client from its lock into a folder of its own."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node.js here: the Debian packages nodejs and npm enable it")
    folder = tmp_path_factory.mktemp("node")
    for name in FILES:
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install the client, which needs the package registry: {done.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def told(installed, model, slow):
    """Return what the client understood."""
    command = ["node", "client.mjs", model.url, slow.url, NAME]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_model_is_listed(told):
    assert told["models"] == [NAME]


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_stream_makes_the_same_text_and_usage_as_the_whole_answer(told, kind):
    whole, stream = told[kind], told[f"{kind}Stream"]
    assert (stream["text"], stream["usage"]) == (whole["text"], whole["usage"])
    assert whole["usage"]["completion_tokens"] > 5
    assert stream["reason"] in {"length", "stop"}
    assert stream["chunks"] > 5


@pytest.mark.parametrize("way", ["whole", "ofStream", "stream"])
def test_an_answer_goes_back_into_the_conversation_as_the_client_has_it(told, way):
    assert told["turns"]["plain"]
    assert told["turns"][way] == told["turns"]["plain"]


def test_embeddings_are_vectors_of_one_length(told):
    assert len(set(told["embeddings"])) == 1
    assert told["embeddings"][0] > 1


def test_errors_are_the_clients_own(told):
    assert (told["unknownModel"]["name"], told["unknownModel"]["status"]) == ("NotFoundError", 404)
    assert (told["badTemperature"]["name"], told["badTemperature"]["status"]) == ("BadRequestError", 400)
    assert "temperature" in told["badTemperature"]["message"]


def test_an_aborted_stream_frees_its_place(told, slow):
    assert told["aborted"]
    slow.wait_until_free()
