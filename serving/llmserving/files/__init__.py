"""What a model's folder says before anything is loaded: names, shapes, kinds. Python's own library alone.

folders.py   which folder holds the weights, the adapter, the tokenizer
headers.py   what a safetensors file holds, and why it cannot be read
weights.py   all tensors of a folder, by name
adapters.py  the kinds of adapters that are served
objects.py   the small files that are JSON
sentences.py how an encoder's authors make a vector of a text
tokens.py    the tokens that a tokenizer's files name
wrappers.py  what a training framework put before the names
check.py     all of it: what `make model-context` runs before an image is built
"""
