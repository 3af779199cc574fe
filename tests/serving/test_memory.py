"""The cache is what this container's memory holds; what does not fit is lowered or refused, with the number to set."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from cgroups import limited
from conftest import free_port, wait_for
from llmserving import container
from llmserving.engines import budget, local
from llmserving.engines.budget import GIB, Shape, TooLittleMemoryError
from llmserving.engines.continuous import ContinuousEngine
from llmserving.files.folders import Folders
from llmserving.settings import from_mapping
from tiny import make_tokenizer
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MambaConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3ForCausalLM,
    RwkvConfig,
)

SERVING = Path(__file__).resolve().parents[2] / "serving"


def shape(kind, **sizes):
    config = kind(**sizes)
    config._attn_implementation = "paged|eager"
    return Shape(config, torch.float32)


QWEN2_5_05B = shape(
    Qwen2Config,
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    max_position_embeddings=32768,
)
QWEN3_06B = shape(
    Qwen3Config,
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40960,
)
GEMMA3_270M = shape(
    Gemma3TextConfig,
    vocab_size=262144,
    hidden_size=640,
    intermediate_size=2048,
    num_hidden_layers=18,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    sliding_window=512,
    max_position_embeddings=32768,
)


def settings(**values):
    return from_mapping({"engine": "echo", **values})


def gib(number):
    return int(number * GIB)


class TestTheCache:
    def test_holds_eight_full_sequences_where_there_is_room(self):
        made = budget.plan(QWEN2_5_05B, 32768, settings(), gib(12))
        assert (made.tokens, made.longest >= 32768) == (8 * 32768 + 64, True)

    @pytest.mark.parametrize(
        ("model", "context", "weights"),
        [(QWEN2_5_05B, 32768, 1.9), (QWEN3_06B, 40960, 2.3), (GEMMA3_270M, 32768, 1.0)],
    )
    def test_of_todays_small_models_holds_a_whole_sequence_on_a_machine_of_24_gib(self, model, context, weights):
        made = budget.plan(model, context, settings(), int(budget.SHARE * gib(22 - weights)))
        assert budget.served_length(context, made.longest, settings()) == context

    def test_is_smaller_on_a_small_machine_and_the_context_with_it(self, caplog):
        made = budget.plan(QWEN3_06B, 40960, settings(), gib(4))
        assert 15000 < made.longest < 18000
        assert budget.served_length(40960, made.longest, settings()) == made.longest
        assert f"the memory that is left holds {made.longest} tokens: the context is lowered" in caplog.text

    def test_says_what_it_takes_and_how_many_tokens_that_is(self, caplog):
        caplog.set_level(logging.INFO)
        budget.plan(QWEN2_5_05B, 32768, settings(), gib(3))
        assert "GiB of the 4.0 GiB that are left: " in caplog.text
        assert "sequences of 32768" in caplog.text

    def test_takes_no_more_than_its_space_with_all_that_goes_with_it(self):
        """Of keys and values alone: what transformers counts beside them is a tenth to a third."""
        for space in (gib(1), gib(4), gib(12)):
            made = budget.plan(QWEN3_06B, 40960, settings(), space)
            per_token = 28 * 2 * 8 * 128 * 4
            assert 0.6 * space < made.tokens * per_token <= space

    def test_of_layers_that_look_back_a_little_counts_them_so(self):
        made = budget.plan(GEMMA3_270M, 32768, settings(), gib(1))
        assert made.longest > made.tokens


class TestWhatDoesNotFit:
    def test_a_length_that_was_asked_for_is_refused_with_the_one_that_fits(self):
        wanted = settings(max_length=40960)
        made = budget.plan(QWEN3_06B, 40960, wanted, gib(4))
        with pytest.raises(
            TooLittleMemoryError, match=rf"max_length 40960: .* holds {made.longest}; set at most that"
        ):
            budget.served_length(40960, made.longest, wanted)
        assert budget.served_length(made.longest, made.longest, settings(max_length=made.longest)) == made.longest

    def test_a_cache_that_was_asked_for_is_refused_with_the_one_that_fits(self):
        with pytest.raises(TooLittleMemoryError, match=r"kv_cache_tokens 100000: .* holds (\d+); set") as refused:
            budget.plan(QWEN3_06B, 4096, settings(kv_cache_tokens=100_000), gib(4))
        most = int(str(refused.value).split("holds ")[1].split(";")[0])
        assert budget.plan(QWEN3_06B, 4096, settings(kv_cache_tokens=most), gib(4)).tokens >= most

    @pytest.mark.parametrize("space", [0, gib(0.05), gib(0.12)])
    def test_no_room_at_all_is_refused_with_words(self, space):
        with pytest.raises(TooLittleMemoryError, match=r"of memory are left, .*: give the container more memory"):
            budget.plan(QWEN3_06B, 40960, settings(), space)

    def test_what_is_larger_than_memory_is_refused_before_it_is_loaded(self, tmp_path):
        needed = [(tmp_path / "model", 4 * 2**20), (tmp_path / "encoder", 2 * 2**20)]
        said = (
            rf"the weights take 6 MiB \({tmp_path}/model: 4 MiB, {tmp_path}/encoder: 2 MiB; dtype float32\), "
            "and 5 MiB of memory are left"
        )
        with pytest.raises(TooLittleMemoryError, match=said):
            budget.refuse_larger(needed, "float32", 5 * 2**20)
        budget.refuse_larger(needed, "float32", 6 * 2**20)

    def test_what_is_loaded_is_counted_in_the_type_that_it_is_computed_in(self, tmp_path):
        (tmp_path / "model.safetensors").write_bytes(bytes(1000))
        config, folders = Qwen2Config(dtype=torch.bfloat16), Folders(tmp_path, None, (tmp_path,))
        (as_float,), (as_kept,) = (budget.needs(folders, config, dtype, None) for dtype in ("float32", "auto"))
        assert (as_float, as_kept) == ((tmp_path, 2000), (tmp_path, 1000))

    @pytest.mark.parametrize(
        ("files", "size"),
        [
            ({"model.safetensors": 7, "consolidated.safetensors": 1000, "pytorch_model.bin": 1000}, 7),
            ({"model.safetensors": 7, "adapter_model.safetensors": 1000, "model-00001.safetensors": 1000}, 7),
            ({"model.safetensors.index.json": ["a", "b"], "a": 3, "b": 4, "other.safetensors": 1000}, 7),
            ({"pytorch_model.bin": 7, "optimizer.bin": 1000, "training_args.bin": 1000}, 7),
            ({"pytorch_model.bin.index.json": ["a"], "a": 7, "training_args.bin": 1000}, 7),
        ],
        ids=["one file", "an adapter beside it", "shards", "a pickle", "pickles"],
    )
    def test_of_a_folders_files_those_are_counted_that_are_loaded(self, tmp_path, files, size):
        for name, content in files.items():
            if isinstance(content, int):
                (tmp_path / name).write_bytes(bytes(content))
            else:
                (tmp_path / name).write_text(json.dumps({"weight_map": {f"{each}.weight": each for each in content}}))
        needed = budget.needs(Folders(tmp_path, None, (tmp_path,)), Qwen2Config(), "auto", None)
        assert needed == [(tmp_path, size)]

    def test_the_adapter_and_the_encoder_are_counted_too(self, base, adapter):
        sizes = {folder: (folder / name).stat().st_size for folder, name in (
            (base, "model.safetensors"), (adapter, "adapter_model.safetensors")
        )}  # fmt: skip
        needed = budget.needs(Folders(base, adapter, (base,)), Qwen2Config(), "auto", base)
        assert needed == [(base, sizes[base]), (adapter, sizes[adapter]), (base, sizes[base])]

    def test_the_cache_leaves_room_for_the_encoder(self, base, monkeypatch):
        spaces = []

        def chosen(_, candidate, proving):
            spaces.append(candidate.space)
            raise KeyboardInterrupt

        monkeypatch.setattr(local, "transformers_engine", chosen)
        monkeypatch.setattr(container, "memory_left", lambda: GIB)
        for encoder in (None, base):
            with pytest.raises(KeyboardInterrupt):
                local.load_local(from_mapping({"model_dir": base, "embedding_model_dir": encoder}))
        # Its head is not read.
        assert spaces[0] - spaces[1] >= budget.SHARE * 0.7 * (base / "model.safetensors").stat().st_size

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ],
    )
    def test_an_allocation_that_fails_is_explained(self, error):
        with (
            pytest.raises(TooLittleMemoryError, match="not enough memory for the cache"),
            budget.explained("the cache"),
        ):
            raise error

    def test_torchs_own_allocator_says_it_so(self):
        with (
            pytest.raises(TooLittleMemoryError, match="not enough memory for the weights"),
            budget.explained("the weights"),
        ):
            torch.empty(2**60, dtype=torch.uint8)

    def test_another_error_is_left_as_it_is(self):
        with pytest.raises(RuntimeError, match=r"^shapes differ$"), budget.explained("the cache"):
            raise RuntimeError("shapes differ")

    def test_one_sequence_alone_is_bounded_too(self):
        tokens = budget.alone(QWEN3_06B, gib(4))
        assert 4000 < tokens < 4 * GIB / (28 * 2 * 8 * 128 * 4)

    @pytest.mark.parametrize("kind", [MambaConfig, RwkvConfig, LlamaConfig])
    def test_a_model_without_heads_is_no_want_of_memory(self, kind):
        assert budget.alone(shape(kind), gib(4)) > 1000
        if kind is not LlamaConfig:
            with pytest.raises(ValueError, match=r"Invalid layer type|could not be found"):
                budget.plan(shape(kind), 1024, settings(), gib(4))


KUBERNETES_2 = {
    "proc/self/cgroup": "0::/\n",
    "proc/self/mountinfo": "35 30 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
    "proc/meminfo": "MemTotal: 65000000 kB\nMemAvailable: 60000000 kB\n",
    "sys/fs/cgroup/memory.max": "2147483648\n",
    "sys/fs/cgroup/memory.current": "1000000000\n",
    "sys/fs/cgroup/memory.stat": "anon 300000000\nactive_file 200000000\ninactive_file 500000000\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
}
POD = "/kubepods/pod1/c1"
KUBERNETES_1 = {
    "proc/self/cgroup": f"5:memory:{POD}\n4:cpu,cpuacct:{POD}\n0::/\n",
    "proc/self/mountinfo": f"36 30 0:27 {POD} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    f"37 30 0:28 {POD} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
    "proc/meminfo": "MemAvailable: 60000000 kB\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000\n",
    "sys/fs/cgroup/memory/memory.stat": "rss 3\ntotal_active_file 200000000\ntotal_inactive_file 500000000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}
SLICE = {
    "proc/self/cgroup": "0::/a.slice/b.service\n",
    "proc/self/mountinfo": "35 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "proc/meminfo": "MemAvailable: 3000000 kB\n",
    "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
    "sys/fs/cgroup/a.slice/b.service/memory.current": "100000000\n",
    "sys/fs/cgroup/a.slice/memory.max": "2147483648\n",
    "sys/fs/cgroup/a.slice/memory.current": "300000000\n",
    "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000\n",
    "sys/fs/cgroup/a.slice/cpu.max": "100000 100000\n",
}
UNLIMITED_1 = {
    **KUBERNETES_1,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
}


class TestWhatTheContainerMayUse:
    """The trees are laid out as the kernel's cgroup-v2.rst and cgroup-v1 documents, and a kubelet, have them."""

    @pytest.mark.parametrize(
        ("tree", "left", "processors"),
        [
            (KUBERNETES_2, 2**31 - 300_000_000, 1),
            (KUBERNETES_1, 2**31 - 300_000_000, 1),
            (SLICE, 2**31 - 300_000_000, 1),
            (UNLIMITED_1, 60_000_000 * 1024, len(os.sched_getaffinity(0))),
            ({"proc/meminfo": "MemAvailable: 3000000 kB\n"}, 3_000_000 * 1024, len(os.sched_getaffinity(0))),
        ],
        ids=["a pod, version 2", "a pod, version 1", "a limit further up", "no limit", "no control groups"],
    )
    def test_is_the_least_of_its_groups_and_the_host(self, tree, left, processors, tmp_path):
        for name, text in tree.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert (container.memory_left(tmp_path), container.processors(tmp_path)) == (left, processors)

    def test_is_found_among_mounts_and_groups_whose_names_are_any_bytes(self, tmp_path):
        name = b"caf\xe9 \xc2\x85\xe2\x80\xa8\x0b\x1c.service"
        group = tmp_path / "sys/fs/cgroup" / os.fsdecode(name)
        group.mkdir(parents=True)
        (group / "memory.max").write_text("2147483648\n")
        (group / "memory.current").write_text("300000000\n")
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_bytes(b"0::/" + name + b"\n")
        mount = name.replace(b" ", rb"\040")
        (tmp_path / "proc/self/mountinfo").write_bytes(
            b"34 30 0:25 / /mnt/" + mount + b" rw - tmpfs none rw\n35 30 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n"
        )
        assert container.memory_left(tmp_path) == 2**31 - 300_000_000

    def test_is_read_from_this_machine(self):
        assert 0 < container.memory_left() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert 1 <= container.processors() <= len(os.sched_getaffinity(0))

    def test_threads_follow_the_quota(self, monkeypatch):
        monkeypatch.setattr(container, "processors", lambda: 5)
        assert settings().model_threads == 4
        monkeypatch.setattr(container, "processors", lambda: 1)
        assert settings().model_threads == 1
        assert settings(threads=3).model_threads == 3


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return a folder with a model whose cache is Qwen3-0.6B's, 224 KiB a token, and whose context is as long."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(6)
    config = Qwen3Config(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        eos_token_id=2,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def test_a_long_context_starts_on_this_machine(wide):
    engine, encoder = local.load_local(from_mapping({"model_dir": wide}))
    try:
        assert isinstance(engine, ContinuousEngine)
        assert 256 <= engine.context_length <= 40960
        assert encoder.embedding_tokens == engine.context_length
    finally:
        engine.close()


def test_a_container_of_2_gib_and_half_a_processor_serves_what_it_has_room_for(wide, tmp_path):
    """Eight sequences of this context would be 77 GiB."""
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "llmserving", f"--model_dir={wide}", "--host=127.0.0.1", f"--port={port}"]
    with limited(memory=2 * GIB, processors=0.5) as within, log.open("w") as output:
        process = subprocess.Popen(
            [*within, *command], env={**os.environ, "PYTHONPATH": str(SERVING)}, stderr=output, stdout=output
        )
        try:
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)

            def ready():
                assert process.poll() is None, log.read_text()
                try:
                    return client.get("/ready").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(ready, "ready", 300)
            longest = client.get("/v1/models").json()["data"][0]["max_model_len"]
            assert 256 <= longest < 6000, "what is left of 2 GiB"
            said = log.read_text()
            assert f"holds {longest} tokens: the context is lowered to that from 40960" in said
            assert "the cache takes" in said
            body = {"prompt": [7] * (longest - 8), "max_tokens": 8, "ignore_eos": True}
            answer = client.post("/v1/completions", json=body)
            assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 8)
            assert client.get("/ready").status_code == 200
        finally:
            process.terminate()
            process.wait(60)
