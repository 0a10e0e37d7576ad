"""What kind of file system a folder lies on: SQLite's locks cannot be trusted on a network."""

import os
from pathlib import Path

NETWORK = ("nfs", "cifs", "smb", "sshfs", "lustre", "ceph", "gluster", "afs", "beegfs", "gpfs")


def network_file_system(folder: Path, table: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the network file system that holds `folder`; None where it is local or not known."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return None  # not Linux: nothing to read it from
    real, best, kind = os.path.realpath(folder), "", ""
    for line in lines:
        _, point, fstype, *_ = line.split()
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fstype
    return kind if any(word in kind for word in NETWORK) else None
