"""Models: sources, layered decoder, path executor, evaluator, host. Knows neither searches nor studies."""
