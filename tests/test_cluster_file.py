"""ray_cluster.yaml against the schema of Ray itself."""

from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parent.parent / "ray_cluster.yaml"


def test_the_launcher_takes_the_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"
    assert prepared["cluster_name"] == "plait"


def test_the_cloud_blocks_are_yaml_once_uncommented():
    text = FILE.read_text()
    for cloud in ("# AWS:", "# Google Cloud:"):
        block = text.split(cloud)[1].split("\n#\n")[0]
        lines = [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]
        parsed = yaml.safe_load("\n".join(lines))
        assert {"provider", "available_node_types", "head_node_type"} <= set(parsed)
        assert parsed["head_node_type"] in parsed["available_node_types"]
