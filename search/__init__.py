"""Searches and the spaces they draw from: pure, seeded, resumed by replay."""
