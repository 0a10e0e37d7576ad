"""The orchestrator: command line, recipes, and the engine that pays for outcomes once."""
