"""A page of Gradio: alone, `python gradio_page.py PORT ROOT_PATH`, and for Ray Serve."""

from __future__ import annotations

import sys

import gradio


def page() -> gradio.Blocks:
    with gradio.Blocks() as blocks:
        name = gradio.Textbox(label="Name", elem_id="name")
        answer = gradio.Textbox(label="Answer", elem_id="answer")
        gradio.Button("Greet", elem_id="greet").click(lambda text: f"Hello {text}", name, answer)
    return blocks


if __name__ == "__main__":
    page().launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), root_path=sys.argv[2], quiet=True)
