"""Where outcomes came from: counted by every run, added over the studies of one."""

from dataclasses import dataclass


@dataclass
class Counts:
    """Where outcomes came from."""

    paid: int = 0
    found: int = 0
    failed: int = 0
    lost: int = 0
    repeated: int = 0

    def add(self, more: "Counts") -> None:
        """Count what another study or run has counted too."""
        for name, value in vars(more).items():
            setattr(self, name, getattr(self, name) + value)
