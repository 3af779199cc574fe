"""The documented design as the script that everyone writes once: watch, write, nginx -t, reload, for each event.

python -m bench.plain_script FOLDER, with KUBECONFIG; nginx runs with -c FOLDER/nginx.conf.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

LOCATION = """ location ~ /apis/rayservice/{name}/(.*) {{
     set $target http://{ip}:{port}/;
     proxy_pass $target$1$is_args$args;
     proxy_http_version 1.1;
     proxy_buffering off;
     proxy_set_header Upgrade $http_upgrade;
     proxy_set_header Connection $connection_upgrade;
     proxy_read_timeout          2000s;
     proxy_set_header Host $http_host;
     proxy_set_header X-Real-IP $remote_addr;
     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
 }}
"""
SERVE = "ray.io/serve"
lock = threading.Lock()


def main(folder: Path) -> None:
    """Write what is there in one go, then follow both resources; each event writes one file and reloads."""
    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    api = client.ApiClient(configuration)
    services = client.CoreV1Api(api)
    listing = json.loads(services.list_service_for_all_namespaces(label_selector=SERVE, _preload_content=False).data)
    for service in listing["items"]:
        write(folder, service)
    reload(folder)
    threading.Thread(target=follow_rayservices, args=(api, folder), daemon=True).start()
    for event in watch.Watch().stream(
        services.list_service_for_all_namespaces,
        label_selector=SERVE,
        resource_version=listing["metadata"]["resourceVersion"],
    ):
        with lock:
            if event["type"] == "DELETED":
                (folder / f"ray-{name_of(event['raw_object'])}.conf").unlink(missing_ok=True)
            else:
                write(folder, event["raw_object"])
            reload(folder)


def name_of(service: dict[str, Any]) -> str:
    """Return the name of the RayService that a Service belongs to."""
    return str(service["metadata"]["labels"]["ray.io/originated-from-cr-name"])


def write(folder: Path, service: dict[str, Any]) -> None:
    """Write one route, in place."""
    name, spec = name_of(service), service["spec"]
    text = LOCATION.format(name=name, ip=spec["clusterIP"], port=spec["ports"][0]["port"])
    (folder / f"ray-{name}.conf").write_text(text)


def follow_rayservices(api: client.ApiClient, folder: Path) -> None:
    """Take the route of a deleted RayService away."""
    objects = client.CustomObjectsApi(api)
    for event in watch.Watch().stream(
        objects.list_cluster_custom_object, "ray.io", "v1", "rayservices", label_selector="app=prediction"
    ):
        if event["type"] == "DELETED":
            with lock:
                (folder / f"ray-{event['raw_object']['metadata']['name']}.conf").unlink(missing_ok=True)
                reload(folder)


def reload(folder: Path) -> None:
    """Test and reload; count it."""
    conf = str(folder / "nginx.conf")
    if subprocess.run(["nginx", "-t", "-q", "-c", conf], check=False).returncode == 0:
        subprocess.run(["nginx", "-s", "reload", "-c", conf], check=False)
        with (folder / "reloads").open("a") as counter:
            counter.write("1\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
