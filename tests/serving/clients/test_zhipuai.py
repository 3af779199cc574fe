"""The event stream as zhipuai's own client reads it: every character of the answer, and nothing else."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

LOCK = Path(__file__).with_name("zhipuai.lock")
TEXTS = {
    "Chinese": "你好！很高兴见到你。",
    "leading and trailing spaces": "  two before, one after ",
    "lines": "- a\n- b\n\n\nlast",
    "a line break at the end": "text\n",
    "what looks like the protocol": "data: x\nevent:finish\nid:1\n: comment",
    "emoji": "👩‍👩‍👧 🇨🇳 😀",
}


@pytest.fixture(scope="module")
def sse_client(tmp_path_factory):
    """Return the class from the package's wheel; the package itself would need more than this one file."""
    folder = tmp_path_factory.mktemp("zhipuai")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--require-hashes", "-r", str(LOCK), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"pip could not download zhipuai, which needs the package index: {done.stderr[-300:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        file = wheel.extract("zhipuai/utils/sse_client.py", folder)
    spec = importlib.util.spec_from_file_location("zhipuai_sse_client", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SSEClient


@pytest.fixture
def ask(sse_client, echo_through_proxy):
    """Return a function that asks and gives the events; the engine repeats the question."""

    def events(content, **body):
        body = {"prompt": [{"role": "user", "content": content}], **body}
        url = f"{echo_through_proxy.url}/embeddings/QuestionAnswer?stream=true"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            return list(sse_client(answer.iter_raw()).events())

    return events


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_the_pieces_put_together_are_the_text(ask, content):
    events = ask(content)
    text = "".join(event.data for event in events if event.event == "add")
    assert text == content
    assert len(events) > 2


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_without_increments_each_event_is_the_whole_text_so_far(ask, content):
    pieces = [event.data for event in ask(content) if event.event == "add"]
    whole = [event.data for event in ask(content, incremental=False) if event.event == "add"]
    assert whole == ["".join(pieces[: count + 1]) for count in range(len(pieces))]


def test_the_last_event_is_finish_with_the_usage_in_meta(ask):
    last = ask("你好")[-1]
    assert (last.event, last.data) == ("finish", "")
    meta = json.loads(last.meta)
    assert meta["task_status"] == "SUCCESS"
    assert meta["task_id"] == last.id
    usage = meta["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_an_answer_goes_back_into_the_conversation_as_it_came(echo_through_proxy):
    url = f"{echo_through_proxy.url}/embeddings/QuestionAnswer"
    question = {"role": "user", "content": "你好"}
    answer = httpx.post(url, json={"prompt": [question]}, timeout=60).json()["data"]["choices"][0]
    again = {"prompt": [question, answer, {**question, "id": None}], "request_id": None, "return_type": None}
    assert httpx.post(url, json=again, timeout=60).json()["data"]["choices"][0] == answer
