"""What a load said of names that did not fit, judged: what is logged, and what refuses the start. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmserving.files.weights import some

# Made anew by every version from the configuration.
COMPUTED = re.compile(
    r"(^|\.)(inv_freq|masked_bias|position_ids|attn\.bias|attention\.bias|relative_position_index|causal_mask)$"
)
# What the model can do beside continuing text: none of it is read here.
BESIDE = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|vision_embed_tokens|image_newline|multi_modal_projector|mm_projector|"
    r"embed_vision|audio_tower|embed_audio|audio_embed|img_projection|mtp|mtp_layers|mtp_block|v_head|talker|"
    r"token2wav)(\.|$)"
)
# What was trained on top of an encoder; the vectors are of what lies below.
HEADS = re.compile(
    r"^(\w+\.)?(cls|lm_head|mlm|mlm_head|classifier|qa_outputs|score|pooler|vocab_\w+|generator_\w+|discriminator_\w+|"
    r"predictions|head|colbert_linear|linear)(\.|$)|^(final_logits_bias$|decoder\.(weight|bias)$)"
)
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class Report:
    """Hold what a load said: names, and shapes that did not fit (name, in the file, in the model)."""

    missing: frozenset[str]
    unused: frozenset[str]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """Say which missing and which unused names are no fault of this load."""

    layers: int = 0
    extra_layers: int = 0  # of multi-token prediction, numbered on from the model's own
    encoder: bool = False

    def is_unread(self, name: str) -> bool:
        """Return whether a tensor that no parameter takes is one that this task does not read."""
        if COMPUTED.search(name) or BESIDE.search(name) or (self.encoder and HEADS.match(name)):
            return True
        found = LAYER.search(name)
        return found is not None and self.layers <= int(found[1]) < self.layers + self.extra_layers

    def is_needless(self, name: str) -> bool:
        """Return whether a parameter without a tensor is one that this task does not read."""
        return bool(COMPUTED.search(name)) or (self.encoder and "pooler." in name)


def known(config: Mapping[str, Any], *, encoder: bool = False) -> Known:
    """Return what is known of a model from its text configuration."""
    layers = config.get("num_hidden_layers")
    extra = config.get("num_nextn_predict_layers")
    return Known(layers if isinstance(layers, int) else 0, extra if isinstance(extra, int) else 0, encoder)


@dataclass(frozen=True)
class Verdict:
    """What refuses the start, and what is worth a line of the log."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge(report: Report, known: Known) -> Verdict:
    """Return what is wrong with a load, in sentences."""
    missing = sorted(name for name in report.missing if not known.is_needless(name))
    unused = sorted(name for name in report.unused if not known.is_unread(name))
    unread = sorted(report.unused.difference(unused))
    faults = [*report.errors, *_sizes(report)]
    if missing:
        faults.append(f"parameters of the model are missing ({len(missing)}): {some(missing)}")
    if unused:
        faults.append(f"tensors fit nowhere in the model ({len(unused)}): {some(unused)}")
    if hint := _hint(missing, unused, known):
        faults.append(hint)
    notes = [f"tensors that nothing here needs are not read ({len(unread)}): {some(unread)}"] if unread else []
    return Verdict(faults, notes)


def _sizes(report: Report) -> list[str]:
    if not report.mismatched:
        return []
    shown = [f"{name} is {list(file)} and should be {list(model)}" for name, file, model in sorted(report.mismatched)]
    hint = ""
    rows = {file[0] for name, file, _ in report.mismatched if file and _is_vocabulary(name)}
    if len(rows) == 1:
        hint = f" (the weights have a vocabulary of {rows.pop()}: is vocab_size in config.json the one they had?)"
    return [f"tensors have another size than config.json says ({len(shown)}): {some(shown)}{hint}"]


def _is_vocabulary(name: str) -> bool:
    return bool(re.search(r"(embed_tokens|wte|word_embeddings|lm_head|embed_in|embed_out)\.weight$", name))


def _hint(missing: Iterable[str], unused: list[str], known: Known) -> str:
    """Return the likeliest cause."""
    if any(re.search(r"\.(lora_|base_layer\.|modules_to_save\.)", name) for name in unused):
        return "an adapter is in there that was never merged: save the adapter alone, or merge it before saving"
    if any(re.match(r"(score|classifier|qa_outputs|regression_head|summary)\.", name) for name in unused):
        return "it is a classifier or a reward model: it does not continue text"
    beyond = [int(found[1]) for name in unused if (found := LAYER.search(name))]
    if beyond and known.layers and min(beyond) >= known.layers:
        return f"config.json says {known.layers} layers, the weights have {max(beyond) + 1}"
    lost = [int(found[1]) for name in missing if (found := LAYER.search(name))]
    if lost and not unused:
        return "a part of the weights was not saved, or config.json is another model's"
    prefix = _common_prefix(missing, unused)
    return f"the names begin with {prefix!r} in the file and not in the model" if prefix else ""


def _common_prefix(missing: Iterable[str], unused: list[str]) -> str:
    wanted = set(missing)
    for name in unused[:1]:
        for cut in range(1, len(name)):
            if name[cut:] in wanted:
                return name[:cut]
    return ""
