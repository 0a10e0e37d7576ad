"""Reports: figures as inline SVG and one self-contained HTML page a run."""
