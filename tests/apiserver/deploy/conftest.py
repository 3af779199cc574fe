"""`rayproxy deploy` against a real API server, with each shape of RayService."""

import pytest

from rayproxy.__main__ import main
from tests.support import definitions, golden
from tests.support.cli import FailedError
from tests.support.objects import CHECKPOINTS, RAYSERVICES, install, remove, there


@pytest.fixture(scope="module", params=definitions.ALL, ids=lambda each: each.name)
def defined(request, api_server):
    """Return the definitions that the cluster has, which the next module's tests will want to choose anew."""
    for crd in request.param.load():
        install(api_server, crd)
    yield request.param
    for crd in request.param.load():
        remove(api_server, crd)


@pytest.fixture
def server(defined, api_server):
    return api_server


@pytest.fixture
def kubeconfig(api_server, folder):
    return api_server.kubeconfig(folder)


@pytest.fixture
def namespace(server):
    """Make the namespace that the documented objects name, and empty it afterwards."""
    name = "datatunerx-dev"
    if not there(server, f"/api/v1/namespaces/{name}"):
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        server.call("POST", "/api/v1/namespaces", made)
    yield name
    for collection in (RAYSERVICES.format(name), CHECKPOINTS.format(name)):
        server.call("DELETE", collection)
    for service in server.call("GET", f"/api/v1/namespaces/{name}/services")["items"]:
        server.call("DELETE", f"/api/v1/namespaces/{name}/services/{service['metadata']['name']}")


@pytest.fixture
def rayproxy(kubeconfig, capsys, monkeypatch):
    """Run a command in the folder of the checkpoints: return its output, `.said` has stderr; or raise FailedError."""
    monkeypatch.chdir(golden.INPUTS)

    def run(*words):
        command, *rest = words
        capsys.readouterr()
        code = main([command, "--kubeconfig", str(kubeconfig), *rest])
        out, err = capsys.readouterr()
        run.said = err  # type: ignore[attr-defined]
        if code:
            raise FailedError(err)
        return out

    return run
