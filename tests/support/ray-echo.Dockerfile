# A model's image that needs no torch and no model: Ray, and the model server with its engine `echo`. As Ray's own
# images it has a user 1000, and wget, which KubeRay's probes call. The context holds serving.lock and inference.zip.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ca-certificates procps python3 python3-venv wget \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt \
    && python3 -m venv /opt/ray \
    && useradd --uid 1000 --create-home ray
ENV PATH=/opt/ray/bin:/usr/local/bin:/usr/bin:/bin
COPY serving.lock /
RUN pip install --no-cache-dir --no-deps --require-hashes -r /serving.lock
COPY inference.zip /home/inference/
USER 1000
WORKDIR /home/ray
