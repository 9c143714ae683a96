"""What a pod of Kubernetes knows of itself: by its environment, and by the files of its service account."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """What a pod has to ask with, and where."""

    host: str
    port: int
    folder: Path
    node: str = ""
    """the cluster's name for the machine"""

    @classmethod
    def of_pod(cls, env: Mapping[str, str], folder: Path) -> Account | None:
        """None outside of pods, and in a pod without a token."""
        host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT") or "443"
        if not host or not port.isdecimal() or not (folder / "token").is_file():
            return None
        return cls(host, int(port), folder, env.get("NODE_NAME", ""))

    @property
    def namespace(self) -> str:
        """of the pod; '' when it is not said."""
        with suppress(OSError, UnicodeDecodeError):
            return (self.folder / "namespace").read_text("utf-8").strip()
        return ""
