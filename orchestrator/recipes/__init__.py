"""One recipe a method: wires search, models and study, and owns the figures."""
