"""Serve a fine-tuned language model: what answers behind the proxy.

    settings.py     environment variables and arguments, the only place that reads either
    tokenizer.py    text <-> token ids, chat templates
    engines/        where tokens come from, behind one Protocol
    generation.py   jobs in, pieces of text out: detokenising, stop strings, deadlines, cancellation
    api/            the HTTP routes: OpenAI's, Zhipu's and this project's own
    server.py       one loaded model with everything around it
    app.py          the FastAPI application
    deployment.py   the application as a Ray Serve deployment
    __main__.py     the application without Ray: python -m llmserving --model_dir ...

Nothing here asks the network for anything: models are folders.
"""
