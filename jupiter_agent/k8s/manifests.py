"""What is to be on a cluster: the manifests of `daemonset/`, rendered for one namespace, image and token.

`objects("restricted", token=...)` are dicts in the order in which they must be made: the namespace, the account and its
rights, settings, Secret, Services, and last the DaemonSet. All bear the label `MANAGED`; what is of the whole cluster
is named after the namespace, so that two deployments never share an object.
"""

from __future__ import annotations

from pathlib import Path

from jupiter_agent.k8s import kustomize
from jupiter_agent.k8s.kustomize import Object

OVERLAYS = ("restricted", "edge")
NAMESPACE = "jupiter"
IMAGE = "jupiter-agent"
"""The image's name in the manifests; `IMAGE:<version>` is what runs unless another one is named"""

MANAGED = {"app.kubernetes.io/managed-by": "jupiter"}
SELECTOR = {"app.kubernetes.io/name": "jupiter-agent"}
"""of the agents' pods"""
DAEMONSET, ACCOUNT, TOKEN_SECRET, TOKEN_KEY = "jupiter-agent", "jupiter-agent", "jupiter-token", "token"
PEERS_SERVICE, SERVICE = "jupiter-agents", "jupiter"
"""The headless Service, of all agents; the one with an address, of those that are ready"""
AGENT_PORT, JOIN_PORT, HEALTH_PORT = 7421, 7422, 7424

ORDER = (
    "Namespace", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ConfigMap", "Secret",
    "NetworkPolicy", "Service", "DaemonSet",
)  # fmt: skip
"""Each may need those before it"""


def folder() -> Path:
    """Where the manifests are: in the package when it was installed, else in the source tree."""
    packaged = Path(__file__).parent / "daemonset"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "daemonset"


def cluster_names(namespace: str) -> set[tuple[str, str]]:
    """(kind, name) of all that any overlay puts outside of the namespace, which is named after it."""
    found = [each for overlay in OVERLAYS for each in objects(overlay, token="", namespace=namespace)]
    return {(each["kind"], each["metadata"]["name"]) for each in found if each["kind"] in kustomize.CLUSTER_KINDS}


def objects(
    overlay: str = "restricted", *, token: str, namespace: str = NAMESPACE, image: str = "", pull_policy: str = ""
) -> list[Object]:
    """The objects of an overlay, in the order of `ORDER`. `token`: the text of a cluster's token, as
    `keys.founding_token` makes it for a new cluster. `image`: with its tag; empty: as the manifests say."""
    found = kustomize.render(folder() / "overlays" / overlay, {TOKEN_KEY: token.encode()})
    found.sort(key=lambda each: ORDER.index(each["kind"]))
    kustomize.set_namespace(found, namespace)
    for each in found:
        if each["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            each["metadata"]["name"] = f"{namespace}{each['metadata']['name'].removeprefix(NAMESPACE)}"
        if each["kind"] == "ClusterRoleBinding":
            each["roleRef"]["name"] = f"{namespace}{each['roleRef']['name'].removeprefix(NAMESPACE)}"
    if image:
        kustomize.set_image(found, IMAGE, image)
    if pull_policy:
        for container in kustomize.containers(found):
            container["imagePullPolicy"] = pull_policy
    return found
