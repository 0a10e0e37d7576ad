"""Language-model agents; to come with the judges and the agent teams."""
