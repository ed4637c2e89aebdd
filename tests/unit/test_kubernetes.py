"""The Kubernetes manifests: checked without any cluster."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orderrelay_producers import outbox_store
from orderrelay_shared.settings import describe
from orderrelay_workers.settings import WorkerSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"

#: The version whose schema the manifests are checked by.
VERSION = "1.33"

#: What KEDA's ScaledObject and its trigger "prometheus" know (keda.sh/docs, 2.17); their schema is in no package.
OF_SCALED_OBJECT = {
    *("scaleTargetRef", "pollingInterval", "initialCooldownPeriod", "cooldownPeriod", "idleReplicaCount"),
    *("minReplicaCount", "maxReplicaCount", "advanced", "triggers", "fallback"),
}
OF_PROMETHEUS_TRIGGER = {
    *("serverAddress", "query", "threshold", "activationThreshold", "namespace", "customHeaders", "authModes"),
    *("ignoreNullValues", "queryParameters", "unsafeSsl", "timeout"),
}

#: The manifests of pods that work on the ledger, and that of an outbox's relay, which does not.
OF_THE_LEDGER = ("worker.yaml", "init-job.yaml")
RELAY = "outbox/relay.yaml"


@cache
def manifests() -> dict[str, Any]:
    """Every manifest by its path."""
    files = sorted(FOLDER.rglob("*.yaml"))
    return {str(file.relative_to(FOLDER)): YAML(typ="safe").load(file.read_text()) for file in files}


def of_kubernetes() -> list[str]:
    """Those whose kinds Kubernetes itself knows."""
    foreign = ("keda.sh/", "monitoring.coreos.com/", "kustomize.config.k8s.io/")
    return [name for name, manifest in manifests().items() if not manifest["apiVersion"].startswith(foreign)]


def validate(manifest: Any) -> None:
    """Check a manifest strictly; a misspelled word raises."""
    checker: Any = importlib.import_module("kubernetes_validate")  # untyped
    checker.validate(manifest, VERSION, strict=True)


def pods() -> dict[str, Any]:
    """The pods' own specifications by file."""
    return {name: manifests()[name]["spec"]["template"]["spec"] for name in (*OF_THE_LEDGER, RELAY)}


@pytest.mark.parametrize("name", of_kubernetes())
def test_manifests_follow_the_schema(name: str) -> None:
    """Every word is one that Kubernetes knows."""
    validate(manifests()[name])


def test_every_manifest_is_applied() -> None:
    """Each is named by the kustomization of its folder, and none is that does not exist."""
    for name, kustomization in manifests().items():
        if name.endswith("kustomization.yaml"):
            here = (FOLDER / name).parent
            others = {file.name for file in here.glob("*.yaml")} - {"kustomization.yaml"}
            assert sorted(kustomization["resources"]) == sorted(others)


def test_pods_may_do_nothing_but_their_work() -> None:
    """No root, no rights, no writing but to their own volumes, and no word with the cluster."""
    for pod in pods().values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_pods_run_as_the_user_of_the_image() -> None:
    """The number in the manifests is the one in the Dockerfile, and the state is mounted at its home."""
    dockerfile = (FOLDER.parent / "Dockerfile").read_text()
    for name, pod in pods().items():
        assert f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert ("state" in mounts) == (name in OF_THE_LEDGER)
        assert f"--home-dir {mounts.get('state', '')}" in dockerfile


def test_a_worker_is_asked_where_it_answers_and_given_time_to_end() -> None:
    """Probes, port and network policy agree, and a stop may take as long as a request from its claim to its end."""
    pod = pods()["worker.yaml"]
    [container] = pod["containers"]
    [port] = container["ports"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment == {"ORDERRELAY_HEALTH_HOST": "0.0.0.0", "ORDERRELAY_HEALTH_PORT": str(port["containerPort"])}
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "liveness": "/live",
        "readiness": "/ready",
        "startup": "/live",
    }
    assert {probe["port"] for probe in asked.values()} == {port["name"]}
    [let_in] = manifests()["network.yaml"]["spec"]["ingress"]
    assert [opened["port"] for opened in let_in["ports"]] == [port["containerPort"]]
    longest = WorkerSettings.model_fields["start_fence_seconds"].default
    longest += WorkerSettings.model_fields["request_timeout_seconds"].default
    assert pod["terminationGracePeriodSeconds"] >= longest + 15


def test_a_relay_is_asked_where_it_answers_and_given_time_to_end() -> None:
    """Probes and port agree; a stop may take as long as a statement; it has a secret of its own, and no company's."""
    pod = pods()[RELAY]
    [container] = pod["containers"]
    [port] = container["ports"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    secrets, _ = container["volumeMounts"]
    assert environment == {
        "ORDERRELAY_SECRETS_DIR": secrets["mountPath"],
        "ORDERRELAY_HEALTH_HOST": "0.0.0.0",
        "ORDERRELAY_HEALTH_PORT": str(port["containerPort"]),
    }
    for probe in ("livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"] == {"path": "/live", "port": port["name"]}
    assert "readinessProbe" not in container
    assert pod["terminationGracePeriodSeconds"] > outbox_store._STATEMENT_SECONDS
    assert pod["volumes"][0]["secret"]["secretName"] == manifests()[RELAY]["metadata"]["name"]
    assert "envFrom" not in container


def test_relays_are_no_workers() -> None:
    """Neither the workers' budget nor their monitor chooses them; the network policy and a monitor of their own do."""
    deployment = manifests()[RELAY]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"] == deployment["selector"]
    workers = manifests()["worker.yaml"]["spec"]["selector"]["matchLabels"]
    assert not workers.items() <= labels.items()
    monitor = manifests()["monitoring/podmonitor-outbox.yaml"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    rules = (FOLDER.parent / "prometheus" / "orderrelay.rules.yml").read_text()
    assert f'job="{labels[monitor["jobLabel"]]}"' in rules
    assert manifests()["network.yaml"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_all_speak_of_the_same_pods() -> None:
    """Deployment, disruption budget, monitor and scaler choose the workers; the network policy also the job."""
    labels = manifests()["worker.yaml"]["spec"]["template"]["metadata"]["labels"]
    workers = manifests()["worker.yaml"]["spec"]["selector"]["matchLabels"]
    of_job = manifests()["init-job.yaml"]["spec"]["template"]["metadata"]["labels"]
    assert workers.items() <= labels.items()
    assert not workers.items() <= of_job.items()
    assert manifests()["disruption.yaml"]["spec"]["selector"]["matchLabels"] == workers
    assert manifests()["monitoring/podmonitor.yaml"]["spec"]["selector"]["matchLabels"] == workers
    assert manifests()["monitoring/podmonitor.yaml"]["spec"]["jobLabel"] in labels
    for chosen in (labels, of_job):
        assert manifests()["network.yaml"]["spec"]["podSelector"]["matchLabels"].items() <= chosen.items()
    scaled = manifests()["scaling/scaledobject.yaml"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == manifests()["worker.yaml"]["metadata"]["name"]


def test_the_scaler_says_only_what_keda_knows() -> None:
    """Its own words by a list, and what it hands on to the autoscaler by that one's schema. It never goes to zero."""
    scaled = manifests()["scaling/scaledobject.yaml"]["spec"]
    [trigger] = scaled["triggers"]
    assert scaled.keys() <= OF_SCALED_OBJECT
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() <= OF_PROMETHEUS_TRIGGER
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert 1 < scaled["minReplicaCount"] < scaled["maxReplicaCount"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **scaled["scaleTargetRef"]},
            "minReplicas": scaled["minReplicaCount"],
            "maxReplicas": scaled["maxReplicaCount"],
            "behavior": scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    validate(autoscaler)


def test_settings_in_the_manifests_exist() -> None:
    """The config map sets what workers know, and no secret; secrets come as files."""
    known = {setting.name.replace("__<ALIAS>__", "__ACME__"): setting for setting in describe(WorkerSettings)}
    assert manifests()["outbox/kustomization.yaml"]["images"] == manifests()["kustomization.yaml"]["images"]
    [config] = manifests()["kustomization.yaml"]["configMapGenerator"]
    given = dict(line.partition("=")[::2] for line in config["literals"])
    assert given.pop("ORDERRELAY_SECRETS_DIR") == pods()["worker.yaml"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert given.keys() <= known.keys()
