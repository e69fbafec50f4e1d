#!/usr/bin/env python3
"""The manifests in deploy/kubernetes: against the schemas that Kubernetes and Knative publish (npm packages, tests/npm/kubernetes),
built by kustomize, their numbers against each other, and their arguments and probes on a running worker.
"""
# Runs beside others: nothing here measures time.
import copy
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import npm_package
from harness import ROOT, TINY, Skip, Suite, Worker, body_of, check, equal, free_port, has, run_program, sanitized

suite = Suite()
FOLDER = os.path.join(ROOT, "deploy", "kubernetes")
DRAIN = 5  # seconds that a worker may take to end (contract 4)
KEY = "a-key-of-some-length"


def load(text):
    try:
        import yaml  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise Skip("python3-yaml is not installed") from error
    return list(yaml.safe_load_all(text))


def read(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return load(file.read())[0]


def manifests():
    """{path: manifest}, without what only kustomize reads."""
    names = sorted(os.path.relpath(p, FOLDER) for p in glob.glob(FOLDER + "/**/*.yaml", recursive=True))
    return {name: read(name) for name in names if not name.endswith(("kustomization.yaml", "-patch.yaml"))}


def build(overlay):
    """What kubectl apply -k would send."""
    if sanitized():
        raise Skip("checked without sanitizers")
    if not shutil.which("kubectl"):
        raise Skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", os.path.join(FOLDER, overlay)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    if done.returncode != 0 and b"unknown field" in done.stderr:
        raise Skip("kubectl's kustomize is older than version 4")
    equal((done.returncode, done.stderr.decode()), (0, ""))
    return {m["kind"]: m for m in load(done.stdout)}


def problems(documents):
    done = subprocess.run(["node", npm_package.source("kubernetes", "validate.js"), npm_package.installed("kubernetes")], input=json.dumps(documents).encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    equal((done.returncode, done.stderr.decode()), (0, ""))
    return json.loads(done.stdout)


@suite.test
def every_manifest_is_what_the_published_schemas_demand():
    found = manifests()
    equal(sorted(m["kind"] for m in found.values()),
          ["Deployment", "HorizontalPodAutoscaler", "Job", "PersistentVolumeClaim", "PodDisruptionBudget", "Service", "Service"])
    equal(dict(zip(found, problems(list(found.values())))), {name: [] for name in found})


def with_change(manifest, path, value):
    changed = copy.deepcopy(manifest)
    at = changed
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return changed


@suite.test
def the_validator_finds_wrong_types_unknown_and_missing_fields():
    deployment, knative = read("base/deployment.yaml"), read("knative/service.yaml")
    worker = ("spec", "template", "spec", "containers", 0)
    changes = [
        (deployment, (*worker, "livenessProbe", "periodSecond"), 1, "/livenessProbe/periodSecond: unknown field"),
        (deployment, (*worker, "lifecycle", "preStop", "exec", "command"), "sleep 10", "/lifecycle/preStop/exec/command: "),
        (deployment, ("spec", "selector"), None, "/spec/selector: "),
        (deployment, ("spec", "replicas"), "2", "/spec/replicas: "),
        (knative, ("spec", "template", "spec", "containerConcurrency"), "1", "/spec/template/spec/containerConcurrency: "),
        (knative, ("spec", "template", "spec", "concurrency"), 1, "/spec/template/spec/concurrency: unknown field"),
    ]
    for found, change in zip(problems([with_change(*c[:3]) for c in changes]), changes):
        check(any(change[3] in line for line in found), "%s: %s" % (change[1:], found))


@suite.test
def kustomize_builds_both_variants():
    base, volume = build("base"), build("volume")
    equal(sorted(base), ["Deployment", "PodDisruptionBudget", "Service"])
    equal(sorted(volume), ["Deployment", "Job", "PersistentVolumeClaim", "PodDisruptionBudget", "Service"])
    for built in (base, volume):
        for manifest in built.values():
            for container in containers(manifest):
                equal(container["image"], "registry.example.com/llorch-cpud:0.1.0")
    pod = pod_of(volume["Deployment"])
    check(not pod.get("initContainers"), pod)
    claim = volume["PersistentVolumeClaim"]["metadata"]["name"]
    models = [v for v in pod["volumes"] if v["name"] == "models"]
    equal(models, [{"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}])
    packed = pod_of(volume["Job"])["containers"][0]["args"][-1]
    has([e for e in pod["containers"][0]["env"] if e["name"] == "MODEL_PATH"], {"name": "MODEL_PATH", "value": packed})
    equal([p for p in problems(list(base.values()) + list(volume.values())) if p], [])


def pod_of(manifest):
    return manifest.get("spec", {}).get("template", {}).get("spec", {})


def containers(manifest):
    pod = pod_of(manifest)
    return pod.get("containers", []) + pod.get("initContainers", [])


@suite.test
def every_pod_is_locked_down():
    n = 0
    for name, manifest in manifests().items():
        pod = pod_of(manifest)
        for container in containers(manifest):
            n += 1
            context = dict(pod.get("securityContext", {}), **container["securityContext"])
            equal((context["runAsNonRoot"], context["seccompProfile"], context["allowPrivilegeEscalation"],
                   context["readOnlyRootFilesystem"], context["capabilities"]),
                  (True, {"type": "RuntimeDefault"}, False, True, {"drop": ["ALL"]}), name)
            check(context["runAsUser"] > 0, name)
            equal(pod["automountServiceAccountToken"], False, name)
            equal(container["resources"]["requests"], container["resources"]["limits"], name)
            equal(container["resources"]["limits"]["cpu"], "1", name)
            volumes = {v["name"] for v in pod["volumes"]}
            check({m["name"] for m in container["volumeMounts"]} <= volumes, name)
    equal(n, 5)


@suite.test
def numbers_and_names_agree():
    found = manifests()
    deployment = found["base/deployment.yaml"]
    pod, labels = pod_of(deployment), deployment["spec"]["template"]["metadata"]["labels"]
    worker = pod["containers"][0]
    sleep = worker["lifecycle"]["preStop"]["exec"]["command"]
    equal(sleep[0], "sleep")
    check(pod["terminationGracePeriodSeconds"] > int(sleep[1]) + DRAIN, "the grace period is too short")
    # By then the readiness probe has noticed, too.
    ready = worker["readinessProbe"]
    check(int(sleep[1]) >= ready["periodSeconds"] * ready["failureThreshold"], "preStop is too short")
    port = worker["ports"][0]
    equal(worker["args"][worker["args"].index("--port") + 1], str(port["containerPort"]))
    equal(found["base/service.yaml"]["spec"]["ports"][0]["targetPort"], port["name"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        equal(worker[probe]["httpGet"]["port"], port["name"])
    for manifest in (deployment, found["base/disruption.yaml"]):
        equal(manifest["spec"]["selector"]["matchLabels"], labels)
    equal(found["base/service.yaml"]["spec"]["selector"], labels)
    check(found["volume/job.yaml"]["spec"]["template"]["metadata"]["labels"] != labels, "the Service would find the job")
    scaled = found["autoscaling.yaml"]["spec"]
    equal((scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"]), ("Deployment", deployment["metadata"]["name"]))
    check(scaled["minReplicas"] >= deployment["spec"]["replicas"], "the autoscaler would take workers away")
    knative = pod_of(found["knative/service.yaml"])
    args = knative["containers"][0]["args"]
    equal(knative["containerConcurrency"], 1)
    check(int(args[args.index("--inference-timeout-sec") + 1]) + DRAIN < knative["timeoutSeconds"], "no time for an error")
    for name in ("base/deployment.yaml", "knative/service.yaml"):
        pod = pod_of(found[name])
        secret = [v["secret"] for v in pod["volumes"] if "secret" in v][0]
        container = pod["containers"][0]
        mount = [m for m in container["volumeMounts"] if m["name"] == "keys"][0]
        file = container["args"][container["args"].index("--api-key-file") + 1]
        equal((secret["secretName"], os.path.dirname(file)), ("llorch-cpud-keys", mount["mountPath"]))


@suite.case("the Deployment's arguments and probes suit a worker", "base/deployment.yaml", "--port")
@suite.case("Knative's arguments and probes suit a worker", "knative/service.yaml", "PORT")
def a_worker_with_these_arguments(name, port_by):
    """The real program with the container's arguments, but for the files and the port."""
    container = pod_of(read(name))["containers"][0]
    args, port = list(container["args"]), str(free_port())
    env = {e["name"]: e.get("value", "pod-1") for e in container["env"]}
    env["MODEL_PATH"] = TINY
    equal("--port" in args, port_by == "--port")
    if port_by == "PORT":
        env["PORT"] = port
    else:
        args[args.index("--port") + 1] = port
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write(KEY + "\n")
        keys.flush()
        args[args.index("--api-key-file") + 1] = keys.name
        with Worker(*args, model=None, env=env) as w:
            equal(w.port, int(port))
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    equal(w.request("GET", container[probe]["httpGet"]["path"])[0], 200)
            if "WORKER_ID" in env:
                equal(w.get("/health")[1]["worker_id"], "pod-1")
            equal(w.request("POST", "/execute", body_of())[0], 401)
            check(not any("public address" in line for line in w.log_messages()), w.raw_log)


@suite.test
def every_container_runs_a_command_that_there_is():
    known = run_program("--help")[1]
    for name, manifest in manifests().items():
        for container in containers(manifest):
            command = container["args"][0]
            if not command.startswith("-"):  # flags alone mean serve
                has(known, "\n  %s " % command)
                check(command in ("pull", "pack"), "%s: %s" % (name, command))


@suite.test
def the_version_is_this_one():
    with open(os.path.join(ROOT, "VERSION"), encoding="ascii") as file:
        version = file.read().strip()
    texts = [open(p, encoding="utf-8").read() for p in glob.glob(FOLDER + "/**/*.yaml", recursive=True)]
    named = re.findall(r'newTag: "([^"]+)"|llorch-cpud[\w-]*:([0-9][\w.]*)', "\n".join(texts))
    equal({a or b for a, b in named}, {version})


sys.exit(suite.run())
