"""Serve a fine-tuned language model: what answers behind the proxy.

    settings.py     every setting, from arguments and environment variables
    tokenizer.py    text <-> token ids, chat templates
    chat_template.py  the form in which a chat template takes what is said
    files/          what a model's folder says before anything is loaded
    loading/        from folders to a model in memory, each load's result checked
    engines/        where tokens come from, behind one Protocol
    generation.py   sequences in, deltas of text out: detokenising, stop strings, deadlines, cancellation
    api/            the HTTP routes: OpenAI's, Zhipu's and this project's own
    server.py       one loaded model with everything around it
    app.py          the FastAPI application
    deployment.py   the application as a Ray Serve deployment
    __main__.py     the application without Ray: python -m llmserving --model_dir ...

Nothing here asks the network for anything: models are folders.
"""
