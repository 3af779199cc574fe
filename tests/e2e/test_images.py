"""What the images are made of."""

from __future__ import annotations

import re

import docker
import pytest

from rayproxy.cli import COMMANDS
from tests.support.waiting import until

pytestmark = pytest.mark.docker
MOST = 150e6  # bytes above the base image


def run(engine: docker.DockerClient, image: str, *command: str) -> str:
    return engine.containers.run(image, command[1:], entrypoint=command[0], network_mode="none", remove=True).decode()


def test_the_proxy_is_small(engine: docker.DockerClient, proxy_image: str):
    base = engine.images.get("debian:trixie-slim").attrs["Size"]
    assert engine.images.get(proxy_image).attrs["Size"] - base < MOST


def test_the_proxy_holds_no_compiler_no_pip_no_torch_and_no_ray(engine: docker.DockerClient, proxy_image: str):
    tools = run(
        engine, proxy_image, "sh", "-c", "for each in cc gcc make pip pip3 uv; do command -v $each; done; true"
    )
    assert tools == ""
    code = "import importlib.util as u; print([m for m in ('pip', 'torch', 'ray', 'transformers') if u.find_spec(m)])"
    assert run(engine, proxy_image, "/opt/rayproxy/bin/python", "-c", code) == "[]\n"


def test_the_proxy_runs_as_a_user_of_its_own(engine: docker.DockerClient, proxy_image: str):
    assert run(engine, proxy_image, "id", "-u") == "10001\n"


def test_the_proxy_names_its_commands(engine: docker.DockerClient, proxy_image: str):
    said = run(engine, proxy_image, "rayproxy", "--help")
    assert set(re.findall(r"^  (\w+) ", said, re.MULTILINE)) == set(COMMANDS)


def test_start_nginx_says_what_is_missing(engine: docker.DockerClient, proxy_image: str):
    container = engine.containers.run(proxy_image, entrypoint="start-nginx", network_mode="none", detach=True)
    try:
        said = until("it says so", container.logs)
        assert b"waiting for the first revision, /var/lib/rayproxy/current/nginx.conf" in said
        container.stop(timeout=10)
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)
