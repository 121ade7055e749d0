"""How each server is built, as plain data: the files to write and the commands to run.

Nothing is looked up while building, so the text of a recipe decides what comes out of it; its
hash is part of the cache folder's name and a changed recipe is a new folder. Sources come only
through the ordinary Go and Maven clients, by package name, with whatever configuration they have
on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

# Modules that k8s.io/kubernetes requires at v0.0.0 and replaces by folders of its own
# repository. A replacement counts in the main module alone, so the wrapper names the published
# modules of the same release.
_KUBERNETES_STAGING = """
    api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider
    cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api
    cri-client cri-streaming csi-translation-lib dynamic-resource-allocation endpointslice
    externaljwt kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler kubectl
    kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin
    sample-controller streaming
"""

_GO_BUILD = ("go", "build", "-mod=mod", "-trimpath", "-p", "2")


@dataclass(frozen=True)
class Part:
    """One server: its files are written to a source folder, its commands run in that folder.

    The commands leave what is kept in `../product`.
    """

    name: str
    version: str
    needs: tuple[str, ...]
    files: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]

    @property
    def folder_name(self) -> str:
        recipe = json.dumps(asdict(self), sort_keys=True)
        return f"{self.name}-{self.version}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class ClonedPart(Part):
    """One that not every registry has: it is built from a clone of its repository, which `variable` names.

    Its commands take one commit out of the clone, whose hash stands in them: any clone gives the same.
    """

    repository: str
    variable: str


def _etcd(version: str) -> Part:
    """etcd publishes its server as a library: a main of a few lines makes it a program."""
    main = """\
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""
    module = f"module testbed/etcd\n\ngo 1.26\n\nrequire go.etcd.io/etcd/server/v3 v{version}\n"
    return Part(
        name="etcd",
        version=version,
        needs=("go",),
        files={"go.mod": module, "main.go": main},
        commands=((*_GO_BUILD, "-ldflags=-s -w", "-o", "../product/etcd", "."),),
    )


def _kubernetes(
    version: str, *, go: str, more_staging: str = "", tags: tuple[str, ...] = (), more_versions: str = ""
) -> Part:
    """The commands of k8s.io/kubernetes, built from a wrapper module that only requires it.

    `go` is the version of Go whose defaults the release was made for, or the oldest that there still are.
    """
    staging_version = version.replace("1.", "v0.", 1)
    module = [
        "module testbed/kubernetes",
        "go 1.26.0",
        f"godebug default=go{go}",
        f"require k8s.io/kubernetes v{version}",
        *(
            f"replace k8s.io/{name} => k8s.io/{name} {staging_version}"
            for name in (_KUBERNETES_STAGING + more_staging).split()
        ),
    ]
    commands = ("kube-apiserver", "kube-controller-manager")
    # Without the version in the binary the API server reports v0.0.0 and refuses to start.
    flags = "-ldflags=-s -w"
    for package in ("component-base/version", *more_versions.split()):
        flags += f" -X k8s.io/{package}.gitVersion=v{version}"
    packages = [f"k8s.io/kubernetes/cmd/{command}" for command in commands]
    return Part(
        name="kubernetes",
        version=version,
        needs=("go",),
        files={"go.mod": "\n".join(module) + "\n"},
        commands=((*_GO_BUILD, *tags, flags, "-o", "../product/", *packages),),
    )


def _kafka(version: str) -> Part:
    """The jars of the broker and of the tool that formats its storage."""
    dependencies = {
        "org.apache.kafka:kafka_2.13": version,
        "org.apache.kafka:kafka-tools": version,
        "org.slf4j:slf4j-simple": "1.7.36",
    }
    listed = ""
    for name, pinned in dependencies.items():
        group, artifact = name.split(":")
        coordinates = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        listed += f"    <dependency>{coordinates}<version>{pinned}</version></dependency>\n"
    pom = (
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n"
        "  <groupId>testbed</groupId><artifactId>kafka</artifactId><version>1</version>\n"
        f"  <dependencies>\n{listed}  </dependencies>\n</project>\n"
    )
    copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    return Part(
        name="kafka",
        version=version,
        needs=("java", "mvn"),
        files={"pom.xml": pom},
        commands=(("mvn", "--batch-mode", copy, "-DoutputDirectory=../product"),),
    )


def _versitygw(version: str) -> Part:
    """The S3 gateway's command, built from a wrapper module that only requires it."""
    package = "github.com/versity/versitygw"
    module = f"module testbed/versitygw\n\ngo 1.26\n\nrequire {package} v{version}\n"
    return Part(
        name="versitygw",
        version=version,
        needs=("go",),
        files={"go.mod": module},
        commands=((*_GO_BUILD, "-ldflags=-s -w", "-o", "../product/versitygw", f"{package}/cmd/versitygw"),),
    )


def _collector(version: str) -> Part:
    """The Collector with what the tests use, and what does kexport's work there as a peer to compare with.

    Its builder writes the sources; they are compiled here, with the flags of the other servers.
    """
    core = "go.opentelemetry.io/collector"
    contrib = "github.com/open-telemetry/opentelemetry-collector-contrib"
    components = {
        "receivers": (f"{core}/receiver/otlpreceiver", f"{contrib}/receiver/k8sobjectsreceiver"),
        "exporters": (f"{contrib}/exporter/fileexporter", f"{contrib}/exporter/kafkaexporter"),
    }
    manifest = "dist:\n  module: testbed/collector\n  name: collector\n  output_path: ./generated\n"
    for kind, modules in components.items():
        manifest += f"{kind}:\n" + "".join(f"  - gomod: {module} v{version}\n" for module in modules)
    builder = f"{core}/cmd/builder@v{version}"
    flags = (*_GO_BUILD[2:], "-ldflags=-s -w", "-o", "../../product/collector")
    return Part(
        name="collector",
        version=version,
        needs=("go",),
        files={"manifest.yaml": manifest},
        commands=(
            ("go", "run", "-p", "2", builder, "--config=manifest.yaml", "--skip-compilation"),
            ("go", "build", "-C", "generated", *flags, "."),
        ),
    )


def _helm(version: str) -> Part:
    """The command that installs the chart, built from a wrapper module that only requires it."""
    package = "helm.sh/helm/v4"
    module = f"module testbed/helm\n\ngo 1.26\n\nrequire {package} v{version}\n"
    return Part(
        name="helm",
        version=version,
        needs=("go",),
        files={"go.mod": module},
        commands=((*_GO_BUILD, "-ldflags=-s -w", "-o", "../product/helm", f"{package}/cmd/helm"),),
    )


def _promtool(version: str) -> Part:
    """Prometheus' tool that tests alert rules, built from a wrapper module that only requires it."""
    package = "github.com/prometheus/prometheus"
    module = f"module testbed/promtool\n\ngo 1.26\n\nrequire {package} v{version}\n"
    return Part(
        name="promtool",
        version=version,
        needs=("go",),
        files={"go.mod": module},
        commands=((*_GO_BUILD, "-ldflags=-s -w", "-o", "../product/promtool", f"{package}/cmd/promtool"),),
    )


def _monitoring(version: str) -> Part:
    """The Prometheus operator's definitions, out of its module; nothing of it is compiled."""
    package = "github.com/prometheus-operator/prometheus-operator"
    module = f"module testbed/monitoring\n\ngo 1.26\n\nrequire {package} v{version}\n"
    folder = f'"$(go list -mod=mod -m -f "{{{{.Dir}}}}" {package})/example/prometheus-operator-crd"'
    return Part(
        name="monitoring",
        version=version,
        needs=("go",),
        files={"go.mod": module},
        commands=(("go", "mod", "download", package), ("sh", "-c", f"cp {folder}/*.yaml ../product/")),
    )


def _event_exporter(version: str, commit: str) -> ClonedPart:
    """The exporter of Events that the benchmark compares with."""
    variable = "KEXPORT_EVENT_EXPORTER_CLONE"
    archive = f'git -C "${variable}" archive --output="$PWD/source.tar" {commit}'
    return ClonedPart(
        name="event-exporter",
        version=version,
        needs=("git", "go"),
        files={},
        commands=(
            ("sh", "-c", archive),
            ("tar", "-xf", "source.tar"),
            (*_GO_BUILD, "-ldflags=-s -w", "-o", "../product/event-exporter", "."),
        ),
        repository="resmoio/kubernetes-event-exporter",
        variable=variable,
    )


ETCD = _etcd("3.6.5")
KUBERNETES = _kubernetes("1.37.2", go="1.26")
# The oldest that kexport and its chart (kubeVersion) are for. Nobody's cloud is in it: that saves minutes.
KUBERNETES_OLDEST = _kubernetes(
    "1.27.16",
    go="1.21",
    more_staging="legacy-cloud-providers",
    tags=("-tags=providerless",),
    more_versions="client-go/pkg/version",
)
KAFKA = _kafka("4.1.0")
VERSITYGW = _versitygw("1.8.0")
COLLECTOR = _collector("0.145.0")
HELM = _helm("4.3.1")
PROMTOOL = _promtool("0.316.0")
MONITORING = _monitoring("0.85.0")
EVENT_EXPORTER = _event_exporter("1.7", commit="2668c4309da33fd47ee0846923b8aa2107b87f88")
PARTS = (ETCD, KAFKA, KUBERNETES, VERSITYGW, COLLECTOR, HELM, PROMTOOL, KUBERNETES_OLDEST, MONITORING)
BENCH_PARTS: tuple[Part, ...] = (EVENT_EXPORTER,)
"""What only the benchmark needs: no test waits for it."""
