"""From folders to a model in memory: the base, a LoRA adapter merged into it, or a full fine-tuned checkpoint.

model.py              the model and the encoder, on their device
weights.py            whole weights, each load's result checked
report.py             what of a load's result is no fault
adapters.py           an adapter, merged where that is the same, else beside the weights
vocabulary.py         how many tokens the adapter was trained with
merging.py            whether merging changed what the model says
memory.py             whether an error is a want of memory
context.py            the longest prompt and answer
generation_config.py  the authors' advice on sampling, field by field
tokenizer.py          the checkpoint's tokenizer and chat template, or the base's
probes.py             whether a tokenizer knows the words of its files
"""

from llmserving.files.folders import Folders
from llmserving.loading.context import context_length, encoder_length
from llmserving.loading.generation_config import Advice, read_advice
from llmserving.loading.model import find_folders, load_encoder, load_model, pick_device, pick_dtype, read_config

__all__ = [
    "Advice",
    "Folders",
    "context_length",
    "encoder_length",
    "find_folders",
    "load_encoder",
    "load_model",
    "pick_device",
    "pick_dtype",
    "read_advice",
    "read_config",
]
