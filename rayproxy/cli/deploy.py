"""The commands `rayproxy deploy` and `rayproxy undeploy`."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliToggleFlag,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rayproxy.checkpoint import capabilities, checkpoint, fields, model_files, schema, text, wait
from rayproxy.checkpoint.apply import apply, foresee
from rayproxy.checkpoint.cluster import Cluster
from rayproxy.checkpoint.connect import connect
from rayproxy.checkpoint.manifest import Manifest, build
from rayproxy.checkpoint.notes import notes
from rayproxy.checkpoint.options import Flags, Options, from_values
from rayproxy.checkpoint.progress import Story
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.stages import STAGES
from rayproxy.kube.api import ApiError


class _Command(BaseSettings):
    """Hold what both commands ask for."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
        populate_by_name=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_shortcuts={"namespace": "n", "filename": "f", "output": "o"},
    )

    namespace: fields.Namespace | None = None
    """namespace; default: the file's, else the context's"""
    kubeconfig: str | None = None
    """kubeconfig; default: KUBECONFIG, ~/.kube/config, or the pod's own login"""
    context: str | None = None
    """context of the kubeconfig; default: its current one"""
    force: CliToggleFlag[bool] = False
    """also what others than rayproxy made"""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # pydantic passes them by name
        cls, _settings: type[BaseSettings], *, init_settings: PydanticBaseSettingsSource, **_: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no variables: Kubernetes sets RAYPROXY_PORT in Pods beside a Service called rayproxy."""
        return (init_settings,)

    def cluster(self, namespace: str | None = None) -> Cluster:
        """Connect to the cluster that the flags name."""
        api, default = connect(self.kubeconfig, self.context)
        return Cluster(api, self.namespace or namespace or default)


class Deploy(_Command, Flags):  # type: ignore[misc]  # pydantic merges the two kinds of model_config
    """Deploy a fine-tuned checkpoint: make the RayService of an LLMCheckpoint."""

    checkpoint: CliPositionalArg[fields.ObjectName | None] = None
    """an LLMCheckpoint in the cluster; without one, say what is served with options"""
    filename: str | None = None
    """read the LLMCheckpoint from this file, or from standard input with '-'"""
    values: str | None = None
    """YAML file with options of the RayService; flags win"""
    kuberay: str | None = None
    """release of KubeRay, such as 1.7; default: read from the cluster's RayService"""
    model_files: Path | None = None
    """check the model's files first: the folder of make model-context, or one that holds the image's paths"""
    dry_run: CliToggleFlag[bool] = False
    """print the RayService and change nothing"""
    output: Literal["yaml", "json"] = "yaml"
    """how --dry-run prints it"""
    wait: CliToggleFlag[bool] = False
    """follow it until the first answer, or a clear failure"""
    proxy: fields.ProxyUrl | None = None
    """the proxy's address, for --wait to ask: http://HOST:PORT"""
    timeout: Annotated[float, Field(gt=0)] = 1800
    """seconds that --wait waits"""
    any_state: CliToggleFlag[bool] = False
    """even when the LLMCheckpoint is not SUCCESSFUL"""

    def main(self) -> int:
        """Make the RayService; raise RefusedError, ApiError or CredentialsError."""
        options = self._options()
        document = self._file()
        # Nothing to read from a cluster, and nothing to change in one: then none is needed.
        offline = self.dry_run and self.kuberay and not self.checkpoint
        cluster = None if offline else self.cluster(checkpoint.namespace_of(document))
        if cluster and self.checkpoint:
            # A manifest written by hand has no status; an object in a cluster without one is not finished.
            document = {"status": {}} | cluster.llm_checkpoint(self.checkpoint)
        manifest = self._manifest(document, options, cluster)
        if cluster:
            _foresee(manifest, cluster)
        if self.dry_run:
            _show(text.dump(manifest, self.output))
        elif cluster:
            self._apply(manifest, cluster)
        return 0

    def _options(self) -> Options:
        given = {name: getattr(self, name) for name in self.model_fields_set & Options.model_fields.keys()}
        if self.values is None:
            return Options(**given)
        return from_values(_read(self.values), self.values, given)

    def _file(self) -> object:
        if self.filename is None:
            return None
        if self.checkpoint:
            raise RefusedError(f"both LLMCheckpoint {self.checkpoint} and --filename {self.filename}: give one")
        document = text.load(_read(self.filename), self.filename)
        namespace = checkpoint.namespace_of(document)
        if self.namespace and namespace not in (None, self.namespace):
            raise RefusedError(f"--namespace {self.namespace}, but {self.filename} has namespace {namespace}")
        return document

    def _manifest(self, document: object, options: Options, cluster: Cluster | None) -> Manifest:
        if document is None:
            served = checkpoint.from_options(options)
        else:
            served = checkpoint.parse(document, options)
            if not self.any_state:
                checkpoint.require_finished(document)
        if self.model_files is not None:
            model_files.refuse_broken(served, options, self.model_files)
        namespace = cluster.namespace if cluster else self.namespace or served.namespace
        definition = cluster.definition() if cluster else None
        able = self._capabilities(definition)
        for note in notes(served, options, able):
            _say(f"note: {note}")
        manifest = build(replace(served, namespace=namespace), options, able)
        if definition:
            schema.require_kept(capabilities.rayservice_schema(definition), manifest)
        return manifest

    def _capabilities(self, definition: dict[str, Any] | None) -> capabilities.Capabilities:
        if self.kuberay is not None:
            return capabilities.of_release(self.kuberay)
        if definition is None:
            raise RefusedError(
                "may not read the cluster's CustomResourceDefinitions: "
                "say which release of KubeRay it has with --kuberay"
            )
        return capabilities.of_crd(definition)

    def _apply(self, manifest: Manifest, cluster: Cluster) -> None:
        name = manifest["metadata"]["name"]
        applied = apply(cluster, manifest, force=self.force)
        _say(f"RayService {name} applied in namespace {cluster.namespace}")
        if not self.wait:
            return
        goal = len(STAGES) if self.proxy else len(STAGES) - 1
        look = partial(wait.observe, cluster, name, self.proxy.rstrip("/") if self.proxy else None)
        settle = wait.SETTLE_SECONDS if applied["metadata"]["generation"] > 1 else 0.0
        wait.follow(look, _say, Story(goal, settle), timeout=self.timeout)


class Undeploy(_Command):
    """Take a served checkpoint away: delete the RayService that `rayproxy deploy` made."""

    namespace: fields.Namespace | None = None
    """namespace; default: the context's"""
    name: CliPositionalArg[fields.ObjectName]
    """name of the RayService"""

    def main(self) -> int:
        """Delete the RayService; raise RefusedError, ApiError or CredentialsError."""
        cluster = self.cluster()
        cluster.delete(self.name, force=self.force)
        _say(f"RayService {self.name} deleted in namespace {cluster.namespace}")
        return 0


def _foresee(manifest: Manifest, cluster: Cluster) -> None:
    try:
        said = foresee(cluster, manifest)
    except ApiError as error:  # whoever may only read can still see the manifest; an apply says it as its own error
        said = f"whether KubeRay starts a second cluster for this is not known: {error}"
    if said:
        _say(f"note: {said}")


def _read(path: str) -> str:
    if path == "-" and sys.stdin is None:
        raise RefusedError("cannot read -: standard input is closed")
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"cannot read {path}: {error}") from error


def _show(manifest: str) -> None:
    if sys.stdout is None:
        raise RefusedError("standard output is closed: nobody can read the RayService")
    sys.stdout.write(manifest)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
