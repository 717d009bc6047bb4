"""Holds built overlays to the schema of Kubernetes, and what belongs together to each other: python check.py ROOT FILE...

Each check is also shown a broken copy that it must refuse, so that none of them passes whatever it is given.
"""

import copy
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

WORKLOADS = ("StatefulSet", "Deployment", "Job")
# The oldest and the newest release that an overlay is held to.
RELEASES = ("1.29", "1.37")


class Overlay:
    def __init__(self, objects, root):
        self.objects = objects
        self.root = root

    def of(self, *kinds):
        return [o for o in self.objects if o["kind"] in kinds]

    def named(self, kind, name):
        return [o for o in self.of(kind) if o["metadata"]["name"] == name]

    def workload(self, name):
        return next(o for o in self.of(*WORKLOADS) if o["metadata"]["name"] == name)

    def pods(self):
        """Every workload with its pod's labels, spec and container."""
        for o in self.of(*WORKLOADS):
            template = o["spec"]["template"]
            yield o, template["metadata"]["labels"], template["spec"], template["spec"]["containers"][0]


def name_of(o):
    return f"{o['kind']} {o['metadata']['name']}"


def selects(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", "another operator: teach this check"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def schema(overlay):
    for o in overlay.objects:
        for release in RELEASES:
            try:
                kubernetes_validate.validate(o, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name_of(o)}: {error.message} at {list(error.path)} in {release}"


def selectors(overlay):
    """Whoever selects pods selects some, and a workload selects its own."""
    labels = [labels for _, labels, _, _ in overlay.pods()]
    wanted = [(o, {"matchLabels": o["spec"]["selector"]}) for o in overlay.of("Service")]
    wanted += [(o, o["spec"]["selector"]) for o in overlay.of("PodDisruptionBudget")]
    wanted += [(o, o["spec"]["podSelector"]) for o in overlay.of("NetworkPolicy")]
    for o, selector in wanted:
        if not any(selects(selector, of) for of in labels):
            yield f"{name_of(o)} selects no pod"
    for o, of, spec, _ in overlay.pods():
        if o["kind"] != "Job" and not selects(o["spec"]["selector"], of):
            yield f"{name_of(o)} does not select its own pods"
        for spread in spec.get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], of):
                yield f"{name_of(o)} spreads pods that are not its own"


def references(overlay):
    """What is referred to is there. The secret is not in the folder: README.md says how it is made, with which keys."""
    readme = (overlay.root / "k8s/README.md").read_text()
    made = {}
    for command in re.findall(r"kubectl create secret generic .*?(?<!\\)\n", readme, re.S):
        name = command.split()[4]
        made[name] = set(re.findall(r"--from-(?:literal|file)=([\w.-]+)=", command))
    for o, _, spec, container in overlay.pods():
        for source in container.get("envFrom", []):
            name = source["configMapRef"]["name"]
            if not overlay.named("ConfigMap", name):
                yield f"{name_of(o)}: no ConfigMap {name}"
        wanted = [e["valueFrom"]["secretKeyRef"] for e in container.get("env", []) if "valueFrom" in e]
        wanted = [(w["name"], w["key"]) for w in wanted]
        for volume in spec.get("volumes", []):
            if secret := volume.get("secret"):
                wanted += [(secret["secretName"], item["key"]) for item in secret["items"]]
        for name, key in wanted:
            if key not in made.get(name, ()):
                yield f"{name_of(o)}: README.md makes no secret {name} with {key}"
        if not overlay.named("ServiceAccount", spec["serviceAccountName"]):
            yield f"{name_of(o)}: no ServiceAccount {spec['serviceAccountName']}"
        volumes = {v["name"] for v in spec.get("volumes", [])}
        volumes |= {c["metadata"]["name"] for c in o["spec"].get("volumeClaimTemplates", [])}
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                yield f"{name_of(o)}: no volume {mount['name']}"
        if o["kind"] == "StatefulSet":
            for service in overlay.named("Service", o["spec"]["serviceName"]) or [None]:
                if service is None or service["spec"].get("clusterIP") != "None":
                    yield f"{name_of(o)}: no headless Service {o['spec']['serviceName']}"
    for o in overlay.of("HorizontalPodAutoscaler"):
        target = o["spec"]["scaleTargetRef"]
        if not overlay.named(target["kind"], target["name"]):
            yield f"{name_of(o)} scales nothing"
        for scaled in overlay.named(target["kind"], target["name"]):
            if "replicas" in scaled["spec"]:
                yield f"{name_of(o)} and {name_of(scaled)} both say how many"


def ports(overlay):
    """Names of ports lead to ports that the configuration makes the server listen on."""
    named = {}
    for o, labels, _, container in overlay.pods():
        named[name_of(o)] = (labels, {p["name"]: p["containerPort"] for p in container.get("ports", [])})
        if o["kind"] == "Job":
            continue
        config = overlay.named("ConfigMap", container["envFrom"][0]["configMapRef"]["name"])[0]["data"]
        listens = {"http": config["CIMA_LISTEN"], "admin": config["CIMA_ADMIN_LISTEN"]}
        for port, address in listens.items():
            if not address.endswith(f":{named[name_of(o)][1].get(port)}"):
                yield f"{name_of(o)}: {port} is not where the server listens, {address}"
        scraped = o["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]
        if int(scraped) != named[name_of(o)][1].get("admin"):
            yield f"{name_of(o)}: metrics are asked for at {scraped}"
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container[kind]["httpGet"]["port"] not in named[name_of(o)][1]:
                yield f"{name_of(o)}: the {kind} asks a port that is not there"
    for service in overlay.of("Service"):
        for labels, of in named.values():
            if selects({"matchLabels": service["spec"]["selector"]}, labels):
                for port in service["spec"]["ports"]:
                    if port["targetPort"] not in of:
                        yield f"{name_of(service)}: no port {port['targetPort']}"
    for ingress in overlay.of("Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            to = path["backend"]["service"]
            services = overlay.named("Service", to["name"])
            if not services or to["port"]["name"] not in [p["name"] for p in services[0]["spec"]["ports"]]:
                yield f"{name_of(ingress)}: {path['path']} leads nowhere"
    for policy in overlay.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                if not any(port["port"] in of for _, of in named.values()):
                    yield f"{name_of(policy)} opens a port that no pod has"


def routes(overlay):
    """Probes and the Ingress name paths that the server serves."""
    source = "".join(p.read_text() for p in (overlay.root / "src").rglob("*.rs"))
    served = set(re.findall(r'(?:path = |route\(|\.route\(|get, path = |post, path = )"(/[^"]*)"', source))
    for o, _, _, container in overlay.pods():
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container and container[kind]["httpGet"]["path"] not in served:
                yield f"{name_of(o)}: the server has no {container[kind]['httpGet']['path']}"
    for ingress in overlay.of("Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            if path["pathType"] == "Exact" and path["path"] not in served:
                yield f"{name_of(ingress)}: the server has no {path['path']}"


def settings(overlay):
    """Variables are settings of the server."""
    source = "".join(p.read_text() for p in (overlay.root / "src").rglob("*.rs"))
    known = set(re.findall(r'env = "(CIMA_\w+)"', source))
    for config in overlay.of("ConfigMap"):
        for unknown in set(config["data"]) - known:
            yield f"{name_of(config)}: {unknown} is no setting"
    for o, _, _, container in overlay.pods():
        for unknown in {e["name"] for e in container.get("env", [])} - known:
            yield f"{name_of(o)}: {unknown} is no setting"


def drain(overlay):
    """A pod has the time to leave in order: preStop, and at most three waits of the drain."""
    for o, _, spec, container in overlay.pods():
        if o["kind"] == "Job":
            continue
        config = overlay.named("ConfigMap", container["envFrom"][0]["configMapRef"]["name"])[0]["data"]
        before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        needed = before + 3 * (int(config["CIMA_DRAIN_S"]) + 1)
        if spec["terminationGracePeriodSeconds"] < needed:
            yield f"{name_of(o)} is killed after {spec['terminationGracePeriodSeconds']} s and may need {needed} s"


def hardened(overlay):
    for o, _, spec, container in overlay.pods():
        pod, own = spec["securityContext"], container["securityContext"]
        says = {
            "runs as root": pod.get("runAsNonRoot") is not True or pod.get("runAsUser") == 0,
            "has no seccomp profile": pod.get("seccompProfile") != {"type": "RuntimeDefault"},
            "may gain privileges": own.get("allowPrivilegeEscalation") is not False,
            "writes to its image": own.get("readOnlyRootFilesystem") is not True,
            "has capabilities": own.get("capabilities") != {"drop": ["ALL"]},
            "has a token of the cluster": spec.get("automountServiceAccountToken") is not False,
            "has no requests or no limit of memory": not container["resources"].get("requests")
            or "memory" not in container["resources"].get("limits", {}),
            "has an image without a version": not re.search(r":(?!latest$)[\w.-]+$", container["image"]),
            "has a password in clear": any(
                re.search(r"URL|KEY$|PASSWORD$|TOKEN|SECRET", e["name"]) and "value" in e
                for e in container.get("env", [])
            ),
        }
        yield from (f"{name_of(o)} {what}" for what, is_so in says.items() if is_so)
    if overlay.of("Secret"):
        yield "a secret is in the folder"
    denies = [p for p in overlay.of("NetworkPolicy") if p["spec"]["podSelector"] == {}]
    if not any(set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} and "ingress" not in p["spec"] for p in denies):
        yield "what is not allowed is not denied"
    budgets = {o["spec"]["selector"]["matchLabels"].get("app.kubernetes.io/component") for o in overlay.of("PodDisruptionBudget")}
    for role in {"api", "tracking", "alerts", "push"} - budgets:
        yield f"{role} has no PodDisruptionBudget"


def roles(overlay):
    """One workload a role; who accepts fixes or emergencies keeps them on a volume."""
    for role, kind in {"api": "StatefulSet", "tracking": "StatefulSet", "alerts": "Deployment", "push": "Deployment"}.items():
        found = overlay.named(kind, f"cima-{role}")
        if not found:
            yield f"no {kind} for {role}"
            continue
        if found[0]["spec"]["template"]["spec"]["containers"][0]["args"] != ["serve", "--role", role]:
            yield f"{name_of(found[0])} does not serve {role}"
        if kind == "StatefulSet" and not found[0]["spec"].get("volumeClaimTemplates"):
            yield f"{name_of(found[0])} keeps nothing"


CHECKS = (schema, selectors, references, ports, routes, settings, drain, hardened, roles)


def container(overlay, name="cima-api"):
    return overlay.workload(name)["spec"]["template"]["spec"]["containers"][0]


def pod(overlay, name="cima-api"):
    return overlay.workload(name)["spec"]["template"]["spec"]


def policy(overlay):
    return overlay.named("NetworkPolicy", "cima-deny")[0]["spec"]


def first(overlay, kind):
    return overlay.of(kind)[0]


# A broken copy for each thing that a check is to find.
BROKEN = {
    "a misspelt field": (schema, lambda o: pod(o).update(terminationGracePeriod=5)),
    "a wrong type": (schema, lambda o: pod(o).update(terminationGracePeriodSeconds="long")),
    "a service without pods": (selectors, lambda o: first(o, "Service")["spec"]["selector"].update(x="y")),
    "a budget without pods": (selectors, lambda o: first(o, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].update(x="y")),
    "a workload of others": (selectors, lambda o: o.workload("cima-push")["spec"]["template"]["metadata"]["labels"].update({"app.kubernetes.io/component": "pull"})),
    "a lost ConfigMap": (references, lambda o: container(o)["envFrom"][0]["configMapRef"].update(name="x")),
    "a lost secret": (references, lambda o: pod(o)["volumes"][0]["secret"].update(secretName="x")),
    "a lost key": (references, lambda o: container(o)["env"][0]["valueFrom"]["secretKeyRef"].update(key="x")),
    "a lost volume": (references, lambda o: container(o)["volumeMounts"][0].update(name="x")),
    "a lost service": (references, lambda o: o.workload("cima-api")["spec"].update(serviceName="x")),
    "another port": (ports, lambda o: container(o)["ports"][0].update(containerPort=8081)),
    "a port without a name": (ports, lambda o: first(o, "Service")["spec"]["ports"][0].update(targetPort="web")),
    "an Ingress to nowhere": (ports, lambda o: first(o, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="x")),
    "a probe of nothing": (routes, lambda o: container(o)["readinessProbe"]["httpGet"].update(path="/healthz")),
    "a path of nothing": (routes, lambda o: first(o, "Ingress")["spec"]["rules"][0]["http"]["paths"][0].update(path="/v2/stream")),
    "a setting of nothing": (settings, lambda o: first(o, "ConfigMap")["data"].update(CIMA_DRAIN="1")),
    "a hurried end": (drain, lambda o: pod(o).update(terminationGracePeriodSeconds=30)),
    "root": (hardened, lambda o: pod(o)["securityContext"].update(runAsNonRoot=False)),
    "the latest": (hardened, lambda o: container(o).update(image="registry.example.org/cima:latest")),
    "no version": (hardened, lambda o: container(o).update(image="registry.example.org/cima")),
    "a password": (hardened, lambda o: container(o)["env"].append({"name": "CIMA_REDIS_URL", "value": "redis://x"})),
    "an open door": (hardened, lambda o: policy(o).update(policyTypes=["Ingress"])),
    "no volume": (roles, lambda o: o.workload("cima-tracking")["spec"].pop("volumeClaimTemplates")),
    "another role": (roles, lambda o: container(o).update(args=["serve"])),
}


def main():
    root, files = Path(sys.argv[1]), sys.argv[2:]
    faults = []
    for file in files:
        objects = [o for o in yaml.safe_load_all(Path(file).read_text()) if o]
        overlay = Overlay(objects, root)
        found = [f"{check.__name__}: {fault}" for check in CHECKS for fault in check(overlay)]
        faults += [f"{Path(file).stem}: {fault}" for fault in found]
        for what, (check, breaks) in BROKEN.items():
            broken = Overlay(copy.deepcopy(objects), root)
            breaks(broken)
            if not list(check(broken)):
                faults.append(f"{Path(file).stem}: {check.__name__} does not find {what}")
        print(f"k8s: {Path(file).stem}: {len(objects)} objects, {len(CHECKS)} checks, {len(BROKEN)} broken copies")
    for fault in faults:
        print(f"k8s: {fault}", file=sys.stderr)
    sys.exit(bool(faults))


main()
