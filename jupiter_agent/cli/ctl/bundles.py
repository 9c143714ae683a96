"""Apps on their way in: checked here, packed, and sent as one object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupiter_agent.cli.ctl import intake
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.errors import UsageError

if TYPE_CHECKING:
    from jupiter_agent.core.app import AppSpec


def pack(app: Path) -> tuple[AppSpec, bytes]:
    """The app and its bundle; UsageError, with file and line, for an app that would be refused."""
    if not app.is_dir():
        raise UsageError(f"{app}: no such folder", "APP is the folder with app_config.yaml or configuration.txt")
    from jupiter_agent.adapters.bundle import check_folder, make_bundle

    spec = check_folder(app)
    bundle = make_bundle(app)
    with bundle.file:
        return spec, bundle.file.read()


def send(session: Session, bundle: bytes) -> dict[str, Any]:
    """Upload it; how `submit` and `plan` name it."""
    blob = intake.blob_fields(session.client, bundle)
    return {"bundle": blob["sha256"], "size": blob["size"]}
