"""The way it was done before: a Ray Serve deployment that runs one `generate` per request, each in a thread."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from ray import serve
from transformers import AsyncTextIteratorStreamer, AutoModelForCausalLM, AutoTokenizer

app = FastAPI()


def _event(value: dict[str, Any]) -> str:
    # Before the class: `ingress` copies it with what the module holds by then.
    return f"data: {json.dumps(value)}\n\n"


@serve.deployment(name="ThreadPerRequest", max_ongoing_requests=512)
@serve.ingress(app)
class ThreadPerRequest:
    """Answer chat completions as streams."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        folder = os.environ["BASE_MODEL_DIR"]
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @app.get("/ready")
    async def ready(self) -> dict[str, str]:
        """Say that the model is loaded."""
        return {"status": "ready"}

    @app.post("/v1/chat/completions")
    async def chat(self, request: Request) -> StreamingResponse:
        """Stream one answer."""
        body = await request.json()
        return StreamingResponse(self._stream(body), media_type="text/event-stream")

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        inputs = self._tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        streamer = AsyncTextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        made: list[int] = []
        thread = threading.Thread(target=self._generate, args=(inputs, body["max_tokens"], streamer, made))
        thread.start()
        async for text in streamer:
            yield _event({"choices": [{"index": 0, "delta": {"content": text}}]})
        await asyncio.to_thread(thread.join)
        yield _event({"choices": [], "usage": {"completion_tokens": made[0]}})
        yield "data: [DONE]\n\n"

    def _generate(self, inputs: Any, tokens: int, streamer: AsyncTextIteratorStreamer, made: list[int]) -> None:  # noqa: ANN401
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=tokens, do_sample=False, streamer=streamer)
        made.append(output.shape[1] - inputs["input_ids"].shape[1])


deployment = ThreadPerRequest.bind()  # type: ignore[attr-defined]  # what the decorator made of it
