# A stand-in for the Ray image that Dockerfile.model starts from, for a machine that can pull none: Ray, torch and
# Python 3.11, with the user that Ray's images have. The context holds serving.lock and a wheel of torch.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt \
    && python3 -m venv /opt/ray \
    && useradd --uid 1000 --create-home ray
ENV PATH=/opt/ray/bin:/usr/local/bin:/usr/bin:/bin
COPY torch/ /torch/
RUN pip install --no-cache-dir --find-links /torch torch==2.13.0 && rm -r /torch
COPY serving.lock /
RUN pip install --no-cache-dir --no-deps --require-hashes -r /serving.lock
