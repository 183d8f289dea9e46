"""What the build of an editable install does first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Links(BuildHookInterface[BuilderConfig]):
    """Makes the links to the sources where there are none: Hatch leaves links to folders out of an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the signature of the hook
        """Make missing links, for an editable install."""
        for name in ("gateway", "protocol") if version == "editable" else ():
            link = Path(self.root, "scripts", "package", "deltawire", name)
            if not link.exists():
                link.symlink_to(Path("..", "..", "..", name))
