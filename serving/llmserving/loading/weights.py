"""Whole weights, from a folder: each load's result is checked, since transformers fills what is missing at random."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils.logging import disable_progress_bar

from llmserving.files import weights, wrappers
from llmserving.files.folders import ADAPTER_CONFIG
from llmserving.loading.report import Known, Report, judge
from llmserving.log import quieted

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from llmserving.settings import Settings

log = logging.getLogger(__name__)


def load(
    kind: type[Any],
    folder: Path,
    config: PretrainedConfig,
    known: Known,
    settings: Settings,
    **how: Any,  # noqa: ANN401 - transformers' own
) -> PreTrainedModel:
    """Return the model of a folder; raise ValueError for weights that are not whole, or not this model's.

    `kind` is one of transformers' Auto classes, `how` what its `from_pretrained` is told beside.
    """
    disable_progress_bar()  # a server's log is no terminal
    try:
        # Its table of names that do not fit is not logged: `check` says them, and what follows.
        with weights_alone(folder) as place, quieted("transformers.modeling_utils", logging.ERROR):
            model, result = kind.from_pretrained(
                place,
                config=config,
                local_files_only=True,
                use_safetensors=None if settings.allow_pickle else True,
                trust_remote_code=settings.trust_remote_code,
                key_mapping=_key_mapping(folder),
                ignore_mismatched_sizes=True,  # they are in the result, and refused here with both sizes
                output_loading_info=True,
                **how,
            )
    except ImportError as error:
        raise ValueError(f"{folder}: {_quantised(config)}it needs a package that is not here: {error}") from error
    check(folder, _report(result), known, settings)
    loaded: PreTrainedModel = model
    return loaded


def check(folder: Path, report: Report, known: Known, settings: Settings) -> None:
    """Raise ValueError where something was not loaded, or, with `allow_missing`, say what is served instead."""
    verdict = judge(report, known)
    for note in verdict.notes:
        log.info("%s: %s", folder, note)
    if not verdict.faults:
        return
    said = "; ".join(verdict.faults)
    if not settings.allow_missing:
        raise ValueError(f"{folder}: {said} (SERVING_ALLOW_MISSING=1 serves it with random numbers in their place)")
    log.warning("%s: %s: served as it is, with random numbers where some are missing (allow_missing)", folder, said)


@contextmanager
def weights_alone(folder: Path) -> Iterator[Path]:
    """Lend a folder as it is, or, where an adapter lies in it too, a view without it.

    Transformers attaches an adapter that it finds beside the weights, without being asked.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="weights-") as name:
        view = Path(name) / folder.resolve().name
        view.mkdir()
        for path in folder.iterdir():
            if path.name != ADAPTER_CONFIG:
                (view / path.name).symlink_to(path.resolve())
        yield view


def _key_mapping(folder: Path) -> dict[str, str] | None:
    try:
        patterns = wrappers.found_in(weights.read(folder))
    except FileNotFoundError:  # pickles: their names are known once they are loaded
        return None
    if patterns:
        log.info("%s: its names are those of a wrapper of the training, taken off: %s", folder, ", ".join(patterns))
    return patterns or None


def _quantised(config: PretrainedConfig) -> str:
    method = (getattr(config, "quantization_config", None) or {}).get("quant_method")
    return f"quantised by {method}, " if method else ""


def _report(result: dict[str, Any]) -> Report:
    return Report(
        frozenset(result["missing_keys"]),
        frozenset(result["unexpected_keys"]),
        tuple((name, tuple(file), tuple(model)) for name, file, model in result["mismatched_keys"]),
        tuple(result["error_msgs"]),
    )
